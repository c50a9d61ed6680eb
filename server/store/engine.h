// An open RocksDB database with its column families: options, opening, closing
// and the translation of its errors. The only place that sets an option.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_ENGINE_H_
#define GRADTAP_SERVER_STORE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "rocksdb/db.h"
#include "rocksdb/options.h"

namespace gradtap::server {

// kResourceExhausted: no space or quota; kDataLoss: corruption; kUnavailable:
// any other failure of the disk. `doing` begins the message.
absl::Status ToStatus(const rocksdb::Status& status, std::string_view doing);

inline std::string_view View(const rocksdb::Slice& slice) {
  return {slice.data(), slice.size()};
}
inline rocksdb::Slice Slice(std::string_view view) {
  return {view.data(), view.size()};
}

struct KeyRange {  // [begin, end)
  rocksdb::ColumnFamilyHandle* family = nullptr;
  std::string begin, end;
};

// Thread-safe as RocksDB is. Closing waits for background work; every iterator
// must be gone by then.
class Engine {
 public:
  // `env` is the machine's if null, and must outlive the engine.
  static absl::StatusOr<std::shared_ptr<Engine>> Open(const std::string& dir,
                                                      rocksdb::Env* env);
  // To read alone: not a byte of the folder is changed, a log is read into
  // memory. Families that an older format does not have are null. `strict`: a
  // log that is damaged before its end is kDataLoss, and else cut off there, as
  // Open() does.
  static absl::StatusOr<std::shared_ptr<Engine>> OpenToRead(
      const std::string& dir, bool strict);
  ~Engine();

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  rocksdb::DB* db() const { return db_.get(); }
  rocksdb::ColumnFamilyHandle* catalog() const { return families_[0]; }
  rocksdb::ColumnFamilyHandle* rows() const { return families_[1]; }
  rocksdb::ColumnFamilyHandle* index() const { return families_[2]; }
  rocksdb::ColumnFamilyHandle* histograms() const { return families_[3]; }
  rocksdb::ColumnFamilyHandle* windows() const { return families_[4]; }
  rocksdb::ColumnFamilyHandle* tiles() const { return families_[5]; }
  rocksdb::ColumnFamilyHandle* rollups() const { return families_[6]; }

  const std::vector<rocksdb::ColumnFamilyHandle*>& families() const {
    return families_;
  }

  // "catalog" for the first of them.
  static std::string NameOf(rocksdb::ColumnFamilyHandle* family);

  // All that is in memory goes to tables, synced: windows are in no log.
  rocksdb::Status Flush() const;

  // Frees the disk space of a range that has just been deleted: first whole
  // files, then what shares files with others. If it fails, compaction does it
  // later.
  void Reclaim(const KeyRange& range) const;
  // Roll-ups gather in many small tables, each of which a series is read from:
  // if they are more than a few, they are merged with the next level, 32 MiB at
  // most. False: RocksDB merges some of them just now; ask again. If it fails,
  // RocksDB does it later.
  bool MergeRollups() const;
  // Lets a Reclaim() that is under way return soon, and later ones do nothing:
  // somebody wants to open the database again.
  void StopReclaiming() { reclaiming_stopped_ = true; }

  // About what stands in ranges, in tables and in memory. Cheap.
  std::uint64_t ApproximateBytes(const std::vector<KeyRange>& ranges) const;

  // Brackets the taking of tiles that readers may be about to read (see
  // RocksdbStore::ShrinkOldest()). One thread at a time.
  void BeginTakingValues() { ++taken_; }
  void EndTakingValues() { ++taken_; }
  // What a reader keeps from before it learned which windows have values, and
  // shows when it misses a tile: whether it may have been taken since.
  std::uint64_t taken() const { return taken_; }
  bool MayHaveBeenTaken(std::uint64_t since) const {
    return since % 2 != 0 || taken_ != since;
  }

  // Whether writing works again, told by a small file, and whether there is
  // room for what is in memory. The database is as before.
  absl::Status Probe() const;

 private:
  Engine() = default;

  std::atomic<std::uint64_t> taken_{0};
  mutable std::atomic<bool> reclaiming_stopped_{false};
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;  // Owned by db_.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ENGINE_H_
