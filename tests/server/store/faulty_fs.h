// A file system that can be full, fail, or lose power, for RocksDB.
//
// Losing power: from the chosen operation on everything fails; when the
// database has been closed, LosePower() cuts every file to what had been
// synced, and removes files whose folder had not been synced since they were
// made.

#ifndef GRADTAP_TESTS_SERVER_STORE_FAULTY_FS_H_
#define GRADTAP_TESTS_SERVER_STORE_FAULTY_FS_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <utility>

#include "rocksdb/env.h"
#include "rocksdb/file_system.h"

namespace gradtap::server::testing {

class FaultyFs : public rocksdb::FileSystemWrapper {
 public:
  FaultyFs() : rocksdb::FileSystemWrapper(rocksdb::FileSystem::Default()) {}

  const char* Name() const override { return "FaultyFs"; }

  // No write finds room; each leaves half of its bytes behind.
  void SetFull(bool full) {
    std::lock_guard<std::mutex> lock(mu_);
    full_ = full;
  }
  // The next `n` syncs of files fail, as a broken disk does.
  void FailSyncs(int n) {
    std::lock_guard<std::mutex> lock(mu_);
    failing_syncs_ = n;
  }
  // Operation number `n` (from 1) and all after it fail; 0: none does.
  void FailFromOperation(std::uint64_t n) {
    std::lock_guard<std::mutex> lock(mu_);
    fail_from_ = n;
  }
  std::uint64_t operations() const {
    std::lock_guard<std::mutex> lock(mu_);
    return operations_;
  }

  // The database is closed. What is left is what a power failure leaves.
  void LosePower() {
    std::lock_guard<std::mutex> lock(mu_);
    for (const auto& [name, state] : files_) {
      std::error_code ignored;
      if (!state.in_synced_folder) {
        std::filesystem::remove(name, ignored);
      } else if (std::filesystem::exists(name, ignored)) {
        const auto size = std::filesystem::file_size(name, ignored);
        if (size > state.synced) {
          std::filesystem::resize_file(name, state.synced, ignored);
        }
      }
    }
    files_.clear();
  }

  rocksdb::IOStatus NewWritableFile(
      const std::string& name, const rocksdb::FileOptions& options,
      std::unique_ptr<rocksdb::FSWritableFile>* file,
      rocksdb::IODebugContext* debug) override {
    if (auto s = Begin(); !s.ok()) return s;
    auto s =
        rocksdb::FileSystemWrapper::NewWritableFile(name, options, file, debug);
    if (!s.ok()) return s;
    {
      std::lock_guard<std::mutex> lock(mu_);
      files_[name] = {};
    }
    *file = std::make_unique<File>(this, name, std::move(*file));
    return s;
  }

  rocksdb::IOStatus RenameFile(const std::string& from, const std::string& to,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (auto s = Begin(); !s.ok()) return s;
    auto s = rocksdb::FileSystemWrapper::RenameFile(from, to, options, debug);
    std::lock_guard<std::mutex> lock(mu_);
    if (const auto it = files_.find(from); s.ok() && it != files_.end()) {
      files_[to] = it->second;
      files_.erase(it);
    }
    // A journal keeps a folder's changes in order: with this one, all before.
    if (s.ok()) FolderSyncedLocked(std::filesystem::path(to).parent_path());
    return s;
  }

  rocksdb::IOStatus DeleteFile(const std::string& name,
                               const rocksdb::IOOptions& options,
                               rocksdb::IODebugContext* debug) override {
    if (auto s = Begin(); !s.ok()) return s;
    {
      std::lock_guard<std::mutex> lock(mu_);
      files_.erase(name);
    }
    return rocksdb::FileSystemWrapper::DeleteFile(name, options, debug);
  }

  rocksdb::IOStatus GetFreeSpace(const std::string& path,
                                 const rocksdb::IOOptions& options,
                                 std::uint64_t* free_bytes,
                                 rocksdb::IODebugContext* debug) override {
    auto s = rocksdb::FileSystemWrapper::GetFreeSpace(path, options, free_bytes,
                                                      debug);
    std::lock_guard<std::mutex> lock(mu_);
    if (full_ && free_space_known_) *free_bytes = 0;
    return s;
  }
  // A full disk that says it has room, as a quota does.
  void HideFullness() {
    std::lock_guard<std::mutex> lock(mu_);
    free_space_known_ = false;
  }

  rocksdb::IOStatus NewDirectory(
      const std::string& name, const rocksdb::IOOptions& options,
      std::unique_ptr<rocksdb::FSDirectory>* directory,
      rocksdb::IODebugContext* debug) override {
    auto s = rocksdb::FileSystemWrapper::NewDirectory(name, options, directory,
                                                      debug);
    if (s.ok()) {
      *directory =
          std::make_unique<Directory>(this, name, std::move(*directory));
    }
    return s;
  }

