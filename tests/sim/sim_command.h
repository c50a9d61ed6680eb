// `gradtap drain`, or `gradtap import` of a copy: what processes have left, one
// after the other, by the real LeftoverDrive.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_COMMAND_H_
#define GRADTAP_TESTS_SIM_SIM_COMMAND_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "agent/delivery/leftover.h"
#include "agent/delivery/leftover_drive.h"
#include "sim/mutant.h"
#include "sim/sim_host.h"
#include "sim/sim_transport.h"
#include "sim/world.h"

namespace gradtap::sim {

class SimCommand {
 public:
  // All that lies on the host.
  SimCommand(World* world, SimHost* host, std::string name, Mutant mutant,
             SimTransport::ConnectFn connect);
  // A copy; see SimHost::Copy().
  SimCommand(World* world, SimHost* host, std::string name, Mutant mutant,
             SimTransport::ConnectFn connect, const std::string& copy);

  void Start() { WakeWithin(milliseconds(10)); }
  void Kill();
  // Killed in one of the next calls of its disk.
  void DieAtDisk() { disk_.DieSoon(); }
  void DoNotDie() { disk_.DoNotDie(); }
  bool ended() const { return ended_; }
  // Delivered, or nothing was there.
  bool succeeded() const { return succeeded_; }

 private:
  void WakeWithin(Duration most);
  void Wake();
  void TakeTurns();
  void Open();
  void LetGo();

  World* const world_;
  const std::string name_;
  const Mutant mutant_;
  const SimTransport::ConnectFn connect_;
  const agent::SpoolUse use_;
  ProcessDisk disk_;
  HostClock clock_;
  const bool partitioned_ = false;
  std::deque<agent::LeftoverPlace> places_;
  std::vector<std::shared_ptr<SimTransport>> transports_;
  std::unique_ptr<agent::Leftover> leftover_;
  std::unique_ptr<agent::LeftoverDrive> drive_;  // Ends before it.
  Duration wake_at_{-1};
  std::uint64_t wake_ = 0;
  bool ended_ = false;
  bool succeeded_ = true;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_COMMAND_H_
