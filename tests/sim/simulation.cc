#include "sim/simulation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::sim {
namespace {

// Once nothing fails any more: the longest silence that a side waits out (30 s
// of a half-open call, 60 s until a dead connection shows), then the longest
// delay of a reconnect (30 s) and a call that is refused in between.
constexpr Duration kSettleTime = seconds(180);

std::string_view NameOf(Mutant mutant) {
  for (const MutantInfo& info : kMutants) {
    if (info.mutant == mutant) return info.name;
  }
  return {};
}

}  // namespace

Simulation::Simulation(std::uint64_t seed, Mutant mutant,
                       World::TraceSink trace)
    : setup_(seed ^ 0x5e7f5e7f5e7f5e7fu),
      world_(seed, std::move(trace)),
      mutant_(mutant),
      collector_clock_(&world_, false),
      audit_(&world_) {
  const bool large = setup_.OneIn(20);
  const bool tight = large || setup_.OneIn(3);
  limits_.max_sessions = setup_.OneIn(5) ? 2 : 8;
  if (tight) {
    limits_.credit_bytes = 1'500 + setup_.Below(12'000);
    if (!large && setup_.OneIn(2)) limits_.max_batch_bytes = 8 * 1024;
  }
  plan_.ring_bytes = large ? 2u << 20 : 64u << 10;
  plan_.large_one_in = large ? 10 : 0;
  plan_.max_places = setup_.OneIn(2) ? 30 : 5;
  plan_.refused_one_in = setup_.OneIn(3) ? 20 : 0;
  plan_.step = setup_.Between(milliseconds(60), milliseconds(600));
  fault_pause_ = setup_.Between(milliseconds(500), seconds(8));
  faults_end_ = setup_.Between(seconds(10), seconds(50));
  // A few kinds in each seed meet each other more often than all would.
  for (const Fault& fault : AllFaults()) {
    if (setup_.OneIn(3)) faults_.push_back(&fault);
  }
}

// ---- Who there is. ----

void Simulation::StartAgent(std::uint32_t rank) {
  AgentPlan plan = plan_;
  plan.rank = rank;
  plan.nonce.assign(16, static_cast<char>(agents_.size() + 1));
  if (mutant_ == Mutant::kReuseNonce) {
    plan.nonce.assign(16, static_cast<char>(rank + 1));
  }
  agents_.push_back(std::make_unique<SimAgent>(
      &world_, plan, mutant_,
      [this](SimAgent* agent) { return Connect(agent); }));
  audit_.AddProcess(agents_.back().get());
  agents_.back()->StartTraining();
}

std::shared_ptr<Call> Simulation::Connect(SimAgent* agent) {
  ++outcome_.calls;
  calls_.push_back(
      std::make_shared<Call>(&world_, &weather_, calls_.size() + 1, agent));
  const std::shared_ptr<Call>& call = calls_.back();
  if (agent->partitioned() || unreachable_) {
    call->Vanish();
  } else if (collectors_.empty() || !collectors_.back()->alive()) {
    call->MeetNobody();
  } else {
    call->Reach(collectors_.back().get());
  }
  return call;
}

void Simulation::StartCollector() {
  starting_ = unreachable_ = false;
  world_.Trace("a collector starts");
  disk_.Crash(&world_.random());  // What the last one had not synced.
  collectors_.push_back(std::make_unique<SimCollector>(
      &world_, &collector_clock_, limits_, &mood_, &disk_, &audit_, mutant_));
}

void Simulation::Watch() {
  if (starting_ || collectors_.back()->alive()) return;
  ++outcome_.deaths;
  starting_ = true;
  world_.After(healed_ ? Duration(milliseconds(100))
                       : world_.random().Between(milliseconds(10), seconds(8)),
               [this] { StartCollector(); });
}

// ---- Faults. ----

