// What one watcher of alerts has seen, and what it is to see next.
//
// Layer: server/health. This file: std, gradtap_proto; no grpc. One thread at a
// time; nothing here waits.

#ifndef GRADTAP_SERVER_HEALTH_ALERT_CURSOR_H_
#define GRADTAP_SERVER_HEALTH_ALERT_CURSOR_H_

#include <cstdint>
#include <deque>

#include "gradtap/v1/alert.pb.h"
#include "server/health/alert_log.h"

namespace gradtap::server {

class AlertCursor {
 public:
  // `log` must outlive it.
  AlertCursor(const AlertLog* log, const v1::WatchAlertsRequest& request);

  // Fills the next message, or returns false: there is none now.
  bool Next(v1::WatchAlertsResponse* message);

 private:
  const AlertLog* const log_;
  const v1::WatchAlertsRequest request_;
  bool started_ = false;
  bool caught_up_ = false;
  std::uint64_t position_ =
      0;  // All changes up to here are in pending_, or out.
  std::deque<v1::Alert> pending_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_ALERT_CURSOR_H_
