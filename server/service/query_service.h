// gradtap.v1.Query over gRPC.
//
// Layer: server/service. This file: grpc, query.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
#define GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "server/auth/gate.h"
#include "server/service/alert_hub.h"
#include "server/service/methods.h"
#include "server/service/query_backend.h"
#include "server/service/watch_hub.h"

namespace gradtap::server {

// Thread-safe. Must outlive the server. Requests and answers are bytes
// (request_bytes.h).
class QueryService final {
 public:
  static constexpr char kName[] = "gradtap.v1.Query";

  // Both must outlive the service. `gate`: who may read which runs.
  // `max_unread`: how long a message of a watch may wait to be taken.
  QueryService(QueryBackend* backend, std::uint32_t max_watches,
               std::chrono::nanoseconds max_unread, Gate* gate = Gate::Open());
  ~QueryService();
  QueryService(const QueryService&) = delete;
  QueryService& operator=(const QueryService&) = delete;

  // Has its methods served.
  void AddTo(Methods* methods);

  // Stops the backend and ends the calls that are open. Returns when they have
  // ended or at the deadline.
  void Shutdown(std::chrono::steady_clock::time_point deadline);

 private:
  template <typename Request, typename Response>
  class Call;

  // Has a method served, by the backend. `method` is a literal.
  template <typename Request, typename Response>
  void Serve(Methods* methods, const char* method);

  QueryBackend* const backend_;
  Gate* const gate_;
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<AlertHub> alert_hub_;  // Null: no rules are evaluated.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
