// What has been acknowledged and freed, remembered well enough to tell a
// collector that has lost it which steps those were.
//
// A collector that comes back with an older cursor expects the seqs after it.
// Their records are gone; in place of each the agent sends what still stands: a
// gap (kIoError, kRunDeleted) for a step, the gap or rollback itself, the
// newest schema.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_FREED_HISTORY_H_
#define GRADTAP_AGENT_DELIVERY_FREED_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "agent/delivery/ring.h"
#include "core/step_data.h"

namespace gradtap::agent {

// [Threading] The delivery thread. Neighbouring steps share one run, so a year
// of training takes a few runs; beyond kMaxRuns the oldest are forgotten.
class FreedHistory {
 public:
  static constexpr std::size_t kMaxRuns = 4096;
  static constexpr std::size_t kMaxRollbacks = 10'000;

  // Each entry, in the order of seqs, as it is freed.
  void Add(const EntryView& entry);

  // An encoded Record for a freed seq, the same each time; empty (a record of
  // no kind, which a collector passes over) where nothing is to be told.
  std::string Replacement(std::uint64_t seq) const;

  // Why the collector no longer has what it had acknowledged: kIoError until
  // told otherwise, or kRunDeleted.
  void SetLostBy(GapCause cause) { lost_by_ = cause; }

  std::size_t runs() const { return runs_.size(); }

 private:
  struct Run {
    std::uint64_t first_seq = 0;
    std::uint64_t last_seq = 0;
    EntryMeta meta;  // Of its first record.
    bool rejected = false;
  };

  bool Extends(const Run& run, const EntryView& entry) const;

  std::deque<Run> runs_;
  // Of those that are forgotten: without them the next one is refused.
  std::map<std::uint64_t, RollbackData> rollbacks_;  // By seq.
  GapCause lost_by_ = GapCause::kIoError;
  // The newest schema, in the parts that it travelled in.
  std::uint64_t schema_first_seq_ = 0;
  std::vector<std::string> schema_;
  bool schema_rejected_ = false;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_FREED_HISTORY_H_
