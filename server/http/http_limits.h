// What one connection of the HTTP server may take.
//
// Layer: server/http. This file: std.

#ifndef GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_
#define GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_

#include <chrono>
#include <cstddef>

namespace gradtap::server {

// A query as JSON, which takes eleven times as much where it is read; and a
// form: PromQL of 64 KiB with each byte as "%xx", and what comes with it.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{64} << 10;
inline constexpr std::size_t kMaxFormBytes = std::size_t{256} << 10;

struct ConnectionLimits {
  std::size_t request_bytes = (std::size_t{64} << 10) + kMaxFormBytes;
  std::chrono::milliseconds request_time{10'000};
  // Without a byte that could be written; and of a whole answer.
  std::chrono::milliseconds write_time{10'000};
  std::chrono::milliseconds answer_time{120'000};
  // Of one client at a time.
  std::size_t of_a_client = 48;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_
