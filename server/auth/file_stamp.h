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
  std::uint32_t mode = 0;

  bool operator==(const FileStamp&) const = default;
};

FileStamp StampOf(const std::string& path);

// The whole of it. An error names the path and the system's reason; over
// `max_bytes` it is kInvalidArgument.
absl::StatusOr<std::string> ReadSmall(const std::string& path,
                                      std::size_t max_bytes);

// Lets one of those who ask through, once in a while; nobody waits.
// Thread-safe.
class NowAndThen {
 public:
  // The clock must outlive it.
  NowAndThen(const Clock* clock, std::chrono::nanoseconds every)
      : clock_(clock), every_(every) {}

  bool Due() {
    const std::int64_t now = clock_->Steady().time_since_epoch().count();
    std::int64_t next = next_.load(std::memory_order_relaxed);
    return now >= next &&
           next_.compare_exchange_strong(next, now + every_.count());
  }

 private:
  const Clock* const clock_;
  const std::chrono::nanoseconds every_;
  std::atomic<std::int64_t> next_{0};
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_FILE_STAMP_H_
