#include "server/store/engine.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdarg>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "rocksdb/cache.h"
#include "rocksdb/convenience.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/listener.h"
#include "rocksdb/table.h"
#include "server/store/engine_log.h"
#include "server/store/keys.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::uint64_t kSpareBytes = 16 * kMiB;
// Of each family, up to twice this: one fills while another is written. Rows,
// which are most of what is written, fill theirs first, and all families go to
// disk together. More than this makes no commit faster.
constexpr std::size_t kMemtableBytes = 6 * kMiB;
constexpr std::size_t kRollupTableBytes = 16 * kMiB;
// Of level 0: so many are read about as fast as one.
constexpr std::size_t kFewTables = 4;
constexpr std::size_t kBlockCacheBytes = 32 * kMiB;
constexpr int kLeastOpenFiles = 64;
constexpr int kMostOpenFiles = 1024;

bool Supported(rocksdb::CompressionType type) {
  const auto types = rocksdb::GetSupportedCompressions();
  return std::find(types.begin(), types.end(), type) != types.end();
}

// Recovery is the next commit's, which opens the database again, not a thread
// of RocksDB's that might run between a failed write and the answer to it.
class NoRecoveryOfItsOwn : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
};

// Sessions and readers need files, too: a quarter of what the process may have
// open. A run of a million steps has some 300 tables; one that is not open
// costs a query a millisecond, one that is takes some ten kilobytes.
int MaxOpenFiles() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return kLeastOpenFiles;
  return static_cast<int>(
      std::clamp<rlim_t>(limit.rlim_cur / 4, kLeastOpenFiles, kMostOpenFiles));
}

rocksdb::DBOptions MakeDbOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  // A torn tail is what a crash leaves; what was synced stands before it.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  // Families go to disk together: after a flush that failed half-way (disk
  // full), none is ahead of a log that ends in a torn record; and rows go only
  // with the window that they became, which no log has.
  options.atomic_flush = true;
  options.avoid_flush_during_shutdown = true;  // Flush() does, where it can.
  // A family that is seldom written must not keep every log alive.
  options.max_total_wal_size = 128 * kMiB;
  options.max_background_jobs = 2;
  // Else a merge's file goes to the disk at once when it is done, and the fsync
  // of a flush, which commits wait for, stands in line behind it.
  options.bytes_per_sync = kMiB;
  options.max_open_files = MaxOpenFiles();
  options.skip_stats_update_on_db_open = true;
  options.max_bgerror_resume_count = 0;
  options.listeners.push_back(std::make_shared<NoRecoveryOfItsOwn>());
  return options;
}

rocksdb::ColumnFamilyOptions MakeFamilyOptions(
    bool large_values, const std::shared_ptr<rocksdb::Cache>& cache) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = kMemtableBytes;
  options.level_compaction_dynamic_level_bytes = true;
  // Packed floats shrink by an eighth at best, and upper levels are rewritten
  // soon: no time is spent there. The last level holds nine tenths of the
  // bytes and is written once: zstd at its fastest useful level.
  options.compression = large_values || !Supported(rocksdb::kLZ4Compression)
                            ? rocksdb::kNoCompression
                            : rocksdb::kLZ4Compression;
  if (Supported(rocksdb::kZSTD)) {
    options.bottommost_compression = rocksdb::kZSTD;
    options.bottommost_compression_opts.level = 1;
    options.bottommost_compression_opts.enabled = true;
  }
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = cache;
  table.block_size = 32 * 1024;  // Of small values, too: an eighth smaller.
  table.format_version = 5;
  // Else each block of a scan costs a system call, though it be in the cache.
  table.max_auto_readahead_size = 0;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10, false));
  table.cache_index_and_filter_blocks = true;
  // Keys differ at their ends: a third of the bytes. Those of all files have to
  // stay in the cache, or each look-up reads its file's anew; with 1, RocksDB's
  // own, they outgrow their half of it with some 10 GB of tiles.
  table.index_block_restart_interval = 16;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

// Files that gather in level 0 before they are merged into the next one. Those
// of a flush are small where another family has filled its memtable: with few,
// each merge would write that level anew for next to nothing.
void GatherInLevel0(int files, rocksdb::ColumnFamilyOptions* options) {
  options->level0_file_num_compaction_trigger = files;
  options->level0_slowdown_writes_trigger = std::max(3 * files / 2, 48);
  options->level0_stop_writes_trigger = std::max(2 * files, 64);
}

// A run's keys mostly grow, kind by kind. Files are small, and so is the level
// that all kinds are merged into together, so that what is old stays as it is.
rocksdb::ColumnFamilyOptions MakeSmallOptions(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  auto options = MakeFamilyOptions(false, cache);
  options.target_file_size_base = kMiB;
  options.max_bytes_for_level_base = 4 * kMiB;
  GatherInLevel0(16, &options);
  return options;
}