 private:
  struct FileState {
    std::uint64_t written = 0;
    std::uint64_t synced = 0;
    bool in_synced_folder = false;
  };

  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(FaultyFs* fs, std::string name,
         std::unique_ptr<rocksdb::FSWritableFile> file)
        : rocksdb::FSWritableFileOwnerWrapper(std::move(file)),
          fs_(fs),
          name_(std::move(name)) {}

    using rocksdb::FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data,
                             const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      if (auto s = fs_->Begin(); !s.ok()) {
        if (s.IsNoSpace()) {
          const rocksdb::Slice half(data.data(), data.size() / 2);
          (void)rocksdb::FSWritableFileOwnerWrapper::Append(half, options,
                                                            debug);
        }
        return s;
      }
      auto s =
          rocksdb::FSWritableFileOwnerWrapper::Append(data, options, debug);
      std::lock_guard<std::mutex> lock(fs_->mu_);
      if (s.ok()) fs_->files_[name_].written += data.size();
      return s;
    }
    // Nothing is really synced: what LosePower() leaves is decided here.
    rocksdb::IOStatus Sync(const rocksdb::IOOptions&,
                           rocksdb::IODebugContext*) override {
      return Synced();
    }
    rocksdb::IOStatus Fsync(const rocksdb::IOOptions&,
                            rocksdb::IODebugContext*) override {
      return Synced();
    }

   private:
    rocksdb::IOStatus Synced() {
      if (auto s = fs_->Begin(); !s.ok()) return s;
      std::lock_guard<std::mutex> lock(fs_->mu_);
      if (fs_->failing_syncs_ > 0) {
        --fs_->failing_syncs_;
        return rocksdb::IOStatus::IOError("injected: sync failed");
      }
      FileState& state = fs_->files_[name_];
      state.synced = state.written;
      return rocksdb::IOStatus::OK();
    }

    FaultyFs* const fs_;
    const std::string name_;
  };

  class Directory : public rocksdb::FSDirectoryWrapper {
   public:
    Directory(FaultyFs* fs, std::string name,
              std::unique_ptr<rocksdb::FSDirectory> directory)
        : rocksdb::FSDirectoryWrapper(std::move(directory)),
          fs_(fs),
          name_(std::move(name)) {}

    rocksdb::IOStatus Fsync(const rocksdb::IOOptions&,
                            rocksdb::IODebugContext*) override {
      return Synced();
    }
    rocksdb::IOStatus FsyncWithDirOptions(
        const rocksdb::IOOptions&, rocksdb::IODebugContext*,
        const rocksdb::DirFsyncOptions&) override {
      return Synced();
    }

   private:
    rocksdb::IOStatus Synced() {
      if (auto s = fs_->Begin(); !s.ok()) return s;
      fs_->FolderSynced(name_);
      return rocksdb::IOStatus::OK();
    }

    FaultyFs* const fs_;
    const std::string name_;
  };

  rocksdb::IOStatus Begin() {
    std::lock_guard<std::mutex> lock(mu_);
    ++operations_;
    if (fail_from_ != 0 && operations_ >= fail_from_) {
      return rocksdb::IOStatus::IOError("injected: no power");
    }
    if (full_) {
      auto s = rocksdb::IOStatus::NoSpace("injected: disk full");
      s.SetRetryable(true);  // As the real one says.
      return s;
    }
    return rocksdb::IOStatus::OK();
  }

  void FolderSynced(const std::string& folder) {
    std::lock_guard<std::mutex> lock(mu_);
    FolderSyncedLocked(folder);
  }
  void FolderSyncedLocked(const std::filesystem::path& folder) {
    for (auto& [name, state] : files_) {
      if (std::filesystem::path(name).parent_path() == folder) {
        state.in_synced_folder = true;
      }
    }
  }

  mutable std::mutex mu_;
  std::map<std::string, FileState> files_;
  bool full_ = false;
  bool free_space_known_ = true;
  int failing_syncs_ = 0;
  std::uint64_t fail_from_ = 0;
  std::uint64_t operations_ = 0;
};

// A RocksDB environment over a FaultyFs; both live as long as it.
class FaultyEnv {
 public:
  FaultyEnv()
      : fs_(std::make_shared<FaultyFs>()),
        composite_(rocksdb::NewCompositeEnv(fs_)),
        env_(std::make_unique<Impatient>(composite_.get(), fs_)) {}
  FaultyFs& fs() { return *fs_; }
  rocksdb::Env* env() { return env_.get(); }

 private:
  // RocksDB sleeps a second after a flush that failed, lest it tries again at
  // once; here nothing is tried again.
  class Impatient : public rocksdb::EnvWrapper {
   public:
    Impatient(rocksdb::Env* target, std::shared_ptr<FaultyFs> fs)
        : rocksdb::EnvWrapper(target) {
      file_system_ = std::move(fs);
    }
    void SleepForMicroseconds(int) override {}
  };

  std::shared_ptr<FaultyFs> fs_;
  std::unique_ptr<rocksdb::Env> composite_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_STORE_FAULTY_FS_H_
