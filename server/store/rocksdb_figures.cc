// What RocksdbStore says of itself.

#include <algorithm>
#include <chrono>
#include <utility>

#include "server/store/rocksdb_store.h"

namespace gradtap::server {
namespace {

std::uint64_t Property(const Engine& engine,
                       rocksdb::ColumnFamilyHandle* family,
                       const std::string& name) {
  std::uint64_t value = 0;
  return engine.db()->GetIntProperty(family, name, &value) ? value : 0;
}

}  // namespace

StoreCounters RocksdbStore::counters() const {
  MutexLock lock(mu_);
  return counters_;
}

std::uint64_t RocksdbStore::disk_bytes() const { return folder_->DiskBytes(); }

StoreFigures RocksdbStore::figures() const {
  using rocksdb::DB;
  const auto now = std::chrono::steady_clock::now();
  StoreFigures figures;
  figures.commit = commit_latency_.Figures(now);
  figures.sync = sync_latency_.Figures(now);
  std::shared_ptr<Engine> open;
  {
    MutexLock lock(mu_);
    open = engine_;
    figures.sealing = SealingFiguresLocked();
    figures.sealing.trouble = sealing_trouble_;
    if (sealing_trouble_.what.empty() && !set_aside_.empty()) {
      figures.sealing.trouble = set_aside_.begin()->second;
    }
    figures.trouble = trouble_;
  }
  figures.sealing.windows_per_second = sealed_windows_.PerSecond(now);
  figures.sealing.values_per_second = sealed_values_.PerSecond(now);
  figures.sealing.window = window_latency_.Figures(now);
  if (open == nullptr) return figures;
  for (rocksdb::ColumnFamilyHandle* family : open->families()) {
    FamilyFigures of;
    of.name = Engine::NameOf(family);
    of.disk_bytes = Property(*open, family, DB::Properties::kLiveSstFilesSize);
    of.memory_bytes =
        Property(*open, family, DB::Properties::kCurSizeAllMemTables);
    figures.compaction_pending_bytes += Property(
        *open, family, DB::Properties::kEstimatePendingCompactionBytes);
    figures.families.push_back(std::move(of));
  }
  figures.writes_stopped =
      Property(*open, open->catalog(), DB::Properties::kIsWriteStopped) != 0;
  return figures;
}

SealingFigures RocksdbStore::SealingFiguresLocked() const {
  const auto now = std::chrono::steady_clock::now();
  SealingFigures figures;
  for (const auto& [key, waiting] : to_seal_) {
    const ToSeal branch = ToSealLocked(key);
    figures.rows_waiting += branch.rows;
    if (!IsDue(branch, waiting)) continue;
    ++figures.branches_due;
    const std::uint64_t stay =
        branch.ended ? 0 : std::min(branch.rows, kTailRows);
    figures.rows_due += branch.rows - stay;
    if (waiting.due_since.has_value()) {
      const std::chrono::nanoseconds due = now - *waiting.due_since;
      figures.due_for_ns =
          std::max<std::int64_t>(figures.due_for_ns, due.count());
    }
  }
  return figures;
}

void RocksdbStore::NoteTrouble(const absl::Status& status, Trouble* trouble) {
  if (status.ok()) {
    *trouble = {};
    return;
  }
  if (trouble->what.empty()) {
    trouble->since_unix_ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(
            std::chrono::system_clock::now().time_since_epoch())
            .count();
  }
  trouble->what = std::string(status.message());
}

}  // namespace gradtap::server
