// What all streams of Server-Sent Events have in common: how their reader gets
// them, and how many there may be.
//
// Layer: server/http. This file: std, absl.

#ifndef GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
#define GRADTAP_SERVER_HTTP_LIVE_STREAM_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

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

// Places for streams of all kinds. Thread-safe.
class StreamSlots {
 public:
  // Held by a stream. The slots must outlive it.
  class Slot {
   public:
    explicit Slot(StreamSlots* slots) : slots_(slots) {}
    ~Slot() { --slots_->open_; }
    Slot(const Slot&) = delete;
    Slot& operator=(const Slot&) = delete;

   private:
    StreamSlots* const slots_;
  };

  explicit StreamSlots(std::uint32_t most) : most_(most) {}

  // kResourceExhausted: all are taken.
  absl::StatusOr<std::unique_ptr<Slot>> Take() {
    if (++open_ <= most_) return std::make_unique<Slot>(this);
    --open_;
    return absl::ResourceExhaustedError(absl::StrCat(
        most_,
        " live streams are open, the limit of this collector; close one"));
  }

  std::uint32_t open() const { return open_; }

 private:
  const std::uint32_t most_;
  std::atomic<std::uint32_t> open_{0};
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