const std::vector<Simulation::Fault>& Simulation::AllFaults() {
  static const std::vector<Fault> faults = {
      {"a call breaks", &Simulation::BreakCall},
      {"partition", &Simulation::Partition},
      {"collector killed", &Simulation::KillCollector},
      {"power cut", &Simulation::CutPower},
      {"collector dies in a write", &Simulation::DieInWrite},
      {"disk full", &Simulation::FillDisk},
      {"writes fail", &Simulation::BreakWrites},
      {"syncs fail", &Simulation::BreakSyncs},
      {"slow disk", &Simulation::SlowDisk},
      {"collector stopped", &Simulation::PauseCollector},
      {"collector drains", &Simulation::DrainCollector},
      {"credit withheld", &Simulation::WithholdCredit},
      {"slow network", &Simulation::SlowNetwork},
      {"narrow network", &Simulation::NarrowNetwork},
      {"agent stopped", &Simulation::PauseAgent},
      {"agent killed", &Simulation::KillAgent},
      {"date set", &Simulation::SetTheDate},
  };
  return faults;
}

void Simulation::Chaos() {
  world_.After(world_.random().Between(fault_pause_ / 4, fault_pause_ * 2),
               [this] {
                 if (healed_) return;
                 if (!faults_.empty()) {
                   BeginFault(*faults_[world_.random().Below(faults_.size())]);
                 }
                 Chaos();
               });
}

void Simulation::BeginFault(const Fault& fault) {
  world_.Trace("FAULT: ", std::string(fault.name));
  ++outcome_.faults[std::string(fault.name)];
  (this->*fault.begin)();
}

SimAgent* Simulation::AnyAgent() {
  if (agents_.empty()) return nullptr;
  SimAgent* const agent = agents_[world_.random().Below(agents_.size())].get();
  return agent->dead() || agent->finished() ? nullptr : agent;
}

void Simulation::For(Duration low, Duration high, std::function<void()> end) {
  const Duration time =
      std::min(world_.random().Between(low, high), faults_end_ - world_.now());
  world_.After(time, std::move(end));
}

void Simulation::BreakCall() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || agent->call() == nullptr) return;
  Random& random = world_.random();
  const auto notice = [&]() -> Duration {
    return random.OneIn(3) ? random.Between(seconds(1), seconds(60))
                           : random.Between(Duration(0), milliseconds(20));
  };
  const Duration late =
      random.OneIn(3) ? random.Between(seconds(1), seconds(40)) : Duration(0);
  std::optional<Duration> collector_notice = notice();
  if (random.OneIn(4)) collector_notice.reset();
  agent->call()->Break(late, notice(), collector_notice);
}

void Simulation::Partition() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || agent->partitioned()) return;
  agent->SetPartitioned(true);
  if (agent->call() != nullptr) {
    agent->call()->Break(Duration(0),
                         world_.random().Between(seconds(1), seconds(60)),
                         std::nullopt);
  }
  For(seconds(1), seconds(40), [agent] { agent->SetPartitioned(false); });
}

void Simulation::KillCollector() { collectors_.back()->Kill(milliseconds(20)); }

void Simulation::CutPower() {
  if (!collectors_.back()->alive()) return;
  unreachable_ = true;
  collectors_.back()->Kill(seconds(60));
}

void Simulation::DieInWrite() { collectors_.back()->store().DieSoon(); }

void Simulation::FillDisk() {
  disk_.state = SimDisk::State::kFull;
  For(milliseconds(100), seconds(15),
      [this] { disk_.state = SimDisk::State::kGood; });
}

void Simulation::BreakWrites() {
  disk_.state = SimDisk::State::kFailsWrites;
  For(milliseconds(100), seconds(5),
      [this] { disk_.state = SimDisk::State::kGood; });
}

void Simulation::BreakSyncs() {
  disk_.state = SimDisk::State::kFailsSyncs;
  For(milliseconds(100), seconds(5),
      [this] { disk_.state = SimDisk::State::kGood; });
}

