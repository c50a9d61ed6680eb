// All that one process has at hand: what its spool holds, then what its ring
// holds. Spool, ring, or both may be missing.
//
// Seqs that stand in both (a process died between moving and freeing) are taken
// from the spool. Seqs that stand in neither, between the two, read as records
// of no kind, and the last of them as what is told of their steps
// (RecordOfHole()); of a copy they cannot be read: the original may have them.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_BACKLOG_H_
#define GRADTAP_AGENT_DELIVERY_BACKLOG_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "agent/delivery/record_source.h"
#include "agent/delivery/ring.h"
#include "agent/spool/kept_schema.h"
#include "agent/spool/spool.h"

namespace gradtap::agent {

// [Threading] One thread, the ring's consumer. Reading from the spool waits for
// the disk.
class Backlog : public RecordSource {
 public:
  // `ring` may be null and must outlive it.
  explicit Backlog(Ring* ring, std::unique_ptr<Spool> spool = nullptr)
      : ring_(ring), spool_(std::move(spool)) {}

  std::uint64_t first_seq() const override;
  std::uint64_t last_seq() const override;
  bool Read(std::uint64_t seq, EntryView* entry) override;
  std::size_t BytesFrom(std::uint64_t seq) override;
  void MarkRejected(std::uint64_t seq) override;
  void NoteDelivered(std::uint64_t next_seq) override {
    if (spool_ != nullptr) spool_->NoteDelivered(next_seq);
  }
  void FreeBefore(std::uint64_t next_seq) override;

  Spool* spool() const { return spool_.get(); }
  // Only while there is none.
  void SetSpool(std::unique_ptr<Spool> spool) { spool_ = std::move(spool); }

  // Moves the oldest records of the ring to the spool, which there must be,
  // until no more than `keep_bytes` are left in the ring, and keeps the schemas
  // there that they refer to. An error is the spool's; what it did not take
  // stays in the ring.
  absl::Status Spill(std::size_t keep_bytes);
  // The spool's folder stays even if it has no record: the ring's file is left,
  // and a schema that its records refer to may be there alone.
  void KeepFolder() {
    if (spool_ != nullptr) spool_->StayWithoutRecords(true);
  }
  // Why a record at hand, of a copy, cannot be read; OK: it can.
  absl::Status WhyUnreadable(std::uint64_t seq);
  // All that was spilled so far survives a loss of power.
  absl::Status Sync() {
    return spool_ == nullptr ? absl::OkStatus() : spool_->Close();
  }

 private:
  bool InSpool(std::uint64_t seq) const;
  bool HasSpooled() const;
  void KeepSchemas();
  // The record in place of one that stands in neither.
  EntryView Missing(std::uint64_t seq);

  Ring* const ring_;
  std::unique_ptr<Spool> spool_;
  std::set<std::uint64_t> rejected_;  // Of the spool's.
  // All of the spool is freed, and of the hole behind it what is before this
  // seq; 0: there is no such hole, or the spool has records.
  std::uint64_t hole_from_ = 0;
  std::uint64_t hole_begin_ = 0;  // Where it began.
  std::optional<LoopPlace> before_hole_;
  SchemaNotes schemas_;  // Of what was read from the ring.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_BACKLOG_H_
