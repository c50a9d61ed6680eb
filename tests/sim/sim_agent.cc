#include "sim/sim_agent.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/ring_maker.h"
#include "core/codec.h"

namespace gradtap::sim {

using agent::SessionState;

namespace {

constexpr Duration kPoll = milliseconds(50);
constexpr Duration kIdleWake = seconds(1);
constexpr std::size_t kReserveBytes = 16 * 1024;

agent::SpoolIdentity IdentityOf(const AgentPlan& plan) {
  agent::SpoolIdentity identity;
  identity.run = "sim";
  identity.collector = "sim";
  identity.launch = "launch";
  identity.rank = plan.rank;
  identity.world_size = 8;
  identity.process_nonce = plan.nonce;
  identity.start_time_unix_ns = 1'700'000'000'000'000'000;
  return identity;
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

SimAgent::SimAgent(World* world, SimHost* host, AgentPlan plan, Mutant mutant,
                   SimTransport::ConnectFn connect)
    : world_(world),
      host_(host),
      plan_(std::move(plan)),
      mutant_(mutant),
      connect_(std::move(connect)),
      disk_(host, world, mutant),
      clock_(world, mutant == Mutant::kTrustWallClock),
      shared_([this](const std::string& line) { last_said_ = line; }),
      transport_(AddTransport(Name())),
      drive_((MakeRing(),
              std::make_unique<agent::Drive>(&shared_, MakeOptions(),
                                             transport_.get(), &clock_))),
      recorder_(shared_.ring.get(), &shared_.books, &clock_),
      noted_(shared_.ring->CursorAt(1)) {}

std::string SimAgent::Name() const {
  return absl::StrCat("rank ", plan_.rank, " (",
                      static_cast<int>(plan_.nonce[0]), ")");
}

std::string SimAgent::nonce_hex() const {
  return absl::BytesToHexString(plan_.nonce);
}

void SimAgent::MakeRing() {
  if (plan_.ring_survives) {
    agent::RingFileOptions options;
    options.folder = host_->rings();
    options.capacity_bytes = plan_.ring_bytes;
    options.reserve_bytes = kReserveBytes;
    options.identity = IdentityOf(plan_);
    if (plan_.spool_bytes > 0) options.spool_root = host_->spools();
    auto file = agent::RingFile::Create(options, &disk_);
    if (file.ok()) {
      shared_.ring_file = *std::move(file);
      shared_.ring = shared_.ring_file->TakeRing();
      return;
    }
    world_->Trace(Name(), " has a ring in memory");
  }
  shared_.ring = testing::MakeRing(plan_.ring_bytes, kReserveBytes);
}

std::shared_ptr<SimTransport> SimAgent::AddTransport(const std::string& name) {
  transports_.push_back(std::make_shared<SimTransport>(
      world_, name, mutant_, connect_, [this] { WakeWithin(milliseconds(1)); },
      &partitioned_));
  return transports_.back();
}

agent::WorkerOptions SimAgent::MakeOptions() {
  agent::WorkerOptions options;
  const agent::SpoolIdentity identity = IdentityOf(plan_);
  static_cast<agent::SpoolIdentity&>(options.session) = identity;
  options.make_transport = [this] {
    return AddTransport(Name() + " for another")->Lend();
  };
  if (plan_.spool_bytes > 0) {
    agent::SpoolOptions spool;
    spool.max_bytes = options.spool_bytes = plan_.spool_bytes;
    spool.segment_bytes = plan_.segment_bytes;
    options.make_spool = [this, identity, spool] {
      return agent::Spool::Create(host_->spools(), identity, spool, &disk_);
    };
  }
  options.leftovers_root = host_->spools();
  options.leftovers_ring_folder = host_->rings();
  options.leftovers_interval =
      std::chrono::duration_cast<milliseconds>(plan_.look_for_leftovers);
  options.syscalls = &disk_;
  options.uniform = [world = world_] { return world->random().Uniform(); };
  options.poll = std::chrono::duration_cast<milliseconds>(kIdleWake);
  return options;
}

// ---- The training thread. ----

void SimAgent::Train() {
  if (gone() || ended()) return;
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
  const std::uint64_t lost_before = books().Snapshot().steps_lost;
  bool refused = false;
  bool has_record = false;
  ++offered_;
  if (random.OneIn(9)) {
    recorder_.PutGap(
        random.OneIn(2) ? GapCause::kLoop : GapCause::kCaptureError, step_,
        random.OneIn(2) ? "why" : "");
  } else if (random.OneIn(9)) {
    recorder_.PutStep(testing::MakeSkippedStep(step_, GapCause::kInterval));
  } else if (plan_.large_one_in > 0 && random.OneIn(plan_.large_one_in)) {
    recorder_.PutStep(MakeLargeStep(step_, schema_id_, places_));
    has_record = true;
  } else {
    refused = plan_.refused_one_in > 0 && random.OneIn(plan_.refused_one_in);
    recorder_.PutStep(
        testing::MakeStep(step_, schema_id_, places_ + (refused ? 1 : 0)));
    has_record = true;
  }
  ++step_;
  if (mutant_ == Mutant::kCountTwice && has_record &&
      books().Snapshot().steps_lost > lost_before) {
    shared_.books.CountAdmitted(1, 0);
  }
  NoteAdmitted(refused);
}

void SimAgent::EndTraining() {
  if (gone() || ended()) return;
  ++revision_;
  recorder_.PutEnd(EndReason::kFinished);
  constexpr std::size_t kSeveralGaps = 1024;
  reserve_used_up_ =
      shared_.ring->FreeBytes(agent::Ring::Room::kAll) < kSeveralGaps;
  NoteAdmitted(false);
  if (world_->random().OneIn(4)) {
    ++offered_;  // Lost: kShutdown.
    recorder_.PutStep(testing::MakeStep(step_++, schema_id_, places_));
  }
}

void SimAgent::NoteAdmitted(bool refused) {
  agent::EntryView entry;
  while (shared_.ring->Next(&noted_, &entry)) {
    ledger_.Note(entry, refused && entry.meta.kind == agent::EntryKind::kStep);
  }
  world_->Trace(Name(), " has made step ", step_ - 1, ", seq ",
                ledger_.last_seq());
  WakeWithin(kPoll);
}

// ---- The delivery thread. ----

void SimAgent::WakeWithin(Duration most) {
  if (gone()) return;
  const Duration at =
      std::max(world_->now() + world_->random().Between(Duration(0), most),
               paused_until_);
  if (wake_at_ >= world_->now() && wake_at_ <= at) return;
  wake_at_ = at;
  const std::uint64_t wake = ++wake_;
  world_->After(at - world_->now(), [this, wake] {
    if (wake == wake_) Wake();
  });
}

void SimAgent::Wake() {
  wake_at_ = Duration(-1);
  ++revision_;
  if (gone()) return;
  if (world_->now() < paused_until_) return WakeWithin(Duration(0));
  try {
    TakeTurns();
  } catch (const ProcessDies&) {
    Die("in a call of its disk");
  }
}

bool SimAgent::AnyEvent() const {
  return std::any_of(transports_.begin(), transports_.end(),
                     [](const auto& t) { return t->has_event(); });
}

void SimAgent::TakeTurns() {
  agent::Drive::TimePoint until;
  int turns = 0;
  do {
    Require(++turns < 1'000, Name(),
            " has nothing to do, and asks to be called at once");
    if (stopping_ && drive_->Parted(stop_at_, patience_)) return Finish();
    until = drive_->Act();
    TakeEvent();
    if (disk_.dead()) throw ProcessDies();
    Require(drive_->state() != SessionState::kRefused, Name(),
            " has given up: ", last_said_);
  } while (AnyEvent() || until <= clock_.Steady());
  // Beside what its session waits for.
  const bool adopts = std::any_of(
      transports_.begin(), transports_.end(),
      [this](const auto& t) { return t != transport_ && !t->closed(); });
  const Duration idle = adopts || stopping_ ? kPoll : kIdleWake;
  wake_at_ = world_->now() + std::min<Duration>(until - clock_.Steady(), idle) +
             world_->random().Between(Duration(0), kPoll);
  const std::uint64_t wake = ++wake_;
  world_->After(wake_at_ - world_->now(), [this, wake] {
    if (wake == wake_) Wake();
  });
}

void SimAgent::TakeEvent() {
  const auto event = transport_->Wait({});
  const std::uint64_t before = acknowledged_seq();
  drive_->Take(event);
  if (!event.has_value()) return;
  for (const v1::Rejection& rejection : event->message.ack().rejected()) {
    const std::uint64_t end =
        rejection.seq() + std::max<std::uint64_t>(1, rejection.count());
    const std::uint64_t first = std::max(rejection.seq(), before + 1);
    const std::uint64_t last = std::min(end - 1, acknowledged_seq());
    rejections_heard_ += first <= last ? last + 1 - first : 0;
  }
}

// ---- Its end. ----

void SimAgent::Shutdown(Duration most, Duration patience) {
  if (gone() || stopping_) return;
  world_->Trace(Name(), " shuts down");
  stopping_ = true;
  stop_at_ = clock_.Steady() + most;
  patience_ = patience;
  WakeWithin(kPoll);
}

void SimAgent::Kill() {
  if (!gone()) Die("by SIGKILL");
}

void SimAgent::Die(const char* how) {
  world_->Trace(Name(), " dies ", how);
  dead_ = true;
  ++revision_;
  disk_.Die();
  if (shared_.ring_file != nullptr) {
    left_seq_ = ledger_.last_seq();
    if (mutant_ == Mutant::kRingDiesToo) {
      std::filesystem::remove(shared_.ring_file->path());
    }
  } else if (drive_->backlog().spool() != nullptr) {
    left_seq_ = drive_->backlog().spool()->last_seq();
  }
  LetGo();
}

void SimAgent::Finish() {
  finished_ = true;
  disk_.DoNotDie();
  agent::Spool* const spool = drive_->backlog().spool();
  const bool spooled =
      spool != nullptr && spool->last_seq() == ledger_.last_seq();
  if (drained() || spooled || shared_.ring_file != nullptr) {
    left_seq_ = ledger_.last_seq();
  } else if (spool != nullptr) {
    left_seq_ = spool->last_seq();
  }
  world_->Trace(Name(), " has finished; left are seqs ",
                drive_->acknowledged_seq() + 1, " to ", left_seq_);
  agent::Ring* const ring = shared_.ring.get();
  acknowledged_seq_ = drive_->acknowledged_seq();
  drive_.reset();
  (void)agent::SettleRingFile(shared_.ring_file.get(), *ring);
  LetGo();
}

// What was its memory, and its locks.
void SimAgent::LetGo() {
  if (drive_ != nullptr) acknowledged_seq_ = drive_->acknowledged_seq();
  drive_.reset();
  for (const auto& transport : transports_) transport->Close();
  shared_.ring.reset();
  shared_.ring_file.reset();
}

void SimAgent::NoteLossOfPower(std::uint64_t last_seq) {
  ++revision_;
  left_seq_ = std::min(left_seq_, std::max(last_seq, acknowledged_seq_));
}

// ---- The books. ----

void SimAgent::CheckBooks() const {
  const agent::DeliveryCounters c = books().Snapshot();
  const Sums& made = ledger_.SumsThrough(ledger_.last_seq());
  const auto found = c.by_cause.find(GapCause::kRejected);
  const std::uint64_t rejected = found == c.by_cause.end() ? 0 : found->second;
  Require(c.steps_seen == offered_, Name(), " was offered ", offered_,
          " steps and counts ", c.steps_seen);
  Require(c.steps_seen == c.steps_recorded + c.steps_skipped + c.steps_lost,
          Name(), ": the books do not balance");
  Require(c.steps_recorded + rejected == made.steps_recorded, Name(),
          " counts ", c.steps_recorded, " steps recorded and ", rejected,
          " rejected; it admitted ", made.steps_recorded);
  if (dead_) return;  // Maybe between two of its counts.
  const Sums& freed = ledger_.SumsThrough(acknowledged_seq());
  Require(c.steps_acknowledged + rejected == freed.steps_recorded, Name(),
          " counts ", c.steps_acknowledged, " steps acknowledged and ",
          rejected, " rejected; it freed ", freed.steps_recorded);
  // The Ack that named one may have been lost with its call.
  Require(rejected == rejections_heard_ && rejected <= freed.steps_rejected,
          Name(), " counts ", rejected, " steps rejected; it was told of ",
          rejections_heard_, " of ", freed.steps_rejected);
}

}  // namespace gradtap::sim
