// The routes of Server-Sent Events: live steps, and alerts.
//
// Layer: server/http. This file: std, absl; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_LIVE_ROUTES_H_
#define GRADTAP_SERVER_HTTP_LIVE_ROUTES_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "server/auth/gate.h"
#include "server/http/http_gate.h"
#include "server/http/live_hub.h"
#include "server/http/live_stream.h"
#include "server/limits/client_places.h"
#include "server/service/query_backend.h"

namespace httplib {
class DataSink;
struct Request;
struct Response;
}  // namespace httplib

namespace gradtap::server {

// Thread-safe. Its streams have places in common, of which one client has three
// quarters at most; 503 with Retry-After if all are taken.
class LiveRoutes {
 public:
  // Both must outlive it. After `heartbeat` a stream without an event says that
  // it is there.
  LiveRoutes(QueryBackend* backend, const HttpGate* gate,
             std::uint32_t max_streams, std::chrono::milliseconds heartbeat);

  // Handlers; the streams that they leave in *out end with their readers, when
  // the caller's token is taken back, and at Stop().
  void Watch(const httplib::Request& in, httplib::Response* out);
  void WatchAlerts(const httplib::Request& in, httplib::Response* out);

  std::uint32_t open() const { return places_.taken(); }

  // Ends all streams, and refuses new ones.
  void Stop();

 private:
  template <typename Request>
  absl::StatusOr<Caller> MayWatch(const httplib::Request& in, Request* request);
  void PutStream(absl::StatusOr<std::shared_ptr<LiveStream>> stream,
                 Caller caller, const httplib::Request& in,
                 httplib::Response* out);
  absl::StatusOr<LiveStream::Text> NextOf(LiveStream* stream,
                                          const Caller& caller) const;
  bool SendNext(LiveStream* stream, const Caller& caller,
                httplib::DataSink* sink) const;

  QueryBackend* const backend_;
  const HttpGate* const gate_;
  const std::chrono::milliseconds heartbeat_;
  std::atomic<bool> stopping_{false};
  ClientPlaces places_;
  LiveHub hub_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_LIVE_ROUTES_H_