// Most rows become windows while they are in level 0. The range that deletes
// them spans all others: a merge rewrites every row that is still to be sealed,
// into the last level, where it stays until its window is sealed: it is not
// worth compressing.
rocksdb::ColumnFamilyOptions MakeRowOptions(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  auto options = MakeFamilyOptions(true, cache);
  options.bottommost_compression = rocksdb::kNoCompression;
  options.max_bytes_for_level_base = 1024 * kMiB;
  GatherInLevel0(64, &options);
  return options;
}

// Tiles are compressed already. Those of a stream come in the order of their
// keys, so that files mostly move down as they are, and a key is looked up in
// the one file of level 0 that may have it. So no commit is slowed because they
// wait there for another family's merge.
rocksdb::ColumnFamilyOptions MakeTileOptions(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  auto options = MakeFamilyOptions(true, cache);
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kNoCompression;
  GatherInLevel0(4, &options);
  return options;
}

// Each flush has some of every series, so that a merge rewrites all of the next
// level: a small one, seldom, and after chapters have taken the place of
// windows. What the last level costs is the step in size before it, for each
// byte that comes there: of a run of a million steps, with 4 half of what it is
// with 10, and no more at its end than in its middle. Of roll-ups that have
// been replaced a quarter more may stand until a run has ended.
rocksdb::ColumnFamilyOptions MakeRollupOptions(
    const std::shared_ptr<rocksdb::Cache>& cache) {
  auto options = MakeTileOptions(cache);
  options.target_file_size_base = kRollupTableBytes;
  options.max_bytes_for_level_base = 32 * kMiB;
  options.max_bytes_for_level_multiplier = 4;
  GatherInLevel0(64, &options);
  return options;
}

// In the order of Engine's accessors.
std::vector<rocksdb::ColumnFamilyDescriptor> MakeFamilies() {
  const auto cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  const auto small = MakeSmallOptions(cache);
  return {{rocksdb::kDefaultColumnFamilyName, small},
          {"rows", MakeRowOptions(cache)},
          {"index", small},
          {"histograms", MakeFamilyOptions(true, cache)},
          {"windows", small},
          {"tiles", MakeTileOptions(cache)},
          {"rollups", MakeRollupOptions(cache)}};
}

class SilentLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char*, va_list) override {}
};

absl::Status CannotOpen(const std::string& dir, const rocksdb::Status& status) {
  const std::string doing = absl::StrCat("data folder: cannot open ", dir);
  if (absl::StrContains(status.ToString(), "Permission denied")) {
    return absl::PermissionDeniedError(
        absl::StrCat(doing, ": ", status.ToString()));
  }
  return ToStatus(status, doing);
}

}  // namespace

absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing) {
  if (status.ok()) return absl::OkStatus();
  const std::string text =
      absl::StrCat(std::string(doing), ": ", status.ToString());
  if (status.IsNoSpace() || absl::StrContains(text, "Disk quota exceeded")) {
    return absl::ResourceExhaustedError(text);
  }
  if (status.IsNotFound()) return absl::NotFoundError(text);
  if (status.IsCorruption()) return absl::DataLossError(text);
  return absl::UnavailableError(text);
}

absl::StatusOr<std::shared_ptr<Engine>> Engine::Open(const std::string& dir,
                                                     rocksdb::Env* env) {
  std::shared_ptr<Engine> engine(new Engine());
  rocksdb::DB* db = nullptr;
  rocksdb::DBOptions options = MakeDbOptions(env);
  options.info_log = std::make_shared<EngineLog>(dir);
  const rocksdb::Status status =
      rocksdb::DB::Open(options, dir, MakeFamilies(), &engine->families_, &db);
  if (!status.ok()) return CannotOpen(dir, status);
  engine->db_.reset(db);
  return engine;
}

absl::StatusOr<std::shared_ptr<Engine>> Engine::OpenToRead(
    const std::string& dir, bool strict) {
  rocksdb::DBOptions options = MakeDbOptions(nullptr);
  options.create_if_missing = false;
  options.create_missing_column_families = false;
  options.info_log = std::make_shared<SilentLog>();  // Else it makes a file.
  if (strict) {
    options.wal_recovery_mode =
        rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  }
  std::vector<std::string> names;
  rocksdb::Status status =
      rocksdb::DB::ListColumnFamilies(options, dir, &names);
  if (!status.ok()) return CannotOpen(dir, status);
  std::vector<rocksdb::ColumnFamilyDescriptor> present;
  const auto all = MakeFamilies();
  std::vector<bool> is_present;
  for (const rocksdb::ColumnFamilyDescriptor& family : all) {
    is_present.push_back(std::find(names.begin(), names.end(), family.name) !=
                         names.end());
    if (is_present.back()) present.push_back(family);
  }
  std::shared_ptr<Engine> engine(new Engine());
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  status = rocksdb::DB::OpenForReadOnly(options, dir, present, &handles, &db);
  if (!status.ok()) return CannotOpen(dir, status);
  engine->db_.reset(db);
  auto handle = handles.begin();
  for (const bool there : is_present) {
    engine->families_.push_back(there ? *handle++ : nullptr);
  }
  return engine;
}

