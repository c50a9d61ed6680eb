#include "server/service/alert_hub.h"

#include <optional>
#include <utility>
#include <vector>

#include "server/health/alert_cursor.h"
#include "server/query/run_view.h"
#include "server/service/request_bytes.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// How often calls are looked at without a change: a run may be deleted.
constexpr std::chrono::seconds kTick{1};

}  // namespace

// Of itself until OnDone(), and of the hub.
class AlertHub::Call final : public WatcherCall {
 public:
  Call(AlertHub* hub, std::uint64_t id, CallHead head)
      : WatcherCall(hub->terms_, std::move(head)), hub_(hub), id_(id) {}

  void OwnItself(std::shared_ptr<Call> self) { self_ = std::move(self); }
  std::shared_ptr<Call> self() const { return self_; }
  std::uint64_t id() const { return id_; }
  using RequestCall::client;

  void OnDone() override {
    const std::shared_ptr<Call> last = std::move(self_);
    hub_->Remove(id_);
  }

 private:
  void OnRequest(grpc::ByteBuffer bytes) override {
    const auto request = ReadRequestOf<v1::WatchAlertsRequest>(
        hub_->terms_.gate, caller(), guards(), std::move(bytes));
    absl::Status status = request.status();
    if (request.ok()) {
      run_ = (*request)->run();
      cursor_.emplace(hub_->log_, **request);
      status = hub_->Add(this);
    }
    if (!status.ok()) RequestCall::End(status);
  }

  void Wake() override { hub_->log_->Wake(); }

  absl::StatusOr<bool> Next(grpc::ByteBuffer* bytes) override {
    if (!run_.empty()) {
      if (const auto run = OpenRun(*hub_->store_, run_); !run.ok()) {
        return WithOwnRuns(caller(), *hub_->store_, run.status());
      }
    }
    v1::WatchAlertsResponse message;
    if (!cursor_->Next(&message)) return false;
    absl::StatusOr<grpc::ByteBuffer> written = ToBytes(message);
    if (!written.ok()) return written.status();
    bytes->Swap(&*written);
    return true;
  }

  AlertHub* const hub_;
  const std::uint64_t id_;
  std::shared_ptr<Call> self_;
  // From Add() on of the hub's thread.
  std::string run_;
  std::optional<AlertCursor> cursor_;
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

grpc::ServerGenericBidiReactor* AlertHub::Open(CallHead head) {
  std::uint64_t id = 0;
  {
    MutexLock lock(mu_);
    id = next_id_++;
  }
  const auto call = std::make_shared<Call>(this, id, std::move(head));
  call->OwnItself(call);
  return call.get();
}

absl::Status AlertHub::Add(Call* call) {
  {
    MutexLock lock(mu_);
    if (stopping_) {
      return absl::UnavailableError("the collector is shutting down");
    }
    auto place = places_.Take(call->client());
    if (!place.ok()) {
      terms_.guards.Refused(Limit::kWatches);
      return place.status();
    }
    call->TakePlace(*std::move(place));
    calls_[call->id()] = call->self();
  }
  log_->Wake();
  return absl::OkStatus();
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
