// How long a query over HTTP is worth going on with: while its client waits for
// it, and for as long as a query may take.
//
// Layer: server/http. This file: std, absl, service's backend; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_QUERY_WAIT_H_
#define GRADTAP_SERVER_HTTP_QUERY_WAIT_H_

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

// From its begin on: what it waits for a thread does not count.
inline constexpr std::chrono::seconds kQueryTime{30};
// A look at a socket is a call of the system.
inline constexpr std::chrono::milliseconds kLookForClient{10};

// By one thread: that of the query.
class QueryWait {
 public:
  // `gone`: whether the client has; empty: nobody knows.
  explicit QueryWait(Cancelled gone,
                     std::chrono::milliseconds time = kQueryTime,
                     std::chrono::milliseconds between_looks = kLookForClient)
      : gone_(std::move(gone)), time_(time), between_looks_(between_looks) {}

  // Whether nobody waits any more; from then on it is so. Looks for the client
  // every now and then.
  bool Over();
  // It was over because it took too long.
  bool too_long() const { return too_long_; }

 private:
  using Clock = std::chrono::steady_clock;

  const Cancelled gone_;
  const std::chrono::milliseconds time_;
  const std::chrono::milliseconds between_looks_;
  Clock::time_point until_{};  // Set by the first call.
  Clock::time_point next_look_{};
  bool gone_already_ = false;
  bool too_long_ = false;
};

// As QueryBackend::Run(), for a client. kCancelled: it has gone; kUnavailable
// (and counted): the query took longer than kQueryTime.
absl::Status RunForClient(QueryBackend* backend, const char* method,
                          const Cancelled& gone,
                          const QueryBackend::Task& task);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_QUERY_WAIT_H_
