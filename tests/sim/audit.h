// Holds what is stored against what the processes made.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_AUDIT_H_
#define GRADTAP_TESTS_SIM_AUDIT_H_

#include <cstdint>
#include <map>
#include <string>

#include "sim/sim_agent.h"
#include "sim/sim_store.h"
#include "sim/world.h"

namespace gradtap::sim {

class Audit : public StoreObserver {
 public:
  explicit Audit(World* world) : world_(world) {}

  // By its nonce. It must outlive the audit.
  void AddProcess(const SimAgent* agent) {
    processes_[agent->plan().nonce] = agent;
  }

  // ---- StoreObserver. Each throws a Violation.
  void OnReopened() override;
  void OnStreamStored(const server::StreamEntry& entry) override;
  void OnCommitStored(const StoredCommit& commit) override;
  void OnSynced() override;

  // Throws a Violation unless all that the process has freed survives any
  // crash, and each step is in exactly one place. `store`: null while no
  // collector runs.
  void Check(const SimAgent& agent, const SimStore* store) const;

  std::uint64_t durable_seq(const SimAgent& agent) const;
  // Another number whenever something that is stored may have changed.
  std::uint64_t revision() const { return revision_; }

 private:
  struct Stream {
    const SimAgent* agent = nullptr;
    std::uint64_t visible_seq = 0;
    std::uint64_t durable_seq = 0;
  };
  const Stream* Find(const SimAgent& agent, server::StreamId* id) const;

  World* const world_;
  std::uint64_t revision_ = 1;
  std::map<std::string, const SimAgent*> processes_;  // By nonce.
  std::map<server::StreamId, Stream> streams_;
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_AUDIT_H_
