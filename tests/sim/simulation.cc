#include "sim/simulation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "agent/delivery/leftover.h"

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
      audit_(&world_),
      host_(&world_, mutant) {
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
  plan_.ring_survives = !setup_.OneIn(6);
  if (!setup_.OneIn(4)) plan_.spool_bytes = 32'768 + setup_.Below(1u << 20);
  if (large) plan_.spool_bytes *= 16;
  plan_.segment_bytes = 2'048 + setup_.Below(32'768);
  plan_.look_for_leftovers = setup_.Between(seconds(2), seconds(20));
  plan_.step = setup_.Between(milliseconds(60), milliseconds(600));
  fault_pause_ = setup_.Between(milliseconds(500), seconds(8));
  faults_end_ = setup_.Between(seconds(10), seconds(50));
  // A few kinds in each seed meet each other more often than all would.
  for (const Fault& fault : AllFaults()) {
    // Of that mutant nothing shows unless somebody sets the date.
    const bool wanted = mutant == Mutant::kTrustWallClock &&
                        fault.begin == &Simulation::SetTheDate;
    if (setup_.OneIn(3) || wanted) faults_.push_back(&fault);
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
  agents_.push_back(
      std::make_unique<SimAgent>(&world_, &host_, plan, mutant_, Connector()));
  audit_.AddProcess(agents_.back().get());
  agents_.back()->StartTraining();
}

void Simulation::ReplaceAgent(std::uint32_t rank) {
  world_.After(world_.random().Between(milliseconds(10), seconds(5)),
               [this, rank] {
                 if (!healed_) StartAgent(rank);
               });
}

SimTransport::ConnectFn Simulation::Connector() {
  return [this](SimTransport* transport) { return Connect(transport); };
}

std::shared_ptr<Call> Simulation::Connect(SimTransport* transport) {
  ++outcome_.calls;
  calls_.push_back(
      std::make_shared<Call>(&world_, &weather_, calls_.size() + 1, transport));
  const std::shared_ptr<Call>& call = calls_.back();
  if (transport->partitioned() || unreachable_) {
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

void Simulation::Heal() {
  world_.Trace("all faults are over");
  healed_ = true;
  unreachable_ = false;
  disk_.state = SimDisk::State::kGood;
  weather_ = {};
  mood_ = {};
  if (collectors_.back()->alive()) collectors_.back()->RepeatAcks();
  host_.state = SimHost::State::kGood;
  host_.memory_full = false;
  for (const auto& agent : agents_) {
    agent->SetPartitioned(false);
    agent->PauseUntil(Duration(0));
    agent->DoNotDie();
    if (!agent->gone() && !agent->stopping()) {
      last_agents_.push_back(agent.get());
    }
  }
  for (const auto& command : commands_) command->DoNotDie();
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

void Simulation::RunUntil(const std::function<bool()>& done) {
  const Duration deadline = world_.now() + kSettleTime;
  while (!done()) {
    Require(world_.now() < deadline,
            "not everything is delivered so long after the last fault");
    Require(world_.RunOne(), "nothing will ever happen again");
    Check();
  }
}

void Simulation::Settle() {
  for (SimAgent* const agent : last_agents_) {
    world_.After(
        world_.random().Between(Duration(0), seconds(5)), [this, agent] {
          agent->EndTraining();
          // Some end at once; of others the process goes on. Some wait
          // for the collector, others leave the rest.
          const bool at_once = world_.random().OneIn(2);
          const Duration patience =
              world_.random().OneIn(3) ? seconds(2) : seconds(600);
          world_.After(
              at_once ? Duration(0) : Duration(seconds(60)),
              [agent, patience] { agent->Shutdown(seconds(600), patience); });
        });
  }
  const Duration begun = world_.now();
  RunUntil([&] {
    bool all_gone = true, all_drained = true;
    for (const auto& agent : agents_) {
      all_gone &= agent->gone();
      all_drained &= agent->gone() || (agent->ended() && agent->drained());
    }
    if (all_drained && outcome_.settled_in == Duration(0)) {
      outcome_.settled_in = world_.now() - begun;
    }
    return all_gone;
  });
  DeliverLeftovers();
}

// As a person does: `gradtap drain`, until it says that all is delivered.
void Simulation::DeliverLeftovers() {
  RunUntil([&] {
    return std::all_of(commands_.begin(), commands_.end(),
                       [](const auto& command) { return command->ended(); });
  });
  do {
    DrainLeftovers();
    RunUntil([&] { return commands_.back()->ended(); });
  } while (!commands_.back()->succeeded());
}

void Simulation::CheckSettled() {
  // Whatever a last crash leaves, all of it is there.
  disk_.Crash(&world_.random());
  SimStore last(&disk_, &world_, &audit_, Mutant::kNone);
  for (const auto& agent : agents_) {
    audit_.Check(*agent, &last);
    const Ledger& ledger = agent->ledger();
    const std::uint64_t durable = audit_.durable_seq(*agent);
    const Sums& sums = ledger.SumsThrough(durable);
    outcome_.steps += agent->steps_offered();
    outcome_.stored += sums.steps_recorded - sums.steps_rejected;
    outcome_.lost += sums.steps_lost;
    outcome_.handed_on += durable - agent->acknowledged_seq();
    Require(durable >= agent->left_seq(), "rank ", agent->plan().rank,
            " has died, and its records up to seq ", agent->left_seq(),
            " could still be delivered; ", durable, " are stored");
  }
  for (const SimAgent* agent : last_agents_) {
    const std::uint64_t made = agent->ledger().last_seq();
    Require(audit_.durable_seq(*agent) == made, "rank ", agent->plan().rank,
            " made ", made, " records; ", audit_.durable_seq(*agent),
            " are stored");
    CheckTold(*agent);
  }
  CheckNothingLeftBehind();
}

void Simulation::CheckNothingLeftBehind() const {
  const auto places = agent::FindLeftovers(host_.spools(), host_.rings(), true);
  if (!places.ok()) return;  // No process ever made a folder.
  for (const agent::LeftoverPlace& place : *places) {
    Require(place.set_aside, place.path().substr(place.path().rfind('/') + 1),
            " is left behind though all of it is delivered");
  }
}

// Each missing step has been told, with its cause.
void Simulation::CheckTold(const SimAgent& agent) {
  const agent::DeliveryCounters c = agent.books().Snapshot();
  const Ledger& ledger = agent.ledger();
  const auto late = c.by_cause.find(GapCause::kShutdown);  // After the End.
  const std::uint64_t before_end =
      c.steps_seen - (late == c.by_cause.end() ? 0 : late->second);
  Require(ledger.end().has_value(), "rank ", agent.plan().rank,
          " has ended without an End record");
  Require(ledger.end()->steps_seen == before_end, "rank ", agent.plan().rank,
          " has seen ", before_end, " steps; its End record says ",
          ledger.end()->steps_seen);
  for (const auto& [cause, steps] : c.by_cause) {
    // Of what is refused the collector tells.
    if (cause == GapCause::kShutdown || cause == GapCause::kRejected) continue;
    const auto told = ledger.told().find(cause);
    const std::uint64_t count = told == ledger.told().end() ? 0 : told->second;
    const bool fewer = agent.reserve_used_up();
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
