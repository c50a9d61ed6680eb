// The open WatchAlerts calls and the one thread that feeds them.
//
// A call has one message on its way; what changes meanwhile waits in the log,
// each alert once. A watcher that does not read costs its place, until it has
// left a message unread for too long or its token is revoked. One client has
// half of the places at most.
//
// Layer: server/service. This file: grpc, health.

#ifndef GRADTAP_SERVER_SERVICE_ALERT_HUB_H_
#define GRADTAP_SERVER_SERVICE_ALERT_HUB_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "core/sync.h"
#include "gradtap/v1/alert.pb.h"
#include "server/auth/gate.h"
#include "server/health/alert_log.h"
#include "server/limits/client_places.h"
#include "server/service/request_call.h"
#include "server/service/watcher_call.h"
#include "server/store/store.h"

namespace gradtap::server {

// Thread-safe.
class AlertHub {
 public:
  // All must outlive the hub. `max_unread`: how long a message may wait to be
  // taken.
  AlertHub(Store* store, AlertLog* log, std::uint32_t max_calls,
           std::chrono::nanoseconds max_unread, Gate* gate,
           const Guards& guards);
  // No call may be open any more: destroy it after the server.
  ~AlertHub();
  AlertHub(const AlertHub&) = delete;
  AlertHub& operator=(const AlertHub&) = delete;

  // For gRPC: never waits. RESOURCE_EXHAUSTED over max_calls, or half of
  // them by one client, UNAVAILABLE after Shutdown(), NOT_FOUND: no such run,
  // PERMISSION_DENIED: not the caller's.
  grpc::ServerGenericBidiReactor* Open(CallHead head) ABSL_LOCKS_EXCLUDED(mu_);

  // Ends all calls with UNAVAILABLE. Returns when they have ended or at the
  // deadline; idempotent.
  void Shutdown(std::chrono::steady_clock::time_point deadline)
      ABSL_LOCKS_EXCLUDED(mu_);

  std::uint32_t open() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  class Call;

  // Once its request has come: an error ends it.
  absl::Status Add(Call* call) ABSL_LOCKS_EXCLUDED(mu_);
  void Remove(std::uint64_t id) ABSL_LOCKS_EXCLUDED(mu_);
  void Feed() ABSL_LOCKS_EXCLUDED(mu_);

  Store* const store_;
  AlertLog* const log_;
  ClientPlaces places_;
  const WatcherTerms terms_;

  mutable Mutex mu_;
  CondVar call_ended_;
  std::map<std::uint64_t, std::shared_ptr<Call>> calls_ ABSL_GUARDED_BY(mu_);
  std::uint64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;  // Calls end.
  bool closed_ ABSL_GUARDED_BY(mu_) = false;    // The thread ends.

  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_ALERT_HUB_H_
