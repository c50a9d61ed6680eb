// A copy of the folder, and its compaction, while it is in use.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "rocksdb/options.h"
#include "rocksdb/utilities/checkpoint.h"
#include "server/store/rocksdb_store.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

// Beyond what is rewritten: ingest goes on.
constexpr std::uint64_t kSpareBytes = std::uint64_t{64} << 20;

absl::Status CannotWrite(const std::string& path, int error) {
  const std::string text = absl::StrCat("backup: cannot write ", path, ": ",
                                        std::generic_category().message(error));
  if (error == ENOSPC || error == EDQUOT) {
    return absl::ResourceExhaustedError(text);
  }
  return absl::PermissionDeniedError(text);
}

absl::Status SyncFolder(const std::string& dir) {
  const int fd = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return CannotWrite(dir, errno);
  const int rc = ::fsync(fd);
  const int error = errno;
  ::close(fd);
  return rc == 0 ? absl::OkStatus() : CannotWrite(dir, error);
}

std::uint64_t BytesOf(const std::string& dir) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (fs::recursive_directory_iterator it(dir, error), end;
       !error && it != end; it.increment(error)) {
    std::error_code unreadable;
    const std::uint64_t size = it->file_size(unreadable);
    if (!unreadable && it->is_regular_file()) bytes += size;
  }
  return bytes;
}

// A folder that is being filled; it goes unless Keep() has given it its name.
class PartialFolder {
 public:
  explicit PartialFolder(const std::string& dir)
      : dir_(dir), parent_(fs::path(dir).parent_path().string()) {
    path_ = absl::StrCat(parent_, "/.", fs::path(dir).filename().string(),
                         ".partial");
  }
  ~PartialFolder() {
    std::error_code ignored;
    if (made_) fs::remove_all(path_, ignored);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;

  const std::string& path() const { return path_; }

  absl::Status Make() {
    std::error_code error;
    if (fs::exists(fs::symlink_status(dir_, error))) return Exists();
    if (fs::create_directories(parent_, error) && !error) {
      ::chmod(parent_.c_str(), 0700);
    }
    if (error) return CannotWrite(parent_, error.value());
    fs::remove_all(path_, error);  // Of a collector that was killed.
    if (::mkdir(path_.c_str(), 0700) != 0) return CannotWrite(path_, errno);
    made_ = true;
    return absl::OkStatus();
  }

  absl::Status Keep() {
    if (const absl::Status s = SyncFolder(path_); !s.ok()) return s;
    // It replaces nothing but an empty folder.
    if (::rename(path_.c_str(), dir_.c_str()) != 0) {
      if (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR) {
        return Exists();
      }
      return CannotWrite(dir_, errno);
    }
    made_ = false;
    return SyncFolder(parent_);
  }

 private:
  absl::Status Exists() const {
    return absl::AlreadyExistsError(absl::StrCat(
        "backup: there is already a ", dir_, "; choose another name"));
  }

  const std::string dir_;
  const std::string parent_;
  std::string path_;
  bool made_ = false;
};

std::uint64_t TableBytes(const Engine& engine,
                         rocksdb::ColumnFamilyHandle* family) {
  std::uint64_t bytes = 0;
  engine.db()->GetIntProperty(
      family, rocksdb::DB::Properties::kLiveSstFilesSize, &bytes);
  return bytes;
}

absl::Status CheckRoom(const Engine& engine, const CompactionResult& result) {
  std::uint64_t largest = 0;
  for (const CompactionResult::Family& family : result.families) {
    largest = std::max(largest, family.bytes_before);
  }
  std::uint64_t free_bytes = 0;
  const std::uint64_t wanted = largest + kSpareBytes;
  if (!engine.db()
           ->GetEnv()
           ->GetFreeSpace(engine.db()->GetName(), &free_bytes)
           .ok() ||
      free_bytes >= wanted) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "compaction rewrites ", largest >> 20, " MiB and wants ", wanted >> 20,
      " MiB free for it; ", free_bytes >> 20, " MiB are: delete runs first"));
}

}  // namespace

absl::StatusOr<BackupResult> RocksdbStore::Backup(
    const std::string& dir, const std::atomic<bool>& cancelled) {
  if (!fs::path(dir).is_absolute() || !fs::path(dir).has_filename()) {
    return absl::InvalidArgumentError(
        absl::StrCat("backup: ", dir, " is not an absolute path"));
  }
  BackupResult result;
  std::shared_ptr<Engine> open;
  {
    MutexLock lock(mu_);
    open = engine_;
    for (const auto& [name, run] : catalog_.runs) {
      ++result.runs;
      for (const StreamEntry& stream : run.entry->streams) {
        for (const Branch& branch : stream.branches) {
          result.rows += branch.rows;
        }
      }
    }
  }
  if (open == nullptr) {
    return absl::UnavailableError("data folder: it is being opened again");
  }
  PartialFolder partial(dir);
  if (const absl::Status s = partial.Make(); !s.ok()) return s;
  // All that is in memory goes into tables first, so that next to nothing has
  // to be copied; what is written meanwhile is in logs, of which it takes a
  // beginning.
  rocksdb::Checkpoint* made = nullptr;
  rocksdb::Status status = rocksdb::Checkpoint::Create(open->db(), &made);
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(made);
  if (status.ok()) {
    status = checkpoint->CreateCheckpoint(partial.path() + "/db");
  }
  if (!status.ok()) return ToStatus(status, "backup: cannot copy the database");
  if (const absl::Status s = WriteFormat(partial.path()); !s.ok()) return s;
  if (cancelled) return absl::CancelledError("the backup was cancelled");
  if (const absl::Status s = partial.Keep(); !s.ok()) return s;
  result.bytes = BytesOf(dir);
  return result;
}

absl::StatusOr<CompactionResult> RocksdbStore::Compact(
    std::atomic<bool>* cancelled) {
  const std::shared_ptr<Engine> open = engine();
  if (open == nullptr) {
    return absl::UnavailableError("data folder: it is being opened again");
  }
  CompactionResult result;
  for (rocksdb::ColumnFamilyHandle* family : open->families()) {
    result.families.push_back(
        {Engine::NameOf(family), TableBytes(*open, family), 0});
  }
  if (const absl::Status s = CheckRoom(*open, result); !s.ok()) return s;
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.bottommost_level_compaction =
      rocksdb::BottommostLevelCompaction::kForceOptimized;
  options.canceled = cancelled;
  for (std::size_t i = 0; i < result.families.size(); ++i) {
    rocksdb::ColumnFamilyHandle* family = open->families()[i];
    const rocksdb::Status status =
        open->db()->CompactRange(options, family, nullptr, nullptr);
    if (*cancelled) return absl::CancelledError("compaction was cancelled");
    if (!status.ok()) return ToStatus(status, "cannot compact");
    result.families[i].bytes_after = TableBytes(*open, family);
  }
  return result;
}

}  // namespace gradtap::server
