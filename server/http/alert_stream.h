// Alerts as Server-Sent Events: those that are active, then each change.
//
// Its reader's thread waits for the log itself. What changes while an event is
// on its way waits there, each alert once; so a reader that stalls costs nobody
// anything.
//
// Layer: server/http. This file: std, absl, health, service's backend; no HTTP
// library.

#ifndef GRADTAP_SERVER_HTTP_ALERT_STREAM_H_
#define GRADTAP_SERVER_HTTP_ALERT_STREAM_H_

#include <atomic>
#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "gradtap/v1/alert.pb.h"
#include "server/health/alert_cursor.h"
#include "server/http/live_stream.h"
#include "server/limits/client_places.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

class AlertStream : public LiveStream {
 public:
  // All pointers must outlive it. Once `stopping` is set and the log has been
  // woken, it ends with kUnavailable. kResourceExhausted: no place is free for
  // `client`; kNotFound: no such run; kFailedPrecondition: nothing evaluates
  // rules.
  static absl::StatusOr<std::unique_ptr<AlertStream>> Open(
      QueryBackend* backend, ClientPlaces* places,
      const std::atomic<bool>* stopping, const v1::WatchAlertsRequest& request,
      const std::string& client);

  absl::StatusOr<Text> Next(std::chrono::milliseconds wait) override;

 private:
  AlertStream(QueryBackend* backend, const std::atomic<bool>* stopping,
              const v1::WatchAlertsRequest& request);

  // Whether it is to go on.
  absl::Status Check() const;

  QueryBackend* const backend_;
  const AlertLog* const log_;
  const std::atomic<bool>* const stopping_;
  const std::string run_;
  AlertCursor cursor_;
  std::unique_ptr<ClientPlaces::Place> place_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_ALERT_STREAM_H_
