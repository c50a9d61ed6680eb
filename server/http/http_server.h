// The collector's HTTP door: the queries as JSON, and whether it is well.
//
// Layer: server/http. This file: std, absl, service's headers without gRPC;
// cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_HTTP_SERVER_H_
#define GRADTAP_SERVER_HTTP_HTTP_SERVER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/auth/certificates.h"
#include "server/auth/gate.h"
#include "server/http/http_limits.h"
#include "server/query/metric_names.h"
#include "server/service/listen_address.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

struct HttpOptions {
  ListenAddress listen;  // Port 0: a free one.
  // What it may be called besides its address and localhost.
  std::vector<std::string> names;
  // One for each connection; more wait.
  std::size_t max_threads = 64;
  // Live streams, of which each has a thread.
  std::uint32_t max_live_streams = 32;
  ConnectionLimits connections;
  // After which a stream without an event says that it is there.
  std::chrono::milliseconds heartbeat{10'000};
  MetricSelection metrics;  // What /metrics has of parameters.
  Gate* gate = Gate::Open();
  Certificates* certificates = nullptr;  // Null: in the clear.
};

// Start() and Shutdown() by one thread.
class HttpServer {
 public:
  // Listens. `backend`, gate and certificates must outlive it. kUnavailable: it
  // cannot be listened on, with the system's reason.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      HttpOptions options, QueryBackend* backend);
  // As Shutdown().
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // From now on /readyz says 503.
  void BeginShutdown();
  // Requests that have come are answered, if that takes no longer than 2 s;
  // then connections end. Idempotent.
  void Shutdown();

  // With the real port.
  const ListenAddress& address() const;

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_SERVER_H_
