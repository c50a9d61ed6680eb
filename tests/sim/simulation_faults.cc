#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "sim/simulation.h"

namespace gradtap::sim {
namespace {

// Of a seed, dead ones included.
constexpr std::size_t kMostAgents = 10;

}  // namespace

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
      {"agent killed at its disk", &Simulation::KillAgentAtDisk},
      {"agent ends", &Simulation::EndAgent},
      {"agents' disk full", &Simulation::FillAgentsDisk},
      {"agents' writes fail", &Simulation::BreakAgentsWrites},
      {"agents' syncs fail", &Simulation::BreakAgentsSyncs},
      {"agents' reads fail", &Simulation::BreakAgentsReads},
      {"shared memory full", &Simulation::FillSharedMemory},
      {"agents' power cut", &Simulation::LoseAgentsPower},
      {"somebody drains", &Simulation::DrainLeftovers},
      {"drain killed", &Simulation::KillCommand},
      {"a copy is imported", &Simulation::ImportCopy},
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
  if (agent == nullptr || agents_.size() >= kMostAgents) return;
  ++outcome_.deaths;
  agent->Kill();
  ReplaceAgent(agent->plan().rank);
}

void Simulation::KillAgentAtDisk() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || agents_.size() >= kMostAgents) return;
  ++outcome_.deaths;
  agent->DieAtDisk();
  ReplaceAgent(agent->plan().rank);
}

void Simulation::EndAgent() {
  SimAgent* const agent = AnyAgent();
  if (agent == nullptr || agents_.size() >= kMostAgents) return;
  agent->EndTraining();
  agent->Shutdown(seconds(5),
                  world_.random().OneIn(2) ? milliseconds(500) : seconds(2));
  ReplaceAgent(agent->plan().rank);
}

void Simulation::SetAgentsDisk(SimHost::State state) {
  host_.state = state;
  For(milliseconds(100), seconds(20),
      [this] { host_.state = SimHost::State::kGood; });
}

void Simulation::FillAgentsDisk() { SetAgentsDisk(SimHost::State::kFull); }

void Simulation::BreakAgentsWrites() {
  SetAgentsDisk(SimHost::State::kFailsWrites);
}

void Simulation::BreakAgentsSyncs() {
  SetAgentsDisk(SimHost::State::kFailsSyncs);
}

void Simulation::BreakAgentsReads() {
  SetAgentsDisk(SimHost::State::kFailsReads);
}

void Simulation::FillSharedMemory() {
  host_.memory_full = true;
  For(seconds(1), seconds(20), [this] { host_.memory_full = false; });
}

void Simulation::LoseAgentsPower() {
  if (agents_.empty() || agents_.size() + 3 > kMostAgents) return;
  for (const auto& command : commands_) command->Kill();
  for (const auto& agent : agents_) {
    if (agent->gone()) continue;
    ++outcome_.deaths;
    agent->Kill();
    ReplaceAgent(agent->plan().rank);
  }
  const std::map<std::string, std::uint64_t> left = host_.LosePower();
  for (const auto& agent : agents_) {
    const auto found = left.find(agent->nonce_hex());
    agent->NoteLossOfPower(found == left.end() ? 0 : found->second);
  }
}

void Simulation::DrainLeftovers() {
  commands_.push_back(std::make_unique<SimCommand>(
      &world_, &host_, absl::StrCat("drain ", commands_.size() + 1), mutant_,
      Connector()));
  commands_.back()->Start();
}

void Simulation::KillCommand() {
  if (commands_.empty()) return;
  SimCommand* const command =
      commands_[world_.random().Below(commands_.size())].get();
  if (world_.random().OneIn(2)) {
    command->Kill();
  } else {
    command->DieAtDisk();
  }
}

void Simulation::ImportCopy() {
  if (agents_.empty()) return;
  SimAgent& agent = *agents_[world_.random().Below(agents_.size())];
  const std::string copy = host_.Copy(agent.nonce_hex());
  if (copy.empty()) return;
  commands_.push_back(std::make_unique<SimCommand>(
      &world_, &host_, absl::StrCat("import ", commands_.size() + 1), mutant_,
      Connector(), copy));
  SimCommand* const command = commands_.back().get();
  world_.After(world_.random().Between(milliseconds(1), seconds(30)),
               [command] { command->Start(); });
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

}  // namespace gradtap::sim
