// What all streams of Server-Sent Events have in common: how their reader gets
// them.
//
// Layer: server/http. This file: std, absl.

#ifndef GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
#define GRADTAP_SERVER_HTTP_LIVE_STREAM_H_

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

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

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_LIVE_STREAM_H_
