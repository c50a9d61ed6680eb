// The data folder: made, checked and held for one process alone.
//
//   DIR            0700
//   DIR/LOCK       flock(2) held while a collector runs; its pid in decimal
//   DIR/FORMAT     "gradtap-data " version "\n", version in decimal. Written
//                  before anything is stored; read before anything is opened.
//                  It rises when an older collector must not touch what a
//                  newer one wrote; opening a folder of an older version
//                  raises it. 1: rows have their histograms inside. 2: in a
//                  family of their own. 3 (this one): what is older than some
//                  steps is in windows.
//   DIR/db/        the database (keys.h)
//
// A copy of FORMAT and db/ is a data folder, if nobody writes to it meanwhile.
//
// Layer: server/store.

#ifndef GRADTAP_SERVER_STORE_DATA_FOLDER_H_
#define GRADTAP_SERVER_STORE_DATA_FOLDER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap::server {

inline constexpr std::uint32_t kFormatVersion = 3;

// Writes DIR/FORMAT of this version, durably.
absl::Status WriteFormat(const std::string& dir);

// Holds the lock for its life. The file stays; only the lock goes.
class DataFolder {
 public:
  // Creates `dir` (0700, parents as the umask has them) if it is not there and
  // takes its lock. The errors are those of OpenRocksdbStore().
  static absl::StatusOr<std::unique_ptr<DataFolder>> Open(
      const std::string& dir);
  // Of a folder that is there: nothing in it is changed, and while it is held
  // no collector opens it. kNotFound: there is no data folder; a format of an
  // older version is taken, too. `*format` is what FORMAT says.
  static absl::StatusOr<std::unique_ptr<DataFolder>> OpenToRead(
      const std::string& dir, std::uint32_t* format);
  ~DataFolder();

  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;

  const std::string& dir() const { return dir_; }
  std::string db_dir() const { return dir_ + "/db"; }

  // Bytes that the files in the folder take; walks it.
  std::uint64_t DiskBytes() const;

 private:
  DataFolder(std::string dir, int lock_fd);

  const std::string dir_;
  const int lock_fd_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_DATA_FOLDER_H_
