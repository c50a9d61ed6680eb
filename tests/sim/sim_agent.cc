#include "sim/sim_agent.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "agent/delivery/delivery_fixtures.h"
#include "core/codec.h"

namespace gradtap::sim {

using agent::Session;
using agent::SessionOptions;
using agent::SessionState;

namespace {

constexpr Duration kPoll = milliseconds(50);
constexpr Duration kIdleWake = seconds(1);

SessionOptions OptionsOf(const AgentPlan& plan) {
  SessionOptions options;
  options.collector = "sim";
  options.run = "sim";
  options.launch = "launch";
  options.rank = plan.rank;
  options.world_size = 8;
  options.process_nonce = plan.nonce;
  options.start_time_unix_ns = 1'700'000'000'000'000'000;
  return options;
}

// Above the largest record that travels whole.
StepData MakeLargeStep(std::int64_t step, std::uint32_t schema_id,
                       std::size_t places) {
  static const std::vector<ScalarValue> scalars = [] {
    std::vector<ScalarValue> all;
    for (int i = 0; i < 1'020; ++i) {
      std::string name = std::to_string(i);
      name.resize(512, 'x');
      all.push_back({std::move(name), static_cast<double>(i)});
    }
    return all;
  }();
  StepData data = testing::MakeStep(step, schema_id, places);
  data.scalars = scalars;
  return data;
}

}  // namespace

SimAgent::SimAgent(World* world, AgentPlan plan, Mutant mutant,
                   ConnectFn connect)
    : world_(world),
      plan_(std::move(plan)),
      mutant_(mutant),
      connect_(std::move(connect)),
      clock_(world, mutant == Mutant::kTrustWallClock),
      ring_(testing::MakeRing(plan_.ring_bytes, 16 * 1024)),
      recorder_(ring_.get(), &books_, &clock_),
      log_([this](const std::string& line) { last_said_ = line; }),
      session_(OptionsOf(plan_), ring_.get(), &books_, &clock_, &log_,
               [world] { return world->random().Uniform(); }),
      noted_(ring_->CursorAt(1)) {}

std::string SimAgent::Name() const {
  return absl::StrCat("rank ", plan_.rank, " (",
                      static_cast<int>(plan_.nonce[0]), ")");
}

// ---- The training thread. ----

void SimAgent::Train() {
  if (dead_ || ended()) return;
  ++revision_;
  PutSomething();
  world_->After(world_->random().Between(plan_.step / 4, plan_.step * 7 / 4),
                [this] { Train(); });
}

void SimAgent::PutSomething() {
  Random& random = world_->random();
  if (schema_id_ == 0 || random.OneIn(60)) {
    places_ = 1 + random.Below(plan_.max_places);
    recorder_.PutSchema(testing::MakeSchema(++schema_id_, places_));
  }
  if (step_ > 3 && random.OneIn(50)) {
    step_ -= static_cast<std::int64_t>(1 + random.Below(3));
    recorder_.Rollback(step_);
  }
  const std::uint64_t lost_before = books_.missing(GapCause::kRingFull);
  bool refused = false;
  ++offered_;
  if (random.OneIn(9)) {
    recorder_.PutGap(
        random.OneIn(2) ? GapCause::kLoop : GapCause::kCaptureError, step_,
        random.OneIn(2) ? "why" : "");
  } else if (random.OneIn(9)) {
    recorder_.PutStep(testing::MakeSkippedStep(step_, GapCause::kInterval));
  } else if (plan_.large_one_in > 0 && random.OneIn(plan_.large_one_in)) {
    recorder_.PutStep(MakeLargeStep(step_, schema_id_, places_));
  } else {
    refused = plan_.refused_one_in > 0 && random.OneIn(plan_.refused_one_in);
    recorder_.PutStep(
        testing::MakeStep(step_, schema_id_, places_ + (refused ? 1 : 0)));
  }
  ++step_;
  if (mutant_ == Mutant::kCountTwice &&
      books_.missing(GapCause::kRingFull) > lost_before) {
    books_.CountAdmitted(1, 0);
  }
  NoteAdmitted(refused);
}

void SimAgent::EndTraining() {
  if (dead_ || ended()) return;
  ++revision_;
  recorder_.PutEnd(EndReason::kFinished);
  constexpr std::size_t kSeveralGaps = 1024;
  reserve_used_up_ = ring_->FreeBytes(agent::Ring::Room::kAll) < kSeveralGaps;
  NoteAdmitted(false);
  if (world_->random().OneIn(4)) {
    ++offered_;  // Lost: kShutdown.
    recorder_.PutStep(testing::MakeStep(step_++, schema_id_, places_));
  }
}

void SimAgent::NoteAdmitted(bool refused) {
  agent::EntryView entry;
  while (ring_->Next(&noted_, &entry)) {
    ledger_.Note(entry, refused && entry.meta.kind == agent::EntryKind::kStep);
  }
  world_->Trace(Name(), " has made step ", step_ - 1, ", seq ",
                ledger_.last_seq());
  PumpWithin(kPoll);
}

// ---- The delivery thread. ----

void SimAgent::Drain() {
  if (dead_ || finished_) return;
  world_->Trace(Name(), " drains");
  session_.BeginDrain();
  PumpWithin(kPoll);
}

void SimAgent::Kill() {
  if (dead_ || finished_) return;
  world_->Trace(Name(), " is killed");
  dead_ = true;
  if (call_ != nullptr) call_->Cancel(partitioned_);
}

void SimAgent::PumpWithin(Duration most) {
  if (dead_ || finished_) return;
  const Duration at =
      std::max(world_->now() + world_->random().Between(Duration(0), most),
               paused_until_);
  if (wake_at_ >= world_->now() && wake_at_ <= at) return;
  wake_at_ = at;
  const std::uint64_t wake = ++wake_;
  world_->After(at - world_->now(), [this, wake] {
    if (wake == wake_) Pump();
  });
}

void SimAgent::Pump() {
  wake_at_ = Duration(-1);
  ++revision_;
  if (dead_ || finished_) return;
  if (world_->now() < paused_until_) return PumpWithin(Duration(0));
  do {
    if (!inbox_.empty()) {
      const auto event = std::move(inbox_.front());
      inbox_.pop_front();
      event();
    }
    PerformAll();
  } while (!inbox_.empty());
  Require(session_.state() != SessionState::kRefused, Name(),
          " has given up: ", last_said_);
  if (session_.finished()) {
    finished_ = true;
    world_->Trace(Name(), " has finished");
    if (call_ != nullptr) call_->Cancel(partitioned_);
    return;
  }
  const auto deadline = session_.NextDeadline();
  Require(deadline > clock_.Steady(), Name(),
          " has nothing to do, and asks to be called at once");
  Duration until = kIdleWake;
  if (deadline < clock_.Steady() + kIdleWake) {
    until = deadline - clock_.Steady();
  }
  const Duration at = world_->now() + until;
  const std::uint64_t wake = ++wake_;
  wake_at_ = at + world_->random().Between(Duration(0), kPoll);
  world_->After(wake_at_ - world_->now(), [this, wake] {
    if (wake == wake_) Pump();
  });
}

void SimAgent::PerformAll() {
  while (auto action = session_.Next()) Perform(*std::move(action));
}

void SimAgent::Perform(Session::Action action) {
  switch (action.kind) {
    case Session::Action::Kind::kConnect:
      ++calls_;
      if (mutant_ == Mutant::kNeverReconnect && calls_ > 3) return;
      batches_in_call_ = 0;
      credit_ = flying_bytes_ = 0;
      flights_.clear();
      call_ = connect_(this);
      world_->Trace(Name(), " connects: call ", call_->id());
      return;
    case Session::Action::Kind::kSend:
      if (action.message.has_batch()) {
        return SendBatch(std::move(action.message));
      }
      return call_->Send(action.message);
    case Session::Action::Kind::kHalfClose:
      return call_->HalfClose();
    case Session::Action::Kind::kCancel:
      world_->Trace(Name(), " cancels call ", call_->id(), ": ", action.reason);
      return call_->Cancel(partitioned_);
  }
}

void SimAgent::SendBatch(v1::AgentMessage message) {
  v1::Batch* const batch = message.mutable_batch();
  const std::uint64_t last_seq = batch->first_seq() + batch->record_count() - 1;
  CheckCredit(*batch);
  ++batches_in_call_;
  Falsify(batch);
  world_->Trace(Name(), " sends seqs ", batch->first_seq(), " to ",
                batch->first_seq() + batch->record_count() - 1, ", ",
                batch->frame().size(), " bytes");
  call_->Send(message);
  if (mutant_ == Mutant::kFreeOnSend) {
    v1::CollectorMessage forged;
    forged.mutable_ack()->set_durable_seq(last_seq);
    forged.mutable_ack()->set_credit_bytes(credit_);
    world_->After(Duration(0), [this, forged, call = call_.get()] {
      if (Current(call)) session_.OnMessage(forged);
    });
  }
}

void SimAgent::Falsify(v1::Batch* batch) {
  if (mutant_ == Mutant::kReuseSeq && batches_in_call_ > 2 &&
      batch->first_seq() > 1) {
    batch->set_first_seq(batch->first_seq() - 1);
  }
  const bool skips = mutant_ == Mutant::kSkipAfterReconnect && calls_ > 1 &&
                     batches_in_call_ == 1 && batch->record_count() > 1;
  if (!skips && mutant_ != Mutant::kLoseGap) return;
  const std::string content = *DecompressFrame(batch->frame(), 4u << 20);
  const std::vector<std::string_view> records = *SplitRecordList(content);
  std::string falsified;
  for (std::size_t i = skips ? 1 : 0; i < records.size(); ++i) {
    const auto record = ParseRecord(records[i]);
    const bool gap = record.ok() && record->kind == RecordKind::kGap;
    AppendToRecordList(gap && !skips ? std::string_view() : records[i],
                       &falsified);
  }
  batch->set_frame(CompressFrame(falsified));
  if (skips) batch->set_record_count(batch->record_count() - 1);
}

// ---- What the collector allows. ----

void SimAgent::CheckCredit(const v1::Batch& batch) {
  const std::uint64_t bytes = batch.frame().size();
  Require(credit_ > 0, Name(), " sends a batch without credit");
  if (flights_.empty()) {
    Require(bytes <= credit_ || batch.record_count() == 1, Name(), " sends ",
            bytes, " bytes with a credit of ", credit_);
  } else {
    Require(flying_bytes_ + bytes <= credit_, Name(), " sends ", bytes,
            " bytes on top of ", flying_bytes_, " with a credit of ", credit_);
  }
  flights_.push_back({batch.first_seq() + batch.record_count() - 1, bytes});
  flying_bytes_ += bytes;
}

void SimAgent::NoteCredit(const v1::CollectorMessage& message) {
  if (message.has_welcome()) credit_ = message.welcome().credit_bytes();
  if (!message.has_ack()) return;
  credit_ = message.ack().credit_bytes();
  while (!flights_.empty() &&
         flights_.front().last_seq <= message.ack().durable_seq()) {
    flying_bytes_ -= flights_.front().bytes;
    flights_.pop_front();
  }
}

// ---- What comes from the network. ----

void SimAgent::Post(Call* call, std::function<void()> event) {
  if (!Current(call)) return;
  inbox_.push_back([this, call, event = std::move(event)] {
    if (Current(call)) event();
  });
  PumpWithin(milliseconds(1));
}

void SimAgent::OnConnected(Call* call) {
  Post(call, [this] { session_.OnConnected(); });
}

void SimAgent::OnSent(Call* call) {
  Post(call, [this] { session_.OnSent(); });
}

void SimAgent::OnMessage(Call* call, const v1::CollectorMessage& message) {
  Post(call, [this, message] { Take(message); });
}

void SimAgent::OnClosed(Call* call, const absl::Status& status) {
  Post(call, [this, call, status] {
    world_->Trace(Name(), " has lost call ", call->id(), ": ",
                  status.ToString());
    session_.OnClosed(status);
  });
}

void SimAgent::Take(const v1::CollectorMessage& message) {
  NoteCredit(message);
  const std::uint64_t before = acknowledged_seq();
  if (mutant_ == Mutant::kIgnoreCredit) {
    constexpr std::uint64_t kMuch = 1u << 30;
    v1::CollectorMessage generous = message;
    if (generous.has_welcome()) {
      generous.mutable_welcome()->set_credit_bytes(kMuch);
    }
    if (generous.has_ack()) generous.mutable_ack()->set_credit_bytes(kMuch);
    session_.OnMessage(generous);
  } else {
    session_.OnMessage(message);
  }
  for (const v1::Rejection& rejection : message.ack().rejected()) {
    const bool freed_now =
        rejection.seq() > before && rejection.seq() <= acknowledged_seq();
    rejections_heard_ += freed_now ? 1 : 0;
  }
}

// ---- The books. ----

void SimAgent::CheckBooks() const {
  const agent::DeliveryCounters c = books_.Snapshot();
  const Sums& made = ledger_.SumsThrough(ledger_.last_seq());
  const Sums& freed = ledger_.SumsThrough(acknowledged_seq());
  const auto found = c.by_cause.find(GapCause::kRejected);
  const std::uint64_t rejected = found == c.by_cause.end() ? 0 : found->second;
  Require(c.steps_seen == offered_, Name(), " was offered ", offered_,
          " steps and counts ", c.steps_seen);
  Require(c.steps_seen == c.steps_recorded + c.steps_skipped + c.steps_lost,
          Name(), ": the books do not balance");
  Require(c.steps_recorded + rejected == made.steps_recorded, Name(),
          " counts ", c.steps_recorded, " steps recorded and ", rejected,
          " rejected; it admitted ", made.steps_recorded);
  Require(c.steps_acknowledged + rejected == freed.steps_recorded, Name(),
          " counts ", c.steps_acknowledged, " steps acknowledged and ",
          rejected, " rejected; it freed ", freed.steps_recorded);
  // The Ack that named one may have been lost with its call.
  Require(rejected == rejections_heard_ && rejected <= freed.steps_rejected,
          Name(), " counts ", rejected, " steps rejected; it was told of ",
          rejections_heard_, " of ", freed.steps_rejected);
}

}  // namespace gradtap::sim
