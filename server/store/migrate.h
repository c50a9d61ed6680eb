// Brings a data folder of an older format to the newest, all of it.
//
// Layer: server/store. One thread; no collector may have the folder open.

#ifndef GRADTAP_SERVER_STORE_MIGRATE_H_
#define GRADTAP_SERVER_STORE_MIGRATE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace gradtap::server {

struct MigrateResult {
  std::uint32_t from_format = 0;
  std::uint32_t to_format = 0;
  std::uint64_t sealed_rows = 0;
  std::uint64_t sealed_windows = 0;
};

// What a collector does in the background when it has opened an older folder,
// to its end: all rows become windows. A second time finds nothing to do; one
// that was interrupted goes on. `progress` is called with how many rows are
// left. kNotFound: there is no data folder; kFailedPrecondition: it is of a
// newer format, or a collector has it open; kDataLoss: some rows cannot be
// read, and are left as they are.
absl::StatusOr<MigrateResult> MigrateFolder(
    const std::string& dir,
    const std::function<void(std::uint64_t rows_left)>& progress);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_MIGRATE_H_