void Simulation::SlowDisk() {
  mood_.sync = world_.random().Between(milliseconds(50), seconds(40));
  For(seconds(1), seconds(20), [this] { mood_.sync = milliseconds(2); });
}

void Simulation::PauseCollector() {
  mood_.paused_until =
      world_.now() + world_.random().Between(milliseconds(100), seconds(45));
}

void Simulation::DrainCollector() { collectors_.back()->Drain(); }

void Simulation::WithholdCredit() {
  mood_.credit =
      world_.random().OneIn(2) ? 0 : 1 + world_.random().Below(4'000);
  collectors_.back()->RepeatAcks();
  For(milliseconds(100), seconds(20), [this] {
    mood_.credit.reset();
    collectors_.back()->RepeatAcks();
  });
}

void Simulation::SlowNetwork() {
  weather_.latency = world_.random().Between(milliseconds(20), seconds(20));
  For(seconds(1), seconds(20), [this] { weather_.latency = milliseconds(1); });
}

void Simulation::NarrowNetwork() {
  weather_.window_bytes = 256 + world_.random().Below(4'000);
  For(seconds(1), seconds(20), [this] { weather_.window_bytes = 64 * 1024; });
}

void Simulation::PauseAgent() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr) return;
  agent->PauseUntil(world_.now() +
                    world_.random().Between(milliseconds(100), seconds(45)));
}

void Simulation::KillAgent() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || agents_.size() >= 8) return;
  ++outcome_.deaths;
  agent->Kill();
  const std::uint32_t rank = agent->plan().rank;
  world_.After(world_.random().Between(milliseconds(10), seconds(5)),
               [this, rank] {
                 if (!healed_) StartAgent(rank);
               });
}

void Simulation::SetTheDate() {
  Random& random = world_.random();
  const Duration by = random.Between(-std::chrono::hours(24 * 400),
                                     std::chrono::hours(24 * 400));
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || random.OneIn(3)) {
    collector_clock_.JumpWall(by);
  } else {
    agent->clock().JumpWall(by);
  }
}

void Simulation::Heal() {
  world_.Trace("all faults are over");
  healed_ = true;
  unreachable_ = false;
  disk_.state = SimDisk::State::kGood;
  weather_ = {};
  mood_ = {};
  if (collectors_.back()->alive()) collectors_.back()->RepeatAcks();
  for (const auto& agent : agents_) {
    agent->SetPartitioned(false);
    agent->PauseUntil(Duration(0));
  }
}

// ---- From the beginning to the end. ----

void Simulation::Run() {
  const std::uint64_t ranks = 2 + setup_.Below(2);
  StartCollector();
  for (std::uint32_t rank = 0; rank < ranks; ++rank) {
    world_.After(setup_.Between(Duration(0), seconds(3)),
                 [this, rank] { StartAgent(rank); });
  }
  Chaos();
  world_.After(faults_end_, [this] { Heal(); });
  while (!healed_) {
    world_.RunOne();
    Check();
  }
  Settle();
  CheckSettled();
}

void Simulation::Check() {
  Watch();
  SimStore* const store =
      collectors_.back()->alive() ? &collectors_.back()->store() : nullptr;
  checked_.resize(agents_.size());
  for (std::size_t i = 0; i < agents_.size(); ++i) {
    const Checked now = {agents_[i]->revision(), audit_.revision(), store};
    if (now == checked_[i]) continue;  // An event of somebody else.
    audit_.Check(*agents_[i], store);
    checked_[i] = now;
  }
}

bool Simulation::AllDelivered() const {
  return std::all_of(agents_.begin(), agents_.end(), [](const auto& agent) {
    return agent->dead() || agent->finished();
  });
}

