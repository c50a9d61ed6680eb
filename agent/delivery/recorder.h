// Admission: what the training thread hands over becomes entries of the ring,
// or is counted as missing and told by a gap record as soon as there is room.
//
// As the ring fills up, steps are thinned (thinning.h), then refused, newest
// first; steps in which a NaN or an infinity is new are not thinned, and the
// last 1/16 of the ring's ordinary room is for them (room for one and a half of
// the last step's size if that is more, and at most a quarter; nothing in a
// ring that is too small for it).
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_RECORDER_H_
#define GRADTAP_AGENT_DELIVERY_RECORDER_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>

#include "agent/delivery/books.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/thinning.h"
#include "core/clock.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::agent {

// [Threading] One thread at a time: the training loop's. Never waits. A step
// that fits in one record allocates nothing unless a gap with a detail, several
// gaps, a rollback or a schema are pending.
class Recorder {
 public:
  // All must outlive it.
  Recorder(Ring* ring, Books* books, const Clock* clock);

  // Kept until there is room; no later step is admitted before it.
  void PutSchema(const Schema& schema);

  // Admitted, with all that is pending before it, or lost: kThinned, or what
  // the books name as full_cause(). Thinned is LOST, not SKIPPED: nobody asked
  // for it, and the step had been captured. A step not above the last one
  // begins a new branch, as after Rollback().
  void PutStep(const StepData& step);

  // Steps that have no record. Neighbours of equal cause and detail join while
  // they are pending, for at most a second.
  void PutGap(GapCause cause, std::int64_t step, const std::string& detail);

  // The next step is `step`; no effect if that is above the last one.
  void Rollback(std::int64_t step);

  // Admits what is pending and the End record, into the reserve if need be.
  // Whatever is put afterwards is lost (kShutdown). Idempotent.
  void PutEnd(EndReason reason);

  bool ended() const { return ended_; }

  // Admits to another, empty ring from now on. Only before anything was.
  void UseRing(Ring* ring) { ring_ = ring; }

 private:
  struct PendingSchema {
    std::string record;
    std::uint64_t fingerprint = 0;
  };
  struct PendingGap : GapData {
    std::uint32_t branch = 0;  // A rollback may be pending behind it.
  };
  using Pending = std::variant<PendingGap, RollbackData, PendingSchema>;

  void NoteStep(std::int64_t step);
  void AddGap(GapCause cause, std::int64_t step, const std::string& detail);
  // Reserves without publishing; false, with nothing taken back, if full.
  bool ReservePending(Ring::Room room);
  bool ReserveRecord(EntryMeta meta, std::string_view record, Ring::Room room);
  // `size` is EncodedStepSize(step).
  bool ReserveStep(const StepData& step, std::size_t size);
  // The same with what is pending before it; if not, why not.
  GapCause ReserveOrRefuse(const StepData& step, std::size_t size);
  // Of the ordinary room, for steps that are not finite.
  std::size_t KeptBytes() const;
  // Publishes what is reserved and counts it.
  void Publish();
  void Abandon();
  void AdmitPendingAlone();

  Ring* ring_;
  Books* const books_;
  const Clock* const clock_;

  std::deque<Pending> pending_;
  std::chrono::steady_clock::time_point pending_since_;
  // A rollback that finds `pending_` at its bound.
  std::optional<RollbackData> deferred_rollback_;
  std::uint32_t branch_ = 0;
  std::optional<std::int64_t> last_step_;  // In this branch.
  bool ended_ = false;
  Thinning thinning_;
  std::size_t step_bytes_ = 0;  // What the last step takes, of those recorded.

  std::uint64_t reserved_steps_ = 0;  // Since the last Publish().
  std::uint64_t reserved_bytes_ = 0;
  std::string scratch_;     // Steps that travel in parts.
  std::string gap_record_;  // Keeps its memory.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_RECORDER_H_
