// An open RocksDB database with its column families: options, opening, closing
// and the translation of its errors. The only place that sets an option.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_ENGINE_H_
#define GRADTAP_SERVER_STORE_ENGINE_H_

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

// Thread-safe as RocksDB is. Closing waits for background work; every iterator
// must be gone by then.
class Engine {
 public:
  // `env` is the machine's if null, and must outlive the engine.
  static absl::StatusOr<std::shared_ptr<Engine>> Open(const std::string& dir,
                                                      rocksdb::Env* env);
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

  // Frees the disk space of a range that has just been deleted: first whole
  // files, then what shares files with others. If it fails, compaction does it
  // later.
  void Reclaim(rocksdb::ColumnFamilyHandle* family, const std::string& begin,
               const std::string& end) const;

  // Whether writing works again, told by a small file, and whether there is
  // room for what is in memory. The database is as before.
  absl::Status Probe() const;

 private:
  Engine() = default;

  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> families_;  // Owned by db_.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ENGINE_H_
