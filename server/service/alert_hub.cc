#include "server/service/alert_hub.h"

#include <utility>
#include <vector>

#include "server/auth/grpc_door.h"
#include "server/health/alert_cursor.h"
#include "server/query/run_view.h"
#include "server/service/grpc_status.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

using Reactor = grpc::ServerWriteReactor<v1::WatchAlertsResponse>;

// How often calls are looked at without a change: a run may be deleted.
constexpr std::chrono::seconds kTick{1};
// As WatchHub's.
constexpr std::chrono::nanoseconds kRevokedUnread = std::chrono::seconds(2);

class RefusedCall : public Reactor {
 public:
  explicit RefusedCall(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

}  // namespace

// As WatchHub's: reactions only note what happened; the hub's thread alone
// starts operations, without a lock.
class AlertHub::Call : public Reactor {
 public:
  Call(AlertHub* hub, std::uint64_t id, grpc::CallbackServerContext* context,
       const v1::WatchAlertsRequest& request, Caller caller,
       std::unique_ptr<ClientPlaces::Place> place)
      : hub_(hub),
        id_(id),
        context_(context),
        run_(request.run()),
        caller_(std::move(caller)),
        place_(std::move(place)),
        cursor_(hub->log_, request) {}

  // It has ended: what is left of it is in nobody's way.
  void LeavePlace() { place_ = nullptr; }

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
    const absl::Status may = hub_->gate_->Recheck(caller_);
    if (!may.ok()) return End(may);
    if (!run_.empty()) {
      if (const auto s = OpenRun(*hub_->store_, run_); !s.ok()) {
        return End(WithOwnRuns(caller_, *hub_->store_, s.status()));
      }
    }
    message_.Clear();
    if (!cursor_.Next(&message_)) return;
    {
      MutexLock lock(mu_);
      writing_ = true;
    }
    written_ = std::chrono::steady_clock::now();
    StartWrite(&message_);
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      writing_ = false;
      if (!ok) cancelled_ = true;
    }
    hub_->log_->Wake();
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    hub_->log_->Wake();
  }

  // May destroy this.
  void OnDone() override { hub_->Remove(id_); }

 private:
  // As WatchHub's.
  void EndIfUnread() {
    const bool may = hub_->gate_->Recheck(caller_).ok();
    const auto waited = std::chrono::steady_clock::now() - written_;
    if (waited < (may ? hub_->max_unread_ : kRevokedUnread)) return;
    if (may) hub_->guards_.Refused(Limit::kAnswerTime);
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
    Finish(ToGrpcStatus(status));
  }

  AlertHub* const hub_;
  const std::uint64_t id_;
  grpc::CallbackServerContext* const context_;  // There until OnDone().
  const std::string run_;
  const Caller caller_;
  std::unique_ptr<ClientPlaces::Place> place_;
  // Of the hub's thread.
  AlertCursor cursor_;
  v1::WatchAlertsResponse message_;  // Not to be touched while one is written.
  std::chrono::steady_clock::time_point written_;

  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

AlertHub::AlertHub(Store* store, AlertLog* log, std::uint32_t max_calls,
                   std::chrono::nanoseconds max_unread, Gate* gate,
                   const Guards& guards)
    : store_(store),
      log_(log),
      places_("watches of alerts", max_calls, max_calls - max_calls / 2),
      max_unread_(max_unread),
      gate_(gate),
      guards_(guards),
      thread_([this] { Feed(); }) {}

AlertHub::~AlertHub() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  log_->Wake();
  thread_.join();
}

Reactor* AlertHub::Open(grpc::CallbackServerContext* context,
                        const v1::WatchAlertsRequest* request) {
  absl::StatusOr<Caller> caller = CallerOf(gate_, guards_, *context);
  if (!caller.ok()) return new RefusedCall(caller.status());
  const absl::Status may = CheckRuns(gate_, *caller, *request);
  if (!may.ok()) return new RefusedCall(may);
  std::shared_ptr<Call> call;
  {
    MutexLock lock(mu_);
    if (stopping_) {
      return new RefusedCall(
          absl::UnavailableError("the collector is shutting down"));
    }
    auto place = places_.Take(ClientName(*caller, context->peer()));
    if (!place.ok()) {
      guards_.Refused(Limit::kWatches);
      return new RefusedCall(place.status());
    }
    const std::uint64_t id = next_id_++;
    call = std::make_shared<Call>(this, id, context, *request,
                                  *std::move(caller), *std::move(place));
    calls_.emplace(id, call);
  }
  log_->Wake();
  return call.get();
}

void AlertHub::Remove(std::uint64_t id) {
  std::shared_ptr<Call> ended;  // Destroyed without the lock.
  {
    MutexLock lock(mu_);
    const auto it = calls_.find(id);
    if (it != calls_.end()) {
      ended = std::move(it->second);
      calls_.erase(it);
      ended->LeavePlace();
    }
  }
  call_ended_.NotifyAll();
}

void AlertHub::Feed() {
  std::uint64_t change = 0;
  for (;;) {
    std::vector<std::shared_ptr<Call>> calls;
    bool stopping = false;
    std::uint64_t wakes = log_->wakes();
    {
      MutexLock lock(mu_);
      if (closed_) return;
      stopping = stopping_;
      for (const auto& [id, call] : calls_) calls.push_back(call);
    }
    change = log_->change();
    for (const auto& call : calls) call->Pump(stopping);
    calls.clear();
    log_->Wait(change, wakes, std::chrono::steady_clock::now() + kTick);
  }
}

void AlertHub::Shutdown(std::chrono::steady_clock::time_point deadline) {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  log_->Wake();
  MutexLock lock(mu_);
  while (!calls_.empty() && call_ended_.WaitUntil(mu_, deadline)) {
  }
}

std::uint32_t AlertHub::open() const {
  MutexLock lock(mu_);
  return static_cast<std::uint32_t>(calls_.size());
}

}  // namespace gradtap::server