void Simulation::Settle() {
  for (const auto& agent : agents_) {
    SimAgent* const raw = agent.get();
    world_.After(world_.random().Between(Duration(0), seconds(5)), [this, raw] {
      raw->EndTraining();
      // Some end at once; of others the process goes on.
      world_.After(
          world_.random().OneIn(2) ? Duration(0) : Duration(seconds(60)),
          [raw] { raw->Drain(); });
    });
  }
  const Duration deadline = world_.now() + kSettleTime;
  const Duration begun = world_.now();
  while (!AllDelivered()) {
    Require(world_.now() < deadline,
            "not everything is delivered so long after the last fault");
    Require(world_.RunOne(), "nothing will ever happen again");
    Check();
    if (std::all_of(agents_.begin(), agents_.end(), [](const auto& agent) {
          return agent->dead() || (agent->ended() && agent->drained());
        })) {
      if (outcome_.settled_in == Duration(0)) {
        outcome_.settled_in = world_.now() - begun;
      }
    }
  }
}

void Simulation::CheckSettled() {
  // Whatever a last crash leaves, all of it is there.
  disk_.Crash(&world_.random());
  SimStore last(&disk_, &world_, &audit_, Mutant::kNone);
  for (const auto& agent : agents_) {
    audit_.Check(*agent, &last);
    const Ledger& ledger = agent->ledger();
    const Sums& sums = ledger.SumsThrough(audit_.durable_seq(*agent));
    outcome_.steps += agent->steps_offered();
    outcome_.stored += sums.steps_recorded - sums.steps_rejected;
    outcome_.lost += sums.steps_lost;
    if (agent->dead()) continue;
    Require(audit_.durable_seq(*agent) == ledger.last_seq(), "rank ",
            agent->plan().rank, " made ", ledger.last_seq(), " records; ",
            audit_.durable_seq(*agent), " are stored");
    Require(agent->acknowledged_seq() == ledger.last_seq(), "rank ",
            agent->plan().rank, " has finished with records at hand");
    CheckTold(*agent);
  }
}

// Each missing step has been told, with its cause.
void Simulation::CheckTold(const SimAgent& agent) {
  const agent::DeliveryCounters c = agent.books().Snapshot();
  const Ledger& ledger = agent.ledger();
  const auto late = c.by_cause.find(GapCause::kShutdown);  // After the End.
  const std::uint64_t before_end =
      c.steps_seen - (late == c.by_cause.end() ? 0 : late->second);
  Require(ledger.end().has_value() && ledger.end()->steps_seen == before_end,
          "rank ", agent.plan().rank, " has seen ", before_end,
          " steps, and its End record does not say so");
  for (const auto& [cause, steps] : c.by_cause) {
    if (cause == GapCause::kShutdown) continue;
    const auto told = ledger.told().find(cause);
    const std::uint64_t count = told == ledger.told().end() ? 0 : told->second;
    // One that was refused in another branch is in the counts alone.
    const bool fewer = cause == GapCause::kRejected || agent.reserve_used_up();
    Require(count == steps || (fewer && count < steps), "rank ",
            agent.plan().rank, " counts ", steps, " steps of cause ",
            static_cast<int>(cause), " and told of ", count);
  }
}

Outcome Simulate(std::uint64_t seed, Mutant mutant, World::TraceSink trace) {
  Simulation simulation(seed, mutant, std::move(trace));
  std::optional<std::string> violation;
  try {
    simulation.Run();
  } catch (const Violation& v) {
    violation = absl::StrCat(
        "at ", std::chrono::duration<double>(simulation.world().now()).count(),
        " s: ", v.what());
    simulation.world().Trace("VIOLATION: ", v.what());
  }
  Outcome outcome = simulation.outcome();
  outcome.events = simulation.world().events();
  outcome.violation = std::move(violation);
  return outcome;
}

std::string ReplayCommand(std::uint64_t seed, Mutant mutant) {
  std::string command =
      absl::StrCat("build/release/bin/delivery_sim_test --seed=", seed);
  if (mutant != Mutant::kNone) {
    absl::StrAppend(&command, " --mutant=", std::string(NameOf(mutant)));
  }
  return absl::StrCat(command, " --trace");
}

}  // namespace gradtap::sim
