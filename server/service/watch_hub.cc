#include "server/service/watch_hub.h"

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/support/slice.h"
#include "server/auth/grpc_door.h"
#include "server/query/watch_cursor.h"
#include "server/service/grpc_status.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// How often calls are looked at without a commit: a run may go LOST.
constexpr std::chrono::seconds kTick{1};
// Whose token has been revoked is told so, if the message before is taken
// within that.
constexpr std::chrono::nanoseconds kRevokedUnread = std::chrono::seconds(2);

// A call that was refused.
class RefusedCall : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedCall(const absl::Status& status) {
    Finish(ToGrpcStatus(status));
  }
  void OnDone() override { delete this; }
};

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

absl::StatusOr<v1::WatchRequest> ParseRequest(const grpc::ByteBuffer& bytes) {
  v1::WatchRequest request;
  grpc::Slice whole;
  if (!bytes.DumpToSingleSlice(&whole).ok() ||
      !request.ParseFromArray(whole.begin(), static_cast<int>(whole.size()))) {
    return absl::InvalidArgumentError("the request is not a WatchRequest");
  }
  return request;
}

}  // namespace

// The reactions of gRPC only note what happened and mark the call due: all else
// is done by the hub's thread, which alone starts operations. No lock is held
// while it does, as gRPC may react on the spot.
class WatchHub::Call : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  Call(WatchHub* hub, std::uint64_t id, grpc::CallbackServerContext* context,
       const v1::WatchRequest& request, Caller caller,
       std::unique_ptr<ClientPlaces::Place> place)
      : hub_(hub),
        id_(id),
        context_(context),
        request_(request),
        caller_(std::move(caller)),
        place_(std::move(place)) {}

  const std::string& run() const { return request_.run(); }
  // It has ended: what is left of it is in nobody's way.
  void LeavePlace() { place_ = nullptr; }

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
    const absl::Status may = hub_->gate_->Recheck(caller_);
    if (!may.ok()) return End(may);
    absl::StatusOr<bool> more = NextMessage();
    if (!more.ok()) {
      if (absl::IsResourceExhausted(more.status())) {
        hub_->environment_->guards.Refused(Limit::kQueryWork);
      }
      return End(
          WithOwnRuns(caller_, *hub_->environment_->store, more.status()));
    }
    if (!*more) {
      if (cursor_->behind()) hub_->MarkDue(id_);
      return;
    }
    {
      MutexLock lock(mu_);
      writing_ = true;
    }
    written_ = std::chrono::steady_clock::now();
    StartWrite(&bytes_);
  }

  void OnWriteDone(bool ok) override ABSL_LOCKS_EXCLUDED(mu_) {
    bytes_.Clear();
    {
      MutexLock lock(mu_);
      writing_ = false;
      if (!ok) cancelled_ = true;
    }
    hub_->MarkDue(id_);
  }

  void OnCancel() override ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    hub_->MarkDue(id_);
  }

  // May destroy this.
  void OnDone() override { hub_->Remove(id_); }

 private:
  // Its reader may not have taken the message, for as long as it likes: it is
  // not asked to take the status either. The call is there for as long as its
  // message is on its way.
  void EndIfUnread() {
    const bool may = hub_->gate_->Recheck(caller_).ok();
    const auto waited = std::chrono::steady_clock::now() - written_;
    if (waited < (may ? hub_->max_unread_ : kRevokedUnread)) return;
    if (may) hub_->environment_->guards.Refused(Limit::kAnswerTime);
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    context_->TryCancel();
  }

  absl::StatusOr<bool> NextMessage() {
    if (cursor_ == nullptr) {
      absl::StatusOr<std::unique_ptr<WatchCursor>> cursor = WatchCursor::Open(
          hub_->environment_, hub_->overheads_, &hub_->questions_, request_);
      if (!cursor.ok()) return cursor.status();
      cursor_ = *std::move(cursor);
    }
    WatchMessage message;
    const absl::StatusOr<bool> more = cursor_->Next(&message);
    if (more.ok() && *more) bytes_ = ToByteBuffer(message);
    return more;
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      finished_ = true;
    }
    Finish(ToGrpcStatus(status));
  }

  WatchHub* const hub_;
  const std::uint64_t id_;
  grpc::CallbackServerContext* const context_;  // There until OnDone().
  const v1::WatchRequest request_;
  const Caller caller_;
  std::unique_ptr<ClientPlaces::Place> place_;
  // Of the hub's thread; bytes_ is gRPC's while writing_.
  std::unique_ptr<WatchCursor> cursor_;
  std::chrono::steady_clock::time_point written_;
  grpc::ByteBuffer bytes_;

  Mutex mu_;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

WatchHub::WatchHub(const QueryEnvironment* environment,
                   OverheadCache* overheads, std::uint32_t max_watches,
                   std::chrono::nanoseconds max_unread, Gate* gate)
    : environment_(environment),
      overheads_(overheads),
      places_("watches", max_watches, max_watches - max_watches / 2),
      max_unread_(max_unread),
      gate_(gate) {
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

grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchHub::Open(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  absl::StatusOr<Caller> caller =
      CallerOf(gate_, environment_->guards, *context);
  if (!caller.ok()) return new RefusedCall(caller.status());
  const absl::StatusOr<v1::WatchRequest> request = ParseRequest(*bytes);
  if (!request.ok()) return new RefusedCall(request.status());
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
      environment_->guards.Refused(Limit::kWatches);
      return new RefusedCall(place.status());
    }
    const std::uint64_t id = next_id_++;
    call = std::make_shared<Call>(this, id, context, *request,
                                  *std::move(caller), *std::move(place));
    calls_[id] = call;
    due_.insert(id);
  }
  due_changed_.NotifyOne();
  return call.get();  // Kept by calls_ until OnDone().
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
