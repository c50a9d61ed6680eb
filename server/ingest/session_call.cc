#include "server/ingest/session_call.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

// The only place where a status becomes gRPC's. Codes are the same numbers.
grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()),
          EscapeForTerminal(std::string(status.message()))};
}

// A call that is over before it has begun.
class RefusedCall final : public SessionReactor {
 public:
  RefusedCall() {
    Finish({grpc::StatusCode::RESOURCE_EXHAUSTED,
            "the collector has too many open calls; try again later"});
  }
  void OnDone() override { delete this; }
};

HelloUntrusted FromMessage(const v1::Hello& message_untrusted) {
  HelloUntrusted hello;
  hello.protocol_version = message_untrusted.protocol_version();
  hello.run = message_untrusted.run();
  hello.launch = message_untrusted.launch();
  hello.rank = message_untrusted.rank();
  hello.world_size = message_untrusted.world_size();
  hello.process_nonce = message_untrusted.process_nonce();
  hello.start_time_unix_ns = message_untrusted.start_time_unix_ns();
  hello.agent_version = message_untrusted.agent_version();
  hello.torch_version = message_untrusted.torch_version();
  hello.host = message_untrusted.host();
  hello.pid = message_untrusted.pid();
  for (const v1::Tag& tag : message_untrusted.tags()) {
    hello.tags.emplace_back(tag.key(), tag.value());
  }
  return hello;
}

}  // namespace

SessionReactor* SessionCall::Start(IngestShared* shared) {
  std::shared_ptr<SessionCall> call(new SessionCall(shared));
  const LiveSessions::Entry entry = shared->live.AddCall(call);
  if (entry == LiveSessions::Entry::kFull) return new RefusedCall();
  call->self_ = call;
  if (entry == LiveSessions::Entry::kDraining) {
    call->Drain();
  } else {
    call->Post([] {});  // Starts reading.
  }
  return call.get();
}

SessionCall::SessionCall(IngestShared* shared)
    : shared_(shared), session_(shared->limits, shared->clock->Steady()) {}

void SessionCall::Post(std::function<void()> event) {
  const std::shared_ptr<SessionCall> keep = shared_from_this();
  {
    MutexLock lock(mailbox_mu_);
    mailbox_.push_back(std::move(event));
    if (std::exchange(emptying_, true)) return;
  }
  for (;;) {
    std::function<void()> next;
    {
      MutexLock lock(mailbox_mu_);
      if (mailbox_.empty()) {
        emptying_ = false;
        return;
      }
      next = std::move(mailbox_.front());
      mailbox_.pop_front();
    }
    next();
    StartOperations();
  }
}

void SessionCall::Tick() {
  Post([this] { Perform(session_.OnTick(shared_->clock->Steady())); });
}

void SessionCall::Drain() {
  Post([this] { Perform(session_.OnDrain()); });
}

void SessionCall::OnReadDone(bool ok) {
  Post([this, ok] {
    reading_ = false;
    Perform(ok ? Receive() : session_.OnHalfClose());
  });
}

void SessionCall::OnWriteDone(bool ok) {
  Post([this, ok] {
    writing_ = false;
    if (ok) return;
    gone_ = true;
    Perform(session_.OnGone());
  });
}

void SessionCall::OnCancel() {
  Post([this] {
    gone_ = true;
    Perform(session_.OnGone());
  });
}

void SessionCall::OnDone() {
  const std::shared_ptr<SessionCall> last = std::move(self_);
  shared_->live.RemoveCall(this);
}

// ---- The thread that empties the mailbox. ----

SessionActions SessionCall::Receive() {
  const auto now = shared_->clock->Steady();
  const std::int64_t now_unix_ns = shared_->clock->UnixNanos();
  if (live_ != nullptr) live_->last_seen_unix_ns = now_unix_ns;
  switch (in_.kind_case()) {
    case v1::AgentMessage::kHello:
      return session_.OnHello(FromMessage(in_.hello()), now);
    case v1::AgentMessage::kBatch:
      ++shared_->batches;
      return session_.OnBatch(in_.batch().first_seq(),
                              in_.batch().record_count(), in_.batch().frame(),
                              now_unix_ns, now);
    case v1::AgentMessage::kHeartbeat:
      return session_.OnHeartbeat(now);
    case v1::AgentMessage::kBye:
      return session_.OnBye(now);
    case v1::AgentMessage::KIND_NOT_SET:
      break;
  }
  return session_.OnUnknownMessage(now);
}

void SessionCall::Perform(SessionActions actions) {
  for (SessionOut& out : actions.send) Queue(std::move(out));
  if (actions.finish.has_value()) finish_ = std::move(actions.finish);
  if (actions.open.has_value()) Open(*std::move(actions.open));
  if (actions.commit != nullptr) {
    shared_->committer.Commit(
        std::move(actions.commit),
        [self = shared_from_this()](const ValidatedBatch& batch,
                                    const absl::Status& status) {
          self->Post([call = self.get(), last_seq = batch.commit.last_seq,
                      bytes = BytesHeld(batch), rejected = batch.rejected,
                      status] {
            call->Perform(
                call->session_.OnCommitted(last_seq, bytes, rejected, status,
                                           call->shared_->clock->Steady()));
          });
        });
  }
}

