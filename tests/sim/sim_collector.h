// One process of the collector: the real sessions, call states, table of live
// sessions and commit runner over a simulated store. What gRPC, the committing
// thread and the ticker do in gradtapd, events do here.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_SIM_COLLECTOR_H_
#define GRADTAP_TESTS_SIM_SIM_COLLECTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "server/ingest/call_state.h"
#include "server/ingest/commit_runner.h"
#include "server/ingest/live_sessions.h"
#include "sim/call.h"
#include "sim/mutant.h"
#include "sim/sim_store.h"
#include "sim/world.h"

namespace gradtap::sim {

// What may change while it runs.
struct CollectorMood {
  Duration sync = milliseconds(2);      // At most.
  Duration paused_until{0};             // SIGSTOP.
  std::optional<std::uint64_t> credit;  // Said in Acks instead of its own.
};

class SimCollector : public CollectorEnd {
 public:
  SimCollector(World* world, const Clock* clock,
               const server::IngestLimits& limits, const CollectorMood* mood,
               SimDisk* disk, StoreObserver* observer, Mutant mutant);

  // ---- CollectorEnd
  void OnCall(const std::shared_ptr<Call>& call) override;
  void OnRead(Call* call, const v1::AgentMessage* message) override;
  void OnWritten(Call* call, bool ok) override;
  void OnGone(Call* call) override;

  // Ends at once. Agents hear of it after at most `notice`.
  void Kill(Duration notice);
  // SIGTERM: drains for at most 10 s, then ends.
  void Drain();
  // Tells every session the credit that holds now.
  void RepeatAcks();

  bool alive() const { return alive_; }
  SimStore& store() { return store_; }

 private:
  struct Served : server::LiveCall {
    std::shared_ptr<Call> call;
    std::unique_ptr<server::CallState> state;
    std::deque<std::function<void()>> mailbox;
    bool emptying = false;
    bool ended = false;
    std::uint64_t durable_seq = 0;  // As told last.
    std::optional<server::HelloUntrusted> hello;
    std::uint64_t batches = 0, expected_seq = 0;  // For mutants.

    // The simulation ticks and drains in an order of its own.
    void Tick() override {}
    void Drain() override {}
  };

  Served* Find(const Call* call);
  void Post(Served* served, std::function<void()> event);
  void Empty(Served* served);
  void Receive(Served* served, const v1::AgentMessage& message);
  void ReceiveBatch(Served* served, const v1::Batch& batch);
  void Pump(Served* served);
  void EndCall(Served* served, const absl::Status& status);
  v1::CollectorMessage ToMessage(const server::SessionOut& out, Served* served);

  void Submit(server::CommitTask task);
  void StartCommitting();
  void Commit(std::deque<server::CommitTask> tasks);
  void Tick();
  void EndDraining();

  World* const world_;
  const Clock* const clock_;
  const server::IngestLimits limits_;
  const CollectorMood* const mood_;
  const Mutant mutant_;
  SimStore store_;
  server::CommitRunner runner_;
  server::LiveSessions live_;

  bool alive_ = true;
  bool draining_ = false;
  std::vector<std::shared_ptr<Served>> calls_;
  std::deque<server::CommitTask> queue_;
  bool committing_ = false;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_SIM_COLLECTOR_H_
