// One training process: the real recorder, ring, books and session. Its
// training thread and its delivery thread are events.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_AGENT_H_
#define GRADTAP_TESTS_SIM_SIM_AGENT_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "agent/delivery/books.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/session.h"
#include "sim/call.h"
#include "sim/ledger.h"
#include "sim/mutant.h"
#include "sim/world.h"

namespace gradtap::sim {

struct AgentPlan {
  std::uint32_t rank = 0;
  std::string nonce;  // 16 bytes.
  std::size_t ring_bytes = 64 * 1024;
  std::size_t max_places = 30;  // Of a step.
  Duration step = milliseconds(300);
  std::uint64_t large_one_in = 0;    // Steps that travel in parts; 0: none.
  std::uint64_t refused_one_in = 0;  // Steps that no collector takes.
};

class SimAgent : public AgentEnd {
 public:
  // Where its calls go.
  using ConnectFn = std::function<std::shared_ptr<Call>(SimAgent*)>;

  SimAgent(World* world, AgentPlan plan, Mutant mutant, ConnectFn connect);

  // ---- AgentEnd
  void OnConnected(Call* call) override;
  void OnSent(Call* call) override;
  void OnMessage(Call* call, const v1::CollectorMessage& message) override;
  void OnClosed(Call* call, const absl::Status& status) override;

  void StartTraining() { Train(); }
  // The loop has ended: the End record. Delivery goes on.
  void EndTraining();
  void Drain();  // Delivers what is at hand, then ends.
  void Kill();
  // Its delivery thread does not run until then.
  void PauseUntil(Duration when) { paused_until_ = when; }
  // The connection to the collector is cut off, or back.
  void SetPartitioned(bool partitioned) { partitioned_ = partitioned; }

  // Throws a Violation unless the books balance.
  void CheckBooks() const;

  const AgentPlan& plan() const { return plan_; }
  const Ledger& ledger() const { return ledger_; }
  const agent::Ring& ring() const { return *ring_; }
  const agent::Books& books() const { return books_; }
  HostClock& clock() { return clock_; }
  Call* call() const { return call_.get(); }
  // Another number whenever something of it may have changed.
  std::uint64_t revision() const { return revision_; }
  std::uint64_t steps_offered() const { return offered_; }
  std::uint64_t acknowledged_seq() const { return ring_->first_seq() - 1; }
  bool partitioned() const { return partitioned_; }
  bool ended() const { return recorder_.ended(); }
  bool dead() const { return dead_; }
  bool finished() const { return finished_; }
  // What was pending at the end may not have fitted into the ring's reserve:
  // then it is in the counts of the End record alone.
  bool reserve_used_up() const { return reserve_used_up_; }
  bool drained() const { return session_.drained(); }

 private:
  void Train();
  void PutSomething();
  // Tells the ledger what the last Put has admitted.
  void NoteAdmitted(bool refused);
  void PumpWithin(Duration most);
  // An event of the network, for the delivery thread.
  void Post(Call* call, std::function<void()> event);
  void Take(const v1::CollectorMessage& message);
  void Pump();
  void PerformAll();
  void Perform(agent::Session::Action action);
  void SendBatch(v1::AgentMessage message);
  void Falsify(v1::Batch* batch);
  void CheckCredit(const v1::Batch& batch);
  void NoteCredit(const v1::CollectorMessage& message);
  bool Current(const Call* call) const {
    return !dead_ && !finished_ && call == call_.get();
  }
  std::string Name() const;

  World* const world_;
  const AgentPlan plan_;
  const Mutant mutant_;
  const ConnectFn connect_;
  HostClock clock_;
  std::unique_ptr<agent::Ring> ring_;
  agent::Books books_;
  agent::Recorder recorder_;
  std::string last_said_;
  agent::OnceLog log_;
  agent::Session session_;
  Ledger ledger_;
  agent::Ring::Cursor noted_;

  std::uint32_t schema_id_ = 0;
  std::size_t places_ = 0;
  std::int64_t step_ = 0;
  std::uint64_t offered_ = 0;
  std::uint64_t revision_ = 1;

  std::shared_ptr<Call> call_;
  std::uint64_t calls_ = 0;
  std::uint64_t batches_in_call_ = 0;
  std::deque<std::function<void()>> inbox_;
  bool partitioned_ = false;
  Duration paused_until_{0};
  Duration wake_at_{-1};  // Of the next Pump(); negative: none is due.
  std::uint64_t wake_ = 0;
  bool reserve_used_up_ = false;
  bool dead_ = false;
  bool finished_ = false;

  // Refused steps that the session has been told of, and has freed.
  std::uint64_t rejections_heard_ = 0;

  // What the collector allows, by what has arrived here.
  struct Flight {
    std::uint64_t last_seq = 0;
    std::uint64_t bytes = 0;
  };
  std::uint64_t credit_ = 0;
  std::deque<Flight> flights_;
  std::uint64_t flying_bytes_ = 0;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_AGENT_H_
