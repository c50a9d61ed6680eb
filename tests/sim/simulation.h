// Several training processes, one collector, one disk and all that goes wrong
// between them, from one seed.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIMULATION_H_
#define GRADTAP_TESTS_SIM_SIMULATION_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/audit.h"
#include "sim/call.h"
#include "sim/mutant.h"
#include "sim/sim_agent.h"
#include "sim/sim_collector.h"
#include "sim/sim_command.h"
#include "sim/sim_host.h"
#include "sim/sim_store.h"
#include "sim/sim_transport.h"
#include "sim/world.h"

namespace gradtap::sim {

struct Outcome {
  std::optional<std::string> violation;  // Which invariant broke, and when.
  std::uint64_t events = 0;
  std::uint64_t steps = 0;   // Offered by the training loops.
  std::uint64_t stored = 0;  // With statistics.
  std::uint64_t lost = 0;    // Declared.
  std::uint64_t calls = 0;
  std::uint64_t deaths = 0;     // Of collectors and agents.
  std::uint64_t handed_on = 0;  // Records that another process delivered.
  Duration settled_in{0};       // From the end of the faults to the last Ack.
  std::map<std::string, std::uint64_t> faults;
};

// The same outcome and trace for the same arguments, always.
Outcome Simulate(std::uint64_t seed, Mutant mutant = Mutant::kNone,
                 World::TraceSink trace = nullptr);

// The command that replays it.
std::string ReplayCommand(std::uint64_t seed, Mutant mutant);

class Simulation {
 public:
  Simulation(std::uint64_t seed, Mutant mutant, World::TraceSink trace);

  // Throws a Violation.
  void Run();
  const Outcome& outcome() const { return outcome_; }
  World& world() { return world_; }

 private:
  struct Fault {
    std::string_view name;
    void (Simulation::*begin)();
  };
  static const std::vector<Fault>& AllFaults();

  void StartAgent(std::uint32_t rank);
  // After some time, unless the faults are over.
  void ReplaceAgent(std::uint32_t rank);
  SimTransport::ConnectFn Connector();
  std::shared_ptr<Call> Connect(SimTransport* transport);
  void StartCollector();
  // A collector that has died is started again.
  void Watch();

  void Chaos();
  void Heal();
  void BeginFault(const Fault& fault);
  SimAgent* AnyAgent();  // Null if none is alive.
  // Calls `end` once the fault is over, or all are.
  void For(Duration low, Duration high, std::function<void()> end);

  void BreakCall();
  void Partition();
  void KillCollector();
  void CutPower();
  void DieInWrite();
  void FillDisk();
  void BreakWrites();
  void BreakSyncs();
  void SlowDisk();
  void PauseCollector();
  void DrainCollector();
  void WithholdCredit();
  void SlowNetwork();
  void NarrowNetwork();
  void PauseAgent();
  void KillAgent();
  void KillAgentAtDisk();
  void EndAgent();
  void FillAgentsDisk();
  void BreakAgentsWrites();
  void BreakAgentsSyncs();
  void BreakAgentsReads();
  void FillSharedMemory();
  void LoseAgentsPower();
  void DrainLeftovers();
  void KillCommand();
  void ImportCopy();
  void SetTheDate();
  void SetAgentsDisk(SimHost::State state);

  // What the check of an agent depends on.
  struct Checked {
    std::uint64_t agent_revision = 0;
    std::uint64_t audit_revision = 0;
    const SimStore* store = nullptr;

    friend bool operator==(const Checked&, const Checked&) = default;
  };

  // After every event.
  void Check();
  void Settle();
  void DeliverLeftovers();
  void RunUntil(const std::function<bool()>& done);
  void CheckSettled();
  void CheckNothingLeftBehind() const;
  static void CheckTold(const SimAgent& agent);

  Random setup_;
  World world_;
  const Mutant mutant_;
  HostClock collector_clock_;
  Weather weather_;
  CollectorMood mood_;
  server::IngestLimits limits_;
  AgentPlan plan_;
  std::vector<const Fault*> faults_;  // Of this seed.
  Duration faults_end_{0};
  Duration fault_pause_{0};
  bool healed_ = false;

  SimDisk disk_;
  Audit audit_;
  std::vector<std::unique_ptr<SimCollector>> collectors_;  // The last: now.
  bool starting_ = false;
  bool unreachable_ = false;  // The collector's host is off.
  SimHost host_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<SimAgent*> last_agents_;  // Alive when the faults are over.
  std::vector<std::unique_ptr<SimCommand>> commands_;
  std::vector<Checked> checked_;  // Agent by agent.
  std::vector<std::shared_ptr<Call>> calls_;
  Outcome outcome_;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIMULATION_H_
