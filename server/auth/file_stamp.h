// Whether a file is another one than it was.
//
// Layer: server/auth. This file: std, absl, core, POSIX.

#ifndef GRADTAP_SERVER_AUTH_FILE_STAMP_H_
#define GRADTAP_SERVER_AUTH_FILE_STAMP_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "core/clock.h"

namespace gradtap::server {

// Of the file that a path leads to, links followed: what is written in place,
// renamed over it, or linked anew has another stamp. Zeros: there is none.
struct FileStamp {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_ns = 0;  // Also by who may read it.
  std::uint32_t mode = 0;

  bool operator==(const FileStamp&) const = default;
};

FileStamp StampOf(const std::string& path);

// False only if it is certain that nothing has that name, not even a link that
// leads nowhere.
bool IsThere(const std::string& path);

// The whole of it. An error names the path and the system's reason; over
// `max_bytes` it is kInvalidArgument.
absl::StatusOr<std::string> ReadSmall(const std::string& path,
                                      std::size_t max_bytes);

// Has something done once in a while by one of those who ask, while the others
// go on. Thread-safe.
class NowAndThen {
 public:
  // The clock must outlive it.
  NowAndThen(const Clock* clock, std::chrono::nanoseconds every)
      : clock_(clock), every_(every) {}

  // `what` must not throw. It is never run by two threads at a time, so that
  // what one has found is not replaced by what another has found before.
  template <typename What>
  void Maybe(What what) {
    const std::int64_t now = clock_->Steady().time_since_epoch().count();
    if (now < next_.load(std::memory_order_relaxed)) return;
    if (busy_.exchange(true)) return;
    if (now >= next_) {
      what();
      next_ = now + every_.count();
    }
    busy_ = false;
  }

 private:
  const Clock* const clock_;
  const std::chrono::nanoseconds every_;
  std::atomic<std::int64_t> next_{0};
  std::atomic<bool> busy_{false};
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_FILE_STAMP_H_
