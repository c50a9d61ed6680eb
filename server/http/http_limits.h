// What one connection of the HTTP server may take.
//
// Layer: server/http. This file: std.

#ifndef GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_
#define GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_

#include <chrono>
#include <cstddef>

namespace gradtap::server {

struct ConnectionLimits {
  std::size_t request_bytes = (std::size_t{1} << 20) + (std::size_t{64} << 10);
  std::chrono::milliseconds request_time{10'000};
  // Without a byte that could be written; and of a whole answer.
  std::chrono::milliseconds write_time{10'000};
  std::chrono::milliseconds answer_time{120'000};
  // Of one client at a time.
  std::size_t of_a_client = 48;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_LIMITS_H_
