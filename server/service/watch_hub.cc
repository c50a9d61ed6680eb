#include "server/service/watch_hub.h"

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/support/slice.h"
#include "server/query/watch_cursor.h"
#include "server/service/request_bytes.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// How often calls are looked at without a commit: a run may go LOST.
constexpr std::chrono::seconds kTick{1};

// Bytes that gRPC holds on to for as long as it needs them.
template <typename Owner>
grpc::Slice SharedSlice(std::shared_ptr<Owner> owner,
                        const std::string& bytes) {
  auto* held = new std::shared_ptr<Owner>(std::move(owner));
  return grpc::Slice(
      const_cast<char*>(bytes.data()), bytes.size(),
      [](void* of) { delete static_cast<std::shared_ptr<Owner>*>(of); }, held);
}

grpc::ByteBuffer ToByteBuffer(const WatchMessage& message) {
  std::vector<grpc::Slice> slices;
  if (message.event != nullptr) {
    for (const std::string* part :
         {&message.event->head, &message.event->rows}) {
      if (!part->empty()) slices.push_back(SharedSlice(message.event, *part));
    }
  }
  if (!message.rest.empty() || slices.empty()) {
    slices.emplace_back(message.rest);
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

}  // namespace

// Of itself until OnDone(), and of the hub.
class WatchHub::Call final : public WatcherCall {
 public:
  Call(WatchHub* hub, std::uint64_t id, CallHead head)
      : WatcherCall(hub->terms_, std::move(head)), hub_(hub), id_(id) {}

  void OwnItself(std::shared_ptr<Call> self) { self_ = std::move(self); }
  std::shared_ptr<Call> self() const { return self_; }
  std::uint64_t id() const { return id_; }
  const std::string& run() const { return run_; }
  using RequestCall::client;

  void OnDone() override {
    const std::shared_ptr<Call> last = std::move(self_);
    hub_->Remove(id_);
  }

 private:
  void OnRequest(grpc::ByteBuffer bytes) override {
    auto request = ReadRequestOf<v1::WatchRequest>(hub_->terms_.gate, caller(),
                                                   guards(), std::move(bytes));
    absl::Status status = request.status();
    if (request.ok()) {
      request_ = *std::move(request);
      run_ = request_->run();
      status = hub_->Add(this);
    }
    if (!status.ok()) RequestCall::End(status);
  }

  void Wake() override { hub_->MarkDue(id_); }

  absl::StatusOr<bool> Next(grpc::ByteBuffer* bytes) override {
    WatchMessage message;
    const absl::StatusOr<bool> more = Ask(&message);
    if (absl::IsResourceExhausted(more.status())) {
      guards().Refused(Limit::kQueryWork);
    }
    if (!more.ok()) {
      return WithOwnRuns(caller(), *hub_->environment_->store, more.status());
    }
    if (*more) {
      *bytes = ToByteBuffer(message);
    } else if (cursor_->behind()) {
      Wake();
    }
    return *more;
  }

  absl::StatusOr<bool> Ask(WatchMessage* message) {
    if (cursor_ == nullptr) {
      absl::StatusOr<std::unique_ptr<WatchCursor>> cursor = WatchCursor::Open(
          hub_->environment_, hub_->overheads_, &hub_->questions_, *request_);
      if (!cursor.ok()) return cursor.status();
      cursor_ = *std::move(cursor);
      request_ = nullptr;
    }
    return cursor_->Next(message);
  }

  WatchHub* const hub_;
  const std::uint64_t id_;
  std::shared_ptr<Call> self_;
  std::string run_;
  // From Add() on of the hub's thread. The cursor has what it needs of the
  // request.
  std::shared_ptr<const v1::WatchRequest> request_;
  std::unique_ptr<WatchCursor> cursor_;
};

WatchHub::WatchHub(const QueryEnvironment* environment,
                   OverheadCache* overheads, std::uint32_t max_watches,
                   std::chrono::nanoseconds max_unread, Gate* gate)
    : environment_(environment),
      overheads_(overheads),
      places_("watches", max_watches, max_watches - max_watches / 2),
      terms_{gate, environment->guards, max_unread} {
  listener_ = environment_->store->AddListener(
      [this](const std::string& run) { MarkRunDue(run); });
  thread_ = std::thread([this] { Feed(); });
}

WatchHub::~WatchHub() {
  environment_->store->RemoveListener(listener_);
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  due_changed_.NotifyAll();
  thread_.join();
}

grpc::ServerGenericBidiReactor* WatchHub::Open(CallHead head) {
  std::uint64_t id = 0;
  {
    MutexLock lock(mu_);
    id = next_id_++;
  }
  const auto call = std::make_shared<Call>(this, id, std::move(head));
  call->OwnItself(call);
  return call.get();
}

absl::Status WatchHub::Add(Call* call) {
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
    due_.insert(call->id());
  }
  due_changed_.NotifyOne();
  return absl::OkStatus();
}

void WatchHub::Shutdown(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  stopping_ = true;
  for (const auto& [id, call] : calls_) due_.insert(id);
  due_changed_.NotifyOne();
  while (!calls_.empty() && call_ended_.WaitUntil(mu_, deadline)) {
  }
}

std::uint32_t WatchHub::open() const {
  MutexLock lock(mu_);
  return static_cast<std::uint32_t>(calls_.size());
}

void WatchHub::MarkDue(std::uint64_t id) {
  {
    MutexLock lock(mu_);
    due_.insert(id);
  }
  due_changed_.NotifyOne();
}

void WatchHub::MarkRunDue(const std::string& run) {
  {
    MutexLock lock(mu_);
    for (const auto& [id, call] : calls_) {
      if (call->run() == run) due_.insert(id);
    }
    if (due_.empty()) return;
  }
  due_changed_.NotifyOne();
}

void WatchHub::Remove(std::uint64_t id) {
  std::shared_ptr<Call> call;  // Outlives the lock.
  MutexLock lock(mu_);
  const auto it = calls_.find(id);
  if (it == calls_.end()) return;
  call = std::move(it->second);
  calls_.erase(it);
  call->LeavePlace();
  call_ended_.NotifyAll();
}

void WatchHub::Feed() {
  auto next_tick = std::chrono::steady_clock::now() + kTick;
  for (;;) {
    std::vector<std::shared_ptr<Call>> calls;
    bool stopping;
    {
      MutexLock lock(mu_);
      while (due_.empty() && !closed_ &&
             due_changed_.WaitUntil(mu_, next_tick)) {
      }
      if (closed_) return;
      if (std::chrono::steady_clock::now() >= next_tick) {
        next_tick = std::chrono::steady_clock::now() + kTick;
        for (const auto& [id, call] : calls_) due_.insert(id);
        if (calls_.empty()) questions_.Clear();
      }
      for (const std::uint64_t id : due_) {
        const auto it = calls_.find(id);
        if (it != calls_.end()) calls.push_back(it->second);
      }
      due_.clear();
      stopping = stopping_;
    }
    for (const std::shared_ptr<Call>& call : calls) call->Pump(stopping);
  }
}

}  // namespace gradtap::server
