#include "server/service/alert_hub.h"

#include <utility>
#include <vector>

#include "server/health/alert_cursor.h"
#include "server/query/run_view.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

using RefusedCall = RefusedWatcher<v1::WatchAlertsResponse>;

// How often calls are looked at without a change: a run may be deleted.
constexpr std::chrono::seconds kTick{1};

}  // namespace

class AlertHub::Call final : public WatcherCall<v1::WatchAlertsResponse> {
 public:
  Call(AlertHub* hub, std::uint64_t id, grpc::CallbackServerContext* context,
       const v1::WatchAlertsRequest& request, Caller caller,
       std::unique_ptr<ClientPlaces::Place> place)
      : WatcherCall(hub->terms_, context, std::move(caller), std::move(place)),
        hub_(hub),
        id_(id),
        run_(request.run()),
        cursor_(hub->log_, request) {}

  // May destroy this.
  void OnDone() override { hub_->Remove(id_); }

 private:
  void Wake() override { hub_->log_->Wake(); }

  absl::StatusOr<const v1::WatchAlertsResponse*> Next() override {
    if (!run_.empty()) {
      if (const auto run = OpenRun(*hub_->store_, run_); !run.ok()) {
        return WithOwnRuns(caller(), *hub_->store_, run.status());
      }
    }
    message_.Clear();
    return cursor_.Next(&message_) ? &message_ : nullptr;
  }

  AlertHub* const hub_;
  const std::uint64_t id_;
  const std::string run_;
  // Of the hub's thread; message_ is gRPC's while it is written.
  AlertCursor cursor_;
  v1::WatchAlertsResponse message_;
};

AlertHub::AlertHub(Store* store, AlertLog* log, std::uint32_t max_calls,
                   std::chrono::nanoseconds max_unread, Gate* gate,
                   const Guards& guards)
    : store_(store),
      log_(log),
      places_("watches of alerts", max_calls, max_calls - max_calls / 2),
      terms_{gate, guards, max_unread},
      thread_([this] { Feed(); }) {}

AlertHub::~AlertHub() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  log_->Wake();
  thread_.join();
}

grpc::ServerWriteReactor<v1::WatchAlertsResponse>* AlertHub::Open(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  absl::StatusOr<WatchAsked<v1::WatchAlertsRequest>> asked =
      ReadWatch<v1::WatchAlertsRequest>(terms_, *context, bytes);
  if (!asked.ok()) return new RefusedCall(asked.status());
  std::shared_ptr<Call> call;
  {
    MutexLock lock(mu_);
    if (stopping_) {
      return new RefusedCall(
          absl::UnavailableError("the collector is shutting down"));
    }
    auto place = places_.Take(ClientName(asked->caller, context->peer()));
    if (!place.ok()) {
      terms_.guards.Refused(Limit::kWatches);
      return new RefusedCall(place.status());
    }
    const std::uint64_t id = next_id_++;
    call = std::make_shared<Call>(this, id, context, *asked->request,
                                  std::move(asked->caller), *std::move(place));
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
