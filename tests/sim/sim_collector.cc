#include "sim/sim_collector.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

namespace gradtap::sim {

using server::AckOut;
using server::CommitTask;
using server::RejectOut;
using server::WelcomeOut;

namespace {

constexpr Duration kTick = milliseconds(500);
constexpr Duration kDrainTime = seconds(10);

server::HelloUntrusted FromMessage(const v1::Hello& message) {
  server::HelloUntrusted hello;
  hello.protocol_version = message.protocol_version();
  hello.run = message.run();
  hello.launch = message.launch();
  hello.rank = message.rank();
  hello.world_size = message.world_size();
  hello.process_nonce = message.process_nonce();
  hello.start_time_unix_ns = message.start_time_unix_ns();
  hello.agent_version = message.agent_version();
  hello.host = message.host();
  hello.pid = message.pid();
  return hello;
}

}  // namespace

SimCollector::SimCollector(World* world, const Clock* clock,
                           const server::IngestLimits& limits,
                           const CollectorMood* mood, SimDisk* disk,
                           StoreObserver* observer, Mutant mutant)
    : world_(world),
      clock_(clock),
      limits_(limits),
      mood_(mood),
      mutant_(mutant),
      store_(disk, world, observer, mutant),
      runner_(&store_, clock, limits),
      live_(limits.max_sessions, limits.join_bytes) {
  Tick();
}

// ---- The mailbox of a call, as in SessionCall. ----

SimCollector::Served* SimCollector::Find(const Call* call) {
  for (const auto& served : calls_) {
    if (served->call.get() == call) return served.get();
  }
  return nullptr;
}

void SimCollector::Post(Served* served, std::function<void()> event) {
  if (!alive_ || served == nullptr) return;
  served->mailbox.push_back(std::move(event));
  if (std::exchange(served->emptying, true)) return;
  Duration delay = world_->random().Between(Duration(0), microseconds(300));
  delay = std::max(delay, mood_->paused_until - world_->now());
  world_->After(delay, [this, served] { Empty(served); });
}

void SimCollector::Empty(Served* served) {
  while (alive_ && !served->mailbox.empty()) {
    const auto event = std::move(served->mailbox.front());
    served->mailbox.pop_front();
    event();
    Pump(served);
  }
  served->emptying = false;
}

void SimCollector::Pump(Served* served) {
  if (served->ended) return;
  server::CallState::Operations next = served->state->Next();
  if (next.ends) live_.EndCall(served);
  if (next.cancel) Post(served, [served] { served->state->OnWritten(false); });
  if (next.write.has_value()) {
    served->call->Write(ToMessage(*next.write, served));
  }
  if (next.read) served->call->WantRead();
  if (next.finish.has_value()) EndCall(served, *next.finish);
}

void SimCollector::EndCall(Served* served, const absl::Status& status) {
  world_->Trace("collector ends call ", served->call->id(), ": ",
                status.ToString());
  served->ended = true;
  served->call->Finish(status);
  live_.RemoveCall(served);
  if (mutant_ == Mutant::kHoldLiveSession && served->hello.has_value()) {
    std::shared_ptr<server::LiveStream> held;
    (void)live_.Admit(*server::ValidateHello(*served->hello), &held);
  }
}

// ---- What happens to a call. ----

void SimCollector::OnCall(const std::shared_ptr<Call>& call) {
  if (!alive_) return call->LoseCollector(milliseconds(1));
  auto served = std::make_shared<Served>();
  Served* const raw = served.get();
  served->call = call;
  served->state = std::make_unique<server::CallState>(
      limits_, &live_, clock_,
      [this, raw](server::StreamHello hello) {
        CommitTask task;
        task.hello = std::move(hello);
        task.open_done = [this, raw](absl::StatusOr<server::OpenedStream> s) {
          Post(raw, [raw, s] { raw->state->OnOpened(s); });
        };
        Submit(std::move(task));
      },
      [this, raw](std::unique_ptr<server::ValidatedBatch> batch) {
        CommitTask task;
        task.batch = std::move(batch);
        task.commit_done = [this, raw](const server::ValidatedBatch& done,
                                       const absl::Status& status) {
          Post(raw, [raw, last_seq = done.commit.last_seq,
                     bytes = server::BytesHeld(done), rejected = done.rejected,
                     status] {
            raw->state->OnCommitted(last_seq, bytes, rejected, status);
          });
        };
        Submit(std::move(task));
      });
  calls_.push_back(served);
  switch (live_.AddCall(served)) {
    case server::LiveSessions::Entry::kFull:
      return EndCall(raw, absl::ResourceExhaustedError("too many calls"));
    case server::LiveSessions::Entry::kDraining:
      return Post(raw, [raw] { raw->state->OnDrain(); });
    case server::LiveSessions::Entry::kOk:
      return Post(raw, [] {});
  }
}

void SimCollector::OnRead(Call* call, const v1::AgentMessage* message) {
  Served* const served = Find(call);
  if (message == nullptr) {
    return Post(served, [served] { served->state->OnHalfClose(); });
  }
  Post(served,
       [this, served, message = *message] { Receive(served, message); });
}

void SimCollector::OnWritten(Call* call, bool ok) {
  Served* const served = Find(call);
  Post(served, [served, ok] { served->state->OnWritten(ok); });
}

void SimCollector::OnGone(Call* call) {
  Served* const served = Find(call);
  Post(served, [served] { served->state->OnGone(); });
}

void SimCollector::Receive(Served* served, const v1::AgentMessage& message) {
  switch (message.kind_case()) {
    case v1::AgentMessage::kHello:
      served->hello = FromMessage(message.hello());
      return served->state->OnHello(*served->hello);
    case v1::AgentMessage::kBatch:
      return ReceiveBatch(served, message.batch());
    case v1::AgentMessage::kHeartbeat:
      return served->state->OnHeartbeat();
    case v1::AgentMessage::kBye:
      return served->state->OnBye();
    case v1::AgentMessage::KIND_NOT_SET:
      return served->state->OnUnknownMessage();
  }
}

void SimCollector::ReceiveBatch(Served* served, const v1::Batch& batch) {
  std::uint64_t first_seq = batch.first_seq();
  if (mutant_ == Mutant::kAcceptGap) {
    if (++served->batches % 4 == 0) return served->state->OnHeartbeat();
    if (served->expected_seq != 0) {
      first_seq = std::min(first_seq, served->expected_seq);
    }
    served->expected_seq = first_seq + batch.record_count();
  }
  served->state->OnBatch(first_seq, batch.record_count(), batch.frame());
}

v1::CollectorMessage SimCollector::ToMessage(const server::SessionOut& out,
                                             Served* served) {
  v1::CollectorMessage message;
  if (const auto* welcome = std::get_if<WelcomeOut>(&out)) {
    v1::Welcome* const to = message.mutable_welcome();
    to->set_attempt(welcome->attempt);
    to->set_next_seq(welcome->next_seq);
    to->set_credit_bytes(limits_.credit_bytes);
    to->set_max_batch_bytes(limits_.max_batch_bytes);
    to->set_protocol_version(server::kProtocolVersion);
    to->set_last_step_of_run(welcome->last_step_of_run);
    served->durable_seq = welcome->next_seq - 1;
    world_->Trace("collector welcomes call ", served->call->id(), " to seq ",
                  welcome->next_seq);
  } else if (const auto* reject = std::get_if<RejectOut>(&out)) {
    v1::Reject* const to = message.mutable_reject();
    to->set_code(static_cast<v1::Reject::Code>(reject->code));
    to->set_retry(reject->retry);
    to->set_detail(reject->detail);
    world_->Trace("collector rejects call ", served->call->id(), ": ",
                  reject->detail);
  } else if (const auto* ack = std::get_if<AckOut>(&out)) {
    v1::Ack* const to = message.mutable_ack();
    to->set_durable_seq(ack->durable_seq);
    to->set_credit_bytes(mood_->credit.value_or(limits_.credit_bytes));
    for (const server::RejectedRecord& rejected : ack->rejected) {
      v1::Rejection* const entry = to->add_rejected();
      entry->set_seq(rejected.seq);
      entry->set_reason(rejected.reason);
      entry->set_count(rejected.count);
    }
    served->durable_seq = ack->durable_seq;
    world_->Trace("collector acknowledges seq ", ack->durable_seq, " in call ",
                  served->call->id(), ", credit ", to->credit_bytes());
  }
  return message;
}

void SimCollector::RepeatAcks() {
  for (const auto& served : calls_) {
    if (!alive_ || served->ended || served->durable_seq == 0) continue;
    served->call->Write(
        ToMessage(AckOut{served->durable_seq, {}}, served.get()), true);
  }
}

// ---- The committer: what queues up during a write goes into the next. ----

void SimCollector::Submit(CommitTask task) {
  queue_.push_back(std::move(task));
  StartCommitting();
}

void SimCollector::StartCommitting() {
  if (committing_ || queue_.empty()) return;
  committing_ = true;
  auto tasks =
      std::make_shared<std::deque<CommitTask>>(std::exchange(queue_, {}));
  Duration delay = world_->random().Between(microseconds(100), mood_->sync);
  delay = std::max(delay, mood_->paused_until - world_->now());
  world_->After(delay, [this, tasks] {
    if (alive_) Commit(std::move(*tasks));
  });
}

void SimCollector::Commit(std::deque<CommitTask> tasks) {
  world_->Trace("collector runs ", tasks.size(), " tasks");
  try {
    runner_.Run(std::move(tasks));
  } catch (const CollectorDies&) {
    return Kill(milliseconds(1));
  }
  committing_ = false;
  StartCommitting();
}

// ---- The process. ----

void SimCollector::Tick() {
  world_->After(kTick, [this] {
    if (!alive_) return;
    for (const auto& served : calls_) {
      if (served->ended) continue;
      Post(served.get(), [raw = served.get()] { raw->state->OnTick(); });
    }
    Tick();
  });
}

void SimCollector::Kill(Duration notice) {
  if (!alive_) return;
  alive_ = false;
  world_->Trace("collector is dead");
  queue_.clear();
  for (const auto& served : calls_) {
    served->mailbox.clear();
    served->call->LoseCollector(
        world_->random().Between(microseconds(100), notice));
  }
}

void SimCollector::Drain() {
  if (!alive_ || std::exchange(draining_, true)) return;
  world_->Trace("collector drains");
  live_.BeginDrain();
  for (const auto& served : calls_) {
    if (served->ended) continue;
    Post(served.get(), [raw = served.get()] { raw->state->OnDrain(); });
  }
  world_->After(milliseconds(100), [this] { EndDraining(); });
  world_->After(kDrainTime, [this] { Kill(milliseconds(1)); });
}

void SimCollector::EndDraining() {
  if (!alive_) return;
  const bool ended =
      std::all_of(calls_.begin(), calls_.end(),
                  [](const auto& served) { return served->ended; });
  if (ended && !committing_ && queue_.empty()) return Kill(milliseconds(1));
  world_->After(milliseconds(100), [this] { EndDraining(); });
}

}  // namespace gradtap::sim
