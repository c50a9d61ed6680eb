// A call whose reader is told what changes, a message at a time: what WatchHub
// and AlertHub have in common.
//
// The reactions of gRPC only note what happened and wake the hub: all else is
// done by the hub's thread, which alone starts operations. No lock is held
// while it does, as gRPC may react on the spot.
//
// Layer: server/service. This file: grpc, auth, limits.

#ifndef GRADTAP_SERVER_SERVICE_WATCHER_CALL_H_
#define GRADTAP_SERVER_SERVICE_WATCHER_CALL_H_

#include <chrono>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/sync.h"
#include "grpcpp/support/byte_buffer.h"
#include "server/auth/gate.h"
#include "server/limits/client_places.h"
#include "server/limits/guards.h"
#include "server/service/request_call.h"

namespace gradtap::server {

// What the calls of a hub share. All must outlive them.
struct WatcherTerms {
  Gate* gate = nullptr;
  Guards guards;
  // How long a message may wait to be taken.
  std::chrono::nanoseconds max_unread{};
};

// Its request makes it one of the hub's, or ends it.
class WatcherCall : public RequestCall {
 public:
  WatcherCall(const WatcherTerms& terms, CallHead head)
      : RequestCall(std::move(head), terms.guards), terms_(terms) {}

  // By the hub's thread. One message at most.
  void Pump(bool stopping) ABSL_LOCKS_EXCLUDED(mu_) {
    bool cancelled, writing;
    {
      MutexLock lock(mu_);
      if (finished_) return;
      cancelled = cancelled_;
      writing = writing_;
    }
    if (writing) {
      if (!cancelled) EndIfUnread();
      return;
    }
    if (cancelled) return End(absl::CancelledError("the watcher has gone"));
    if (stopping) {
      return End(absl::UnavailableError("the collector is shutting down"));
    }
    if (const auto s = terms_.gate->Recheck(caller()); !s.ok()) return End(s);
    const absl::StatusOr<bool> more = Next(&message_);
    if (!more.ok()) return End(more.status());
    if (!*more) return;
    {
      MutexLock lock(mu_);
      writing_ = true;
    }
    written_ = std::chrono::steady_clock::now();
    StartWrite(&message_);
  }

  // Its place among those who watch, in that of one among all calls. Before it
  // is the hub's.
  void TakePlace(std::unique_ptr<ClientPlaces::Place> place) {
    place_ = std::move(place);
    RequestCall::LeavePlace();
  }
  // It is the hub's no more: what is left of it is in nobody's way.
  void LeavePlace() { place_ = nullptr; }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    message_.Clear();
    {
      MutexLock lock(mu_);
      writing_ = false;
      if (!ok) cancelled_ = true;
    }
    Wake();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    Wake();
  }

 private:
  // Whose token has been revoked is told so, if the message before is taken
  // within that.
  static constexpr std::chrono::nanoseconds kRevokedUnread =
      std::chrono::seconds(2);

  // By the hub's thread: what is to be told; false: nothing now. An error ends
  // the call.
  virtual absl::StatusOr<bool> Next(grpc::ByteBuffer* message) = 0;
  // Has the hub call Pump() soon.
  virtual void Wake() = 0;

  // Its reader may not have taken the message, for as long as it likes: it is
  // not asked to take the status either. The call is there for as long as its
  // message is on its way.
  void EndIfUnread() ABSL_LOCKS_EXCLUDED(mu_) {
    const bool may = terms_.gate->Recheck(caller()).ok();
    const auto waited = std::chrono::steady_clock::now() - written_;
    if (waited < (may ? terms_.max_unread : kRevokedUnread)) return;
    if (may) terms_.guards.Refused(Limit::kAnswerTime);
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    context()->TryCancel();
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      finished_ = true;
    }
    RequestCall::End(status);
  }

  const WatcherTerms& terms_;
  std::unique_ptr<ClientPlaces::Place> place_;
  grpc::ByteBuffer message_;  // Of the hub's thread; gRPC's while written.
  std::chrono::steady_clock::time_point written_;  // Of the hub's thread.

  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_WATCHER_CALL_H_
