// What all streams of Server-Sent Events have in common: how their reader gets
// them, and how many there may be.
//
// Layer: server/http. This file: std, absl, core.

#ifndef GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
#define GRADTAP_SERVER_HTTP_LIVE_STREAM_H_

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/sync.h"

namespace gradtap::server {

// What one reader reads. One thread at a time.
class LiveStream {
 public:
  using Text = std::shared_ptr<const std::string>;

  virtual ~LiveStream() = default;

  // The next event, with the empty line that ends it. Null: none came within
  // `wait`. An error: the stream has ended, and with what.
  virtual absl::StatusOr<Text> Next(std::chrono::milliseconds wait) = 0;
};

// Places for streams of all kinds. One client has three quarters of them at
// most, so that it does not keep others out. Thread-safe.
class StreamSlots {
 public:
  // Held by a stream. The slots must outlive it.
  class Slot {
   public:
    Slot(StreamSlots* slots, std::string client)
        : slots_(slots), client_(std::move(client)) {}
    ~Slot() { slots_->GiveBack(client_); }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    StreamSlots* const slots_;
    const std::string client_;
  };

  explicit StreamSlots(std::uint32_t most)
      : most_(most), of_a_client_(std::max(1u, most - most / 4)) {}

  // For a client: its token's name, else its address. kResourceExhausted: all
  // are taken, or all that one client may have.
  absl::StatusOr<std::unique_ptr<Slot>> Take(const std::string& client)
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    const auto of = of_client_.find(client);
    if (open_ >= most_) {
      return absl::ResourceExhaustedError(absl::StrCat(
          most_,
          " live streams are open, the limit of this collector; close one"));
    }
    if (of != of_client_.end() && of->second >= of_a_client_) {
      return absl::ResourceExhaustedError(absl::StrCat(
          of_a_client_, " of ", most_,
          " live streams are yours, as many as one client may have; close "
          "one"));
    }
    ++open_;
    ++of_client_[client];
    return std::make_unique<Slot>(this, client);
  }

  std::uint32_t open() const ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    return open_;
  }

 private:
  void GiveBack(const std::string& client) ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    --open_;
    const auto of = of_client_.find(client);
    if (--of->second == 0) of_client_.erase(of);
  }

  const std::uint32_t most_;
  const std::uint32_t of_a_client_;
  mutable Mutex mu_;
  std::uint32_t open_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::uint32_t> of_client_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
