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
#include "grpcpp/server_context.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/auth/gate.h"
#include "server/auth/grpc_door.h"
#include "server/limits/client_places.h"
#include "server/limits/guards.h"
#include "server/service/grpc_status.h"
#include "server/service/request_bytes.h"
#include "server/service/run_access.h"

namespace gradtap::server {

// A call that was refused.
template <typename Message>
class RefusedWatcher final : public grpc::ServerWriteReactor<Message> {
 public:
  explicit RefusedWatcher(const absl::Status& status) {
    this->Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

// What the calls of a hub share. All must outlive them.
struct WatcherTerms {
  Gate* gate = nullptr;
  Guards guards;
  // How long a message may wait to be taken.
  std::chrono::nanoseconds max_unread{};
};

// Who asks for what, in bytes that came with the call.
template <typename Request>
struct WatchAsked {
  Caller caller;
  std::shared_ptr<const Request> request;
};

// Errors: as CallerOf(), ReadRequest() and CheckRuns(), in that order.
template <typename Request>
absl::StatusOr<WatchAsked<Request>> ReadWatch(
    const WatcherTerms& terms, const grpc::CallbackServerContext& context,
    const grpc::ByteBuffer* bytes) {
  grpc::ByteBuffer taken = TakeBytes(bytes);
  absl::StatusOr<Caller> caller = CallerOf(terms.gate, terms.guards, context);
  if (const auto connection = ConnectionOf(terms.guards, context)) {
    connection->Took(taken.Length());
  }
  if (!caller.ok()) return caller.status();
  absl::StatusOr<std::shared_ptr<const Request>> request =
      ReadRequest<Request>(terms.guards, std::move(taken));
  if (!request.ok()) return request.status();
  const absl::Status may = CheckRuns(terms.gate, *caller, **request);
  if (!may.ok()) return may;
  return WatchAsked<Request>{*std::move(caller), *std::move(request)};
}

template <typename Message>
class WatcherCall : public grpc::ServerWriteReactor<Message> {
 public:
  WatcherCall(const WatcherTerms& terms, grpc::CallbackServerContext* context,
              Caller caller, std::unique_ptr<ClientPlaces::Place> place)
      : terms_(terms),
        context_(context),
        caller_(std::move(caller)),
        place_(std::move(place)) {}

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
    if (const auto s = terms_.gate->Recheck(caller_); !s.ok()) return End(s);
    const absl::StatusOr<const Message*> message = Next();
    if (!message.ok()) return End(message.status());
    if (*message == nullptr) return;
    {
      MutexLock lock(mu_);
      writing_ = true;
    }
    written_ = std::chrono::steady_clock::now();
    this->StartWrite(*message);
  }

  // It is the hub's no more: what is left of it is in nobody's way.
  void LeavePlace() { place_ = nullptr; }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
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

 protected:
  const Caller& caller() const { return caller_; }

 private:
  // Whose token has been revoked is told so, if the message before is taken
  // within that.
  static constexpr std::chrono::nanoseconds kRevokedUnread =
      std::chrono::seconds(2);

  // By the hub's thread: what is to be told, which stays as it is until it has
  // been written; null: nothing now. An error ends the call.
  virtual absl::StatusOr<const Message*> Next() = 0;
  // Has the hub call Pump() soon.
  virtual void Wake() = 0;

  // Its reader may not have taken the message, for as long as it likes: it is
  // not asked to take the status either. The call is there for as long as its
  // message is on its way.
  void EndIfUnread() ABSL_LOCKS_EXCLUDED(mu_) {
    const bool may = terms_.gate->Recheck(caller_).ok();
    const auto waited = std::chrono::steady_clock::now() - written_;
    if (waited < (may ? terms_.max_unread : kRevokedUnread)) return;
    if (may) terms_.guards.Refused(Limit::kAnswerTime);
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    context_->TryCancel();
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      finished_ = true;
    }
    this->Finish(ToGrpcStatus(status));
  }

  const WatcherTerms& terms_;
  grpc::CallbackServerContext* const context_;  // There until OnDone().
  const Caller caller_;
  std::unique_ptr<ClientPlaces::Place> place_;
  std::chrono::steady_clock::time_point written_;  // Of the hub's thread.

  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_WATCHER_CALL_H_
