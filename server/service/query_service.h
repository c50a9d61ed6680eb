// gradtap.v1.Query over gRPC.
//
// Layer: server/service. This file: grpc, query.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
#define GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "gradtap/v1/query.grpc.pb.h"
#include "grpcpp/support/byte_buffer.h"
#include "server/auth/gate.h"
#include "server/service/alert_hub.h"
#include "server/service/query_backend.h"
#include "server/service/watch_hub.h"

namespace gradtap::server {

// Thread-safe. Must outlive the server that it is registered with. All requests
// come in bytes (request_bytes.h), and so Watch is answered: see WatchHub.
class QueryService final : public v1::Query::Service {
 public:
  // Both must outlive the service. `gate`: who may read which runs.
  // `max_unread`: how long a message of a watch may wait to be taken.
  QueryService(QueryBackend* backend, std::uint32_t max_watches,
               std::chrono::nanoseconds max_unread, Gate* gate = Gate::Open());
  ~QueryService() override;

  // Stops the backend and ends the calls that are open. Returns when they have
  // ended or at the deadline.
  void Shutdown(std::chrono::steady_clock::time_point deadline);

 private:
  // Has a method served, by the backend. `method` is a literal.
  template <typename Request, typename Response>
  void Serve(const char* method);
  void ServeWatches();

  // Runs on the backend, or refuses.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context,
                                   const char* method,
                                   const grpc::ByteBuffer* bytes,
                                   Response* response);

  QueryBackend* const backend_;
  Gate* const gate_;
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<AlertHub> alert_hub_;  // Null: no rules are evaluated.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
