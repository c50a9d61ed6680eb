// What queries are answered from. One struct of interfaces, so that a test can
// give each of them.
//
// Layer: server/query. This file: std, core, store; no grpc.

#ifndef GRADTAP_SERVER_QUERY_ENVIRONMENT_H_
#define GRADTAP_SERVER_QUERY_ENVIRONMENT_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "core/recent.h"
#include "server/limits/guards.h"
#include "server/query/row_reader.h"
#include "server/store/store.h"

namespace gradtap::v1 {
class KeepingStatus;
}  // namespace gradtap::v1

namespace gradtap::server {

// One method of the Query service.
struct CallFigures {
  std::string method;
  LatencyFigures latency;    // From its arrival on, waiting included.
  std::uint64_t failed = 0;  // Since the start: with any status but OK.
};
struct CallsFigures {
  std::vector<CallFigures> methods;
  std::uint32_t running = 0;
  std::uint32_t waiting = 0;
};

// What has been forwarded to other stores, since the start.
struct ForwardFigures {
  std::uint64_t sent_samples = 0;
  std::uint64_t refused_samples = 0;
  std::uint64_t failed_requests = 0;  // Tried again.
};

// Everything pointed to must outlive the queries. Callbacks: any thread.
struct QueryEnvironment {
  Store* store = nullptr;
  const Clock* clock = nullptr;
  QueryLimits limits;

  // When the live session of a stream last said anything; empty: none. May be
  // unset: no stream is connected.
  std::function<std::optional<std::int64_t>(StreamId)> live_session;

  // For GetStatus; may be unset.
  std::function<std::uint32_t()> open_sessions;
  std::function<std::uint32_t()> open_watches;
  std::function<std::uint64_t()> batches;
  std::function<void(v1::KeepingStatus* status)> keeping;
  std::function<CallsFigures()> calls;
  std::function<ForwardFigures()> forwarded;  // Unset: nothing is.
  // Calls that were not let in, by reason.
  std::function<std::map<std::string, std::uint64_t>()> refused_calls;
  // When the collector's certificate expires; unset: no TLS.
  std::function<std::int64_t()> certificate_not_after_unix_s;
  // What counts refusals, and who may ask how often.
  Guards guards;
  std::int64_t start_time_unix_ns = 0;

  std::optional<std::int64_t> LiveSession(StreamId stream) const {
    return live_session ? live_session(stream) : std::nullopt;
  }
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_ENVIRONMENT_H_