Engine::~Engine() {
  if (db_ == nullptr) return;
  for (rocksdb::ColumnFamilyHandle* family : families_) {
    if (family == nullptr) continue;
    db_->DestroyColumnFamilyHandle(family).PermitUncheckedError();
  }
  // All that was acknowledged is in a synced log: an error here loses nothing.
  db_->Close().PermitUncheckedError();
}

std::string Engine::NameOf(rocksdb::ColumnFamilyHandle* family) {
  const std::string& name = family->GetName();
  return name == rocksdb::kDefaultColumnFamilyName ? "catalog" : name;
}

rocksdb::Status Engine::Flush() const {
  return db()->Flush(rocksdb::FlushOptions(), families_);
}

void Engine::Reclaim(const KeyRange& range) const {
  // Files go at once, and may have held what a window in memory was made of.
  if (reclaiming_stopped_ || !Flush().ok()) return;
  const rocksdb::Slice from(range.begin), to(range.end);
  rocksdb::DeleteFilesInRange(db(), range.family, &from, &to, false)
      .PermitUncheckedError();
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.canceled = &reclaiming_stopped_;
  options.bottommost_level_compaction =
      rocksdb::BottommostLevelCompaction::kForceOptimized;
  db()->CompactRange(options, range.family, &from, &to).PermitUncheckedError();
}

bool Engine::MergeRollups() const {
  rocksdb::ColumnFamilyMetaData family;
  db()->GetColumnFamilyMetaData(rollups(), &family);
  std::uint64_t base = 0, free_bytes = 0;
  db()->GetIntProperty(rollups(), rocksdb::DB::Properties::kBaseLevel, &base);
  const auto& tables = family.levels[0].files;
  if (reclaiming_stopped_ || tables.size() < kFewTables || base == 0 ||
      base >= family.levels.size()) {
    return true;
  }
  const std::uint64_t written =
      family.levels[0].size + family.levels[base].size;
  if (db()->GetEnv()->GetFreeSpace(db()->GetName(), &free_bytes).ok() &&
      free_bytes < written + kSpareBytes) {
    return true;
  }
  std::vector<std::string> names;
  for (const auto& table : tables) names.push_back(table.relative_filename);
  rocksdb::CompactionOptions options;
  options.compression = rocksdb::kDisableCompressionOption;  // The family's.
  options.output_file_size_limit = kRollupTableBytes;
  return !db()->CompactFiles(options, rollups(), names, static_cast<int>(base))
              .IsAborted();
}

std::uint64_t Engine::ApproximateBytes(
    const std::vector<KeyRange>& ranges) const {
  rocksdb::SizeApproximationOptions options;
  options.include_memtables = true;
  options.include_files = true;
  std::uint64_t total = 0;
  for (const KeyRange& range : ranges) {
    const rocksdb::Range of(range.begin, range.end);
    std::uint64_t bytes = 0;
    // An estimate that fails is none.
    db_->GetApproximateSizes(options, range.family, &of, 1, &bytes)
        .PermitUncheckedError();
    total += bytes;
  }
  return total;
}

absl::Status Engine::Probe() const {
  constexpr std::string_view kDoing = "data folder: cannot write again yet";
  std::uint64_t in_memory = 0;
  db_->GetAggregatedIntProperty(rocksdb::DB::Properties::kSizeAllMemTables,
                                &in_memory);
  rocksdb::Env* const env = db_->GetEnv();
  const std::string path = db_->GetName() + "/../PROBE";
  std::uint64_t free_bytes = 0;
  // Opening again writes what was in memory.
  const std::uint64_t wanted = in_memory + kSpareBytes;
  if (env->GetFreeSpace(db_->GetName(), &free_bytes).ok() &&
      free_bytes < wanted) {
    return absl::ResourceExhaustedError(
        absl::StrCat(std::string(kDoing), ": ", free_bytes >> 20,
                     " MiB are free and ", wanted >> 20, " are needed"));
  }
  const std::string data(64 * 1024, 'x');
  auto s = rocksdb::WriteStringToFile(env, data, path, /*should_sync=*/true);
  env->DeleteFile(path).PermitUncheckedError();
  return ToStatus(s, kDoing);
}

}  // namespace gradtap::server
