// One training process: the real recorder, ring, books and drive. Its training
// thread and its delivery thread are events.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_AGENT_H_
#define GRADTAP_TESTS_SIM_SIM_AGENT_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/delivery/drive.h"
#include "agent/delivery/recorder.h"
#include "sim/ledger.h"
#include "sim/mutant.h"
#include "sim/sim_host.h"
#include "sim/sim_transport.h"
#include "sim/world.h"

namespace gradtap::sim {

struct AgentPlan {
  std::uint32_t rank = 0;
  std::string nonce;  // 16 bytes.
  std::size_t ring_bytes = 64 * 1024;
  bool ring_survives = true;      // Else it is the process's memory.
  std::uint64_t spool_bytes = 0;  // 0: no spool.
  std::uint64_t segment_bytes = 8 * 1024;
  Duration look_for_leftovers = seconds(5);
  std::size_t max_places = 30;  // Of a step.
  Duration step = milliseconds(300);
  std::uint64_t large_one_in = 0;    // Steps that travel in parts; 0: none.
  std::uint64_t refused_one_in = 0;  // Steps that no collector takes.
};

class SimAgent {
 public:
  SimAgent(World* world, SimHost* host, AgentPlan plan, Mutant mutant,
           SimTransport::ConnectFn connect);

  void StartTraining() { Train(); }
  // The loop has ended: the End record. Delivery goes on.
  void EndTraining();
  // Delivers what is at hand, then ends: at the latest after `most`, and once
  // nothing was acknowledged for as long as `patience` if there is a spool or a
  // ring that survives.
  void Shutdown(Duration most, Duration patience);
  // SIGKILL, or the power goes.
  void Kill();
  // Killed in one of the next calls of its disk.
  void DieAtDisk() { disk_.DieSoon(); }
  void DoNotDie() { disk_.DoNotDie(); }
  // The disk of its host has been through a loss of power; it has `last_seq`.
  void NoteLossOfPower(std::uint64_t last_seq);
  // Its delivery thread does not run until then.
  void PauseUntil(Duration when) { paused_until_ = when; }
  // The connection to the collector is cut off, or back.
  void SetPartitioned(bool partitioned) { partitioned_ = partitioned; }

  // Throws a Violation unless the books balance.
  void CheckBooks() const;

  const AgentPlan& plan() const { return plan_; }
  const Ledger& ledger() const { return ledger_; }
  const agent::Books& books() const { return shared_.books; }
  HostClock& clock() { return clock_; }
  Call* call() const { return transport_->call(); }
  std::string nonce_hex() const;
  // Another number whenever something of it may have changed.
  std::uint64_t revision() const { return revision_; }
  std::uint64_t steps_offered() const { return offered_; }
  // By what it has heard.
  std::uint64_t acknowledged_seq() const {
    return drive_ == nullptr ? acknowledged_seq_ : drive_->acknowledged_seq();
  }
  // The last record that somebody can still deliver, or that is stored.
  std::uint64_t left_seq() const { return left_seq_; }
  bool partitioned() const { return partitioned_; }
  bool ended() const { return recorder_.ended(); }
  bool dead() const { return dead_; }
  bool finished() const { return finished_; }
  bool gone() const { return dead_ || finished_; }
  bool stopping() const { return stopping_; }
  // What was pending at the end may not have fitted into the ring's reserve:
  // then it is in the counts of the End record alone.
  bool reserve_used_up() const { return reserve_used_up_; }
  bool drained() const {
    return drive_ == nullptr || drive_->session().drained();
  }

 private:
  agent::WorkerOptions MakeOptions();
  void MakeRing();
  std::shared_ptr<SimTransport> AddTransport(const std::string& name);
  void Train();
  void PutSomething();
  // Tells the ledger what the last Put has admitted.
  void NoteAdmitted(bool refused);
  void WakeWithin(Duration most);
  void Wake();
  void TakeTurns();
  void TakeEvent();
  bool AnyEvent() const;
  void Die(const char* how);
  void Finish();
  void LetGo();
  std::string Name() const;

  World* const world_;
  SimHost* const host_;
  const AgentPlan plan_;
  const Mutant mutant_;
  const SimTransport::ConnectFn connect_;
  ProcessDisk disk_;
  HostClock clock_;
  std::string last_said_;
  agent::DeliveryShared shared_;
  bool partitioned_ = false;
  std::vector<std::shared_ptr<SimTransport>> transports_;
  std::shared_ptr<SimTransport> transport_;  // Its own; the others: leftovers'.
  std::unique_ptr<agent::Drive> drive_;      // Null once it is gone.
  agent::Recorder recorder_;
  Ledger ledger_;
  agent::Ring::Cursor noted_;

  std::uint32_t schema_id_ = 0;
  std::size_t places_ = 0;
  std::int64_t step_ = 0;
  std::uint64_t offered_ = 0;
  std::uint64_t revision_ = 1;

  Duration paused_until_{0};
  Duration wake_at_{-1};  // Of the next Wake(); negative: none is due.
  std::uint64_t wake_ = 0;
  bool stopping_ = false;
  agent::Drive::TimePoint stop_at_;
  Duration patience_{0};
  bool reserve_used_up_ = false;
  bool dead_ = false;
  bool finished_ = false;
  std::uint64_t acknowledged_seq_ = 0;
  std::uint64_t left_seq_ = 0;

  // Refused steps that the session has been told of, and has freed.
  std::uint64_t rejections_heard_ = 0;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_AGENT_H_
