#include "server/limits/limit_counters.h"

namespace gradtap::server {

std::string_view NameOf(Limit limit) {
  static constexpr std::array<std::string_view, kLimits> kNames = {
      "parameters",
      "name_bytes",
      "schema_bytes",
      "step_bytes",
      "batch_bytes",
      "runs",
      "streams",
      "sessions",
      "calls",
      "hello_time",
      "idle_time",
      "connections",
      "client_connections",
      "held_bytes",
      "left_bytes",
      "client_requests",
      "waiting_queries",
      "query_work",
      "watches",
      "live_streams",
      "request_bytes",
      "request_time",
      "answer_bytes",
      "answer_time",
      "batch_records",
      "branches",
      "stream_bytes",
      "open_calls"};
  return kNames[static_cast<std::size_t>(limit)];
}

}  // namespace gradtap::server
