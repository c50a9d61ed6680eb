#include "server/ingest/session_call.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/session_facts.h"
#include "server/ingest/agent_message.h"

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
  explicit RefusedCall(const absl::Status& status) { Finish(ToGrpc(status)); }
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

SessionReactor* SessionCall::Start(IngestShared* shared,
                                   absl::StatusOr<Caller> caller,
                                   grpc::CallbackServerContext* context,
                                   std::shared_ptr<OpenConnection> connection) {
  if (!caller.ok()) return new RefusedCall(caller.status());
  context->AddTrailingMetadata(kVersionMetadata, GRADTAP_VERSION);
  context->AddTrailingMetadata(kTimeMetadata,
                               absl::StrCat(shared->clock->UnixNanos()));
  const auto& asked = context->client_metadata();
  if (const auto run = asked.find(kRunMetadata); run != asked.end()) {
    const absl::Status may = shared->gate->CheckRun(
        *caller, {run->second.data(), run->second.size()});
    if (!may.ok()) return new RefusedCall(may);
  }
  const std::string client = ClientName(*caller, context->peer());
  std::shared_ptr<SessionCall> call(new SessionCall(
      shared, *std::move(caller), client, context, std::move(connection)));
  const LiveSessions::Entry entry = shared->live.AddCall(call, client);
  if (entry == LiveSessions::Entry::kFull) {
    shared->limits.guards.Refused(Limit::kCalls);
    return new RefusedCall(absl::ResourceExhaustedError(
        "the collector has too many open calls; try again later"));
  }
  call->self_ = call;
  if (entry == LiveSessions::Entry::kDraining) {
    call->Drain();
  } else {
    call->Post([] {});  // Starts reading.
  }
  return call.get();
}

SessionCall::SessionCall(IngestShared* shared, Caller caller,
                         const std::string& client,
                         grpc::CallbackServerContext* context,
                         std::shared_ptr<OpenConnection> connection)
    : shared_(shared),
      caller_(std::move(caller)),
      context_(context),
      connection_(std::move(connection)),
      state_(
          shared->limits, &shared->live, shared->clock,
          [this](StreamHello hello) { Open(std::move(hello)); },
          [this](std::unique_ptr<ValidatedBatch> batch) {
            Commit(std::move(batch));
          },
          client) {}

void SessionCall::Post(Mailbox::Event event) {
  const std::shared_ptr<SessionCall> keep = shared_from_this();
  mailbox_.Post([this, event = std::move(event)] {
    event();
    StartOperations();
  });
}

void SessionCall::PostShort(Mailbox::Event event) {
  const std::shared_ptr<SessionCall> keep = shared_from_this();
  mailbox_.PostShort([this, event = std::move(event)] {
    event();
    StartOperations();
  });
}

void SessionCall::Tick() {
  Post([this] {
    const absl::Status may = shared_->gate->Recheck(caller_);
    may.ok() ? state_.OnTick() : state_.OnForbidden(may);
  });
}

void SessionCall::Drain() {
  Post([this] { state_.OnDrain(); });
}

void SessionCall::OnReadDone(bool ok) {
  Post([this, ok] { ok ? Receive() : state_.OnHalfClose(); });
}

void SessionCall::OnWriteDone(bool ok) {
  Post([this, ok] { state_.OnWritten(ok); });
}

void SessionCall::OnCancel() {
  Post([this] { state_.OnGone(); });
}

void SessionCall::OnDone() {
  const std::shared_ptr<SessionCall> last = std::move(self_);
  shared_->live.RemoveCall(this);
}

// ---- The thread that empties the mailbox. ----

// What came is held while it is looked at, and no longer.
void SessionCall::Receive() {
  grpc::ByteBuffer received;
  received.Swap(&in_);
  if (connection_ != nullptr) connection_->Took(received.Length());
  grpc::Slice message;
  // An empty message may be no slice at all.
  if (received.Length() > 0 && !received.DumpToSingleSlice(&message).ok()) {
    return state_.OnForbidden(absl::ResourceExhaustedError("out of memory"));
  }
  received.Clear();
  Take({reinterpret_cast<const char*>(message.begin()), message.size()});
}

void SessionCall::Take(std::string_view message_untrusted) {
  const absl::StatusOr<AgentMessage> message =
      ReadAgentMessage(message_untrusted);
  if (!message.ok()) return state_.OnForbidden(message.status());
  if (message->kind == AgentMessage::Kind::kBatch) {
    ++shared_->batches;
    return state_.OnBatch(message->first_seq, message->record_count,
                          message->frame);
  }
  if (message_untrusted.size() > kMaxWordBytes) {
    shared_->limits.guards.Refused(Limit::kRequestBytes);
    return state_.OnForbidden(absl::InvalidArgumentError(absl::StrCat(
        "a message that is no Batch has ", message_untrusted.size(),
        " bytes; it may have ", kMaxWordBytes)));
  }
  switch (message->kind) {
    case AgentMessage::Kind::kHello:
      return Greet(message->hello);
    case AgentMessage::Kind::kHeartbeat:
      return state_.OnHeartbeat();
    case AgentMessage::Kind::kBye:
      return state_.OnBye();
    default:
      return state_.OnUnknownMessage();
  }
}

// Which run it is for is known from here on.
void SessionCall::Greet(std::string_view hello_untrusted) {
  v1::Hello hello;
  if (!hello.ParseFromArray(hello_untrusted.data(),
                            static_cast<int>(hello_untrusted.size()))) {
    return state_.OnForbidden(
        absl::InvalidArgumentError("a Hello cannot be read"));
  }
  const absl::Status may = shared_->gate->CheckRun(caller_, hello.run());
  if (!may.ok()) return state_.OnForbidden(may);
  state_.OnHello(FromMessage(hello));
}

void SessionCall::Open(StreamHello hello) {
  shared_->committer.Open(
      std::move(hello),
      [self = shared_from_this()](absl::StatusOr<OpenedStream> opened) {
        // An event is copied.
        const auto shared =
            std::make_shared<const absl::StatusOr<OpenedStream>>(
                std::move(opened));
        self->PostShort(
            [call = self.get(), shared] { call->state_.OnOpened(*shared); });
      });
}

void SessionCall::Commit(std::unique_ptr<ValidatedBatch> batch) {
  shared_->committer.Commit(std::move(batch), [self = shared_from_this()](
                                                  const ValidatedBatch& done,
                                                  const absl::Status& status) {
    self->PostShort([call = self.get(), last_seq = done.commit.last_seq,
                     bytes = BytesHeld(done), rejected = done.rejected,
                     status] {
      call->state_.OnCommitted(last_seq, bytes, rejected, status);
    });
  });
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
      if (rejected.count > 1) entry->set_count(rejected.count);
    }
  }
  return message;
}

void SessionCall::StartOperations() {
  CallState::Operations next = state_.Next();
  if (next.ends) shared_->live.EndCall(this);
  // A write is under way, so that the call is not done.
  if (next.cancel) context_->TryCancel();
  if (next.write.has_value()) {
    const grpc::Slice message(ToMessage(*next.write).SerializeAsString());
    out_ = grpc::ByteBuffer(&message, 1);
    StartWrite(&out_);
  }
  if (next.read) StartRead(&in_);
  if (next.finish.has_value()) Finish(ToGrpc(*next.finish));
}

}  // namespace gradtap::server
