#include "server/store/migrate.h"

#include <utility>

#include "server/store/data_folder.h"
#include "server/store/rocksdb_store.h"

namespace gradtap::server {

absl::StatusOr<MigrateResult> MigrateFolder(
    const std::string& dir,
    const std::function<void(std::uint64_t rows_left)>& progress) {
  MigrateResult result;
  {
    // Opening to write would make a folder that is not there.
    const auto folder = DataFolder::OpenToRead(dir, &result.from_format);
    if (!folder.ok()) return folder.status();
  }
  StoreOptions options;
  options.data_dir = dir;
  options.seal = false;
  const auto store = RocksdbStore::Open(options, nullptr);
  if (!store.ok()) return store.status();
  const absl::Status sealed = (*store)->SealAll(progress);
  if (!sealed.ok()) return sealed;
  result.to_format = (*store)->format_version();
  const StoreCounters counters = (*store)->counters();
  result.sealed_rows = counters.sealed_rows;
  result.sealed_windows = counters.sealed_windows;
  return result;
}

}  // namespace gradtap::server
