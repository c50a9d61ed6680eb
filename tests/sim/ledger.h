// What one process made, record by record, and what a collector must have
// stored once it has stored the first n of them.
//
// Layer: tests. One thread.

#ifndef GRADTAP_TESTS_SIM_LEDGER_H_
#define GRADTAP_TESTS_SIM_LEDGER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/delivery/ring.h"
#include "core/step_data.h"
#include "server/store/store.h"

namespace gradtap::sim {

// What one record becomes in the store.
struct Effect {
  enum class Kind { kNothing, kRejected, kSchema, kStep, kGap, kBranch, kEnd };
  Kind kind = Kind::kNothing;
  std::uint32_t number = 0;   // Of the branch, or the schema's id.
  std::int64_t step = 0;      // Of a gap the first; of a branch its rollback's.
  std::uint64_t content = 0;  // A hash of what else there is.

  friend bool operator==(const Effect&, const Effect&) = default;
};

std::uint64_t HashOf(std::string_view bytes);
Effect EffectOf(const server::StreamCommit::Step& step);
Effect EffectOf(const server::StreamCommit::SchemaBody& schema);
Effect EffectOf(std::uint32_t branch, const GapData& gap);
Effect EffectOf(const EndData& end);
Effect EffectOfBranch(std::uint32_t branch, std::int64_t rollback_step);

// One commit as it was stored: its effects by kind, in order.
struct StoredCommit {
  server::StreamId stream = 0;
  std::uint64_t first_seq = 0;
  std::uint64_t last_seq = 0;
  std::vector<Effect> schemas, branches, steps, gaps, ends;
  std::uint64_t rejected = 0;
};

// Sums over the records up to some seq.
struct Sums {
  std::uint64_t steps_recorded = 0;  // With statistics; rejected ones too.
  std::uint64_t steps_rejected = 0;
  std::uint64_t steps_skipped = 0;  // Told by a step or a gap record.
  std::uint64_t steps_lost = 0;
};

class Ledger {
 public:
  // The next record, as it stands in the ring. `refused`: the collector is
  // going to refuse it for good.
  void Note(const agent::EntryView& entry, bool refused);

  std::uint64_t last_seq() const { return effects_.size(); }
  const Sums& SumsThrough(std::uint64_t seq) const { return sums_[seq]; }
  // Steps of gap records and of skipped steps, of all records.
  const std::map<GapCause, std::uint64_t>& told() const { return told_; }

  const std::optional<EndData>& end() const { return end_; }

  // Throws a Violation unless `commit` holds records of this process that
  // follow `cursor`, each once, with their very content.
  void Check(const StoredCommit& commit, std::uint64_t cursor) const;

 private:
  // Those of gap records, and of steps that the collector refuses: one for
  // those in a row.
  std::vector<Effect> GapsOf(std::uint64_t first_seq,
                             std::uint64_t last_seq) const;
  void NoteWhole(std::string_view record, bool refused, Sums* sums);
  void NoteStep(std::string_view body, bool refused, Sums* sums);

  std::vector<Effect> effects_;        // Index: seq - 1.
  std::vector<Sums> sums_ = {Sums{}};  // Index: seq.
  std::map<GapCause, std::uint64_t> told_;
  std::optional<EndData> end_;
  std::uint32_t branch_ = 0;
  std::string joined_;  // Parts so far.
};

}  // namespace gradtap::sim

#endif  // GRADTAP_TESTS_SIM_LEDGER_H_
