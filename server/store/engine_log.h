// What RocksDB warns of, as a file of its folder: LOG, and LOG.old before it.
//
// A line that cannot be written (disk full, no descriptor left) is left out.
// RocksDB's own logger ends the process at the next line then, where RocksDB is
// built with assertions, as Debian's is.
//
// Layer: server/store. This file: std, core, RocksDB.

#ifndef GRADTAP_SERVER_STORE_ENGINE_LOG_H_
#define GRADTAP_SERVER_STORE_ENGINE_LOG_H_

#include <cstddef>
#include <string>

#include "core/sync.h"
#include "rocksdb/env.h"

namespace gradtap::server {

// Thread-safe. A line costs a system call; they are few.
class EngineLog final : public rocksdb::Logger {
 public:
  static constexpr std::size_t kMostBytes = std::size_t{4} << 20;

  // Makes LOG in `dir`, which may not exist yet; what was LOG is LOG.old then.
  explicit EngineLog(const std::string& dir);
  ~EngineLog() override;

  // Of the options that the database was opened with, which OPTIONS-* say too.
  void LogHeader(const char*, va_list) override {}
  void Logv(rocksdb::InfoLogLevel level, const char* format,
            va_list arguments) override;
  void Logv(const char* format, va_list arguments) override;

 private:
  rocksdb::Status CloseImpl() override { return rocksdb::Status::OK(); }
  // Renames what there is and begins anew.
  void Begin() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string path_;
  Mutex mu_;
  int fd_ ABSL_GUARDED_BY(mu_) = -1;
  std::size_t bytes_ ABSL_GUARDED_BY(mu_) = 0;
  bool torn_ ABSL_GUARDED_BY(mu_) = false;  // The last line has no end.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ENGINE_LOG_H_
