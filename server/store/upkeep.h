// What copying, compacting and shrinking a data folder in use have to say.
//
// Layer: server/store. Plain data.

#ifndef GRADTAP_SERVER_STORE_UPKEEP_H_
#define GRADTAP_SERVER_STORE_UPKEEP_H_

#include <cstdint>
#include <string>
#include <vector>

namespace gradtap::server {

struct BackupResult {
  std::uint64_t bytes = 0;  // Of its files.
  std::uint32_t runs = 0;
  std::uint64_t rows = 0;  // At least so many are in it.
};

struct CompactionResult {
  struct Family {
    std::string name;
    std::uint64_t bytes_before = 0;  // Of its tables.
    std::uint64_t bytes_after = 0;
  };
  std::vector<Family> families;
};

// What Store::ShrinkOldest() has done.
struct ShrunkPart {
  std::string run;
  std::int64_t end_step = 0;  // Of the branch, below which there are no values.
  std::uint64_t steps = 0;    // That had statistics.
  std::uint64_t bytes = 0;    // About so many, on disk.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_UPKEEP_H_