void SessionCall::Open(StreamHello hello) {
  switch (shared_->live.Admit(hello, &live_)) {
    case LiveSessions::Admission::kOk:
      break;
    case LiveSessions::Admission::kDuplicate:
      return Perform(session_.OnRefused(
          RejectCode::kDuplicate,
          "this process's stream has a live session already"));
    case LiveSessions::Admission::kLimit:
      return Perform(session_.OnRefused(
          RejectCode::kLimit,
          absl::StrCat("this collector takes at most ",
                       shared_->limits.max_sessions, " sessions")));
  }
  live_->last_seen_unix_ns = shared_->clock->UnixNanos();
  shared_->committer.Open(
      std::move(hello),
      [self = shared_from_this()](const absl::StatusOr<OpenedStream>& opened) {
        self->Post([call = self.get(), opened] {
          if (call->session_.finished()) return;
          if (opened.ok()) {
            call->shared_->live.SetId(call->live_.get(), opened->entry.id);
            return call->Perform(call->session_.OnOpened(
                *opened, call->shared_->clock->Steady()));
          }
          call->Perform(call->session_.OnRefused(
              absl::IsResourceExhausted(opened.status())
                  ? RejectCode::kLimit
                  : RejectCode::kUnavailable,
              std::string(opened.status().message())));
        });
      });
}

void SessionCall::Queue(SessionOut out) {
  // Acks are cumulative: one that has not left yet takes in the next.
  if (auto* ack = std::get_if<AckOut>(&out);
      ack != nullptr && !outbox_.empty()) {
    if (auto* waiting = std::get_if<AckOut>(&outbox_.back())) {
      waiting->durable_seq = ack->durable_seq;
      waiting->rejected.insert(waiting->rejected.end(), ack->rejected.begin(),
                               ack->rejected.end());
      return;
    }
  }
  outbox_.push_back(std::move(out));
}

v1::CollectorMessage SessionCall::ToMessage(const SessionOut& out) const {
  v1::CollectorMessage message;
  if (const auto* welcome = std::get_if<WelcomeOut>(&out)) {
    v1::Welcome* to = message.mutable_welcome();
    to->set_attempt(welcome->attempt);
    to->set_next_seq(welcome->next_seq);
    to->set_credit_bytes(shared_->limits.credit_bytes);
    to->set_max_batch_bytes(shared_->limits.max_batch_bytes);
    to->set_max_parameters(shared_->limits.max_parameters);
    to->set_collector_version(GRADTAP_VERSION);
    to->set_protocol_version(kProtocolVersion);
    to->set_last_step_of_run(welcome->last_step_of_run);
  } else if (const auto* reject = std::get_if<RejectOut>(&out)) {
    v1::Reject* to = message.mutable_reject();
    to->set_code(static_cast<v1::Reject::Code>(reject->code));
    to->set_retry(reject->retry);
    to->set_detail(reject->detail);
  } else if (const auto* ack = std::get_if<AckOut>(&out)) {
    v1::Ack* to = message.mutable_ack();
    to->set_durable_seq(ack->durable_seq);
    to->set_credit_bytes(shared_->limits.credit_bytes);
    for (const RejectedRecord& rejected : ack->rejected) {
      v1::Rejection* entry = to->add_rejected();
      entry->set_seq(rejected.seq);
      entry->set_reason(rejected.reason);
    }
  }
  return message;
}

bool SessionCall::OutboxIsLong() const {
  constexpr std::size_t kManyRejections = 500;
  if (outbox_.empty()) return false;
  const auto* ack = std::get_if<AckOut>(&outbox_.back());
  return ack != nullptr && ack->rejected.size() >= kManyRejections;
}

void SessionCall::StartOperations() {
  if (finish_started_) return;
  if (gone_) outbox_.clear();
  // Before the peer can know: it may connect again at once. What is still in
  // the committer's queue stands before its next session's opening.
  if (finish_.has_value() && live_ != nullptr) {
    shared_->live.Release(*std::exchange(live_, nullptr));
  }
  if (!writing_ && !outbox_.empty()) {
    out_ = ToMessage(outbox_.front());
    outbox_.pop_front();
    writing_ = true;
    StartWrite(&out_);
  }
  if (!reading_ && !gone_ && session_.wants_read() && !OutboxIsLong()) {
    reading_ = true;
    StartRead(&in_);
  }
  if (finish_.has_value() && !writing_ && outbox_.empty()) {
    finish_started_ = true;
    Finish(ToGrpc(*finish_));
  }
}

}  // namespace gradtap::server
