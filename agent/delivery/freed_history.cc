#include "agent/delivery/freed_history.h"

#include <algorithm>

#include "core/codec.h"
#include "core/step_data.h"

namespace gradtap::agent {

void FreedHistory::Add(const EntryView& entry) {
  // Its last part says it of the whole.
  const bool rejected =
      entry.rejected && entry.meta.part_index + 1 == entry.meta.part_count;
  if (entry.meta.kind == EntryKind::kSchema) {
    if (entry.meta.part_index == 0) {
      schema_.clear();
      schema_first_seq_ = entry.seq;
      schema_rejected_ = false;
    }
    if (entry.seq == schema_first_seq_ + schema_.size()) {
      schema_.emplace_back(entry.bytes);
    }
    schema_rejected_ |= rejected;
  }
  if (!runs_.empty() && Extends(runs_.back(), entry)) {
    Run& run = runs_.back();
    run.last_seq = entry.seq;
    if (!rejected || run.rejected) return;
    // Its record leaves the run.
    const std::uint64_t first_part = entry.seq - entry.meta.part_index;
    if (first_part <= run.first_seq) {
      run.rejected = true;
      return;
    }
    run.last_seq = first_part - 1;
    runs_.push_back({first_part, entry.seq, entry.meta, true});
  } else {
    runs_.push_back({entry.seq, entry.seq, entry.meta, rejected});
  }
  if (runs_.size() <= kMaxRuns) return;
  const Run& oldest = runs_.front();
  if (oldest.meta.kind == EntryKind::kRollback && !oldest.rejected &&
      rollbacks_.size() < kMaxRollbacks) {
    rollbacks_[oldest.first_seq] = {oldest.meta.step, oldest.meta.branch};
  }
  runs_.pop_front();
}

bool FreedHistory::Extends(const Run& run, const EntryView& entry) const {
  if (run.meta.kind != entry.meta.kind) return false;
  // A further part of the same record, or one of which nothing is told.
  if (entry.meta.part_index > 0 || entry.meta.kind == EntryKind::kEnd) {
    return true;
  }
  if (entry.meta.kind != EntryKind::kStep || run.rejected || entry.rejected ||
      run.meta.part_count != entry.meta.part_count) {
    return false;
  }
  const std::uint64_t records =
      (run.last_seq + 1 - run.first_seq) / run.meta.part_count;
  return entry.meta.step > run.meta.step &&
         static_cast<std::uint64_t>(entry.meta.step) -
                 static_cast<std::uint64_t>(run.meta.step) ==
             records;
}

std::string FreedHistory::Replacement(std::uint64_t seq) const {
  // However many runs have come since: without it all steps are refused.
  if (seq >= schema_first_seq_ && seq - schema_first_seq_ < schema_.size()) {
    return schema_rejected_ ? std::string() : schema_[seq - schema_first_seq_];
  }
  const auto after = std::upper_bound(
      runs_.begin(), runs_.end(), seq,
      [](std::uint64_t s, const Run& run) { return s < run.first_seq; });
  if (after == runs_.begin()) {
    const auto rollback = rollbacks_.find(seq);
    return rollback == rollbacks_.end() ? std::string()
                                        : EncodeRollback(rollback->second);
  }
  const Run& run = *(after - 1);
  if (seq > run.last_seq) return {};
  if (run.rejected && run.meta.kind != EntryKind::kStep) return {};
  const std::uint64_t offset = seq - run.first_seq;
  switch (run.meta.kind) {
    case EntryKind::kStep: {
      // Told in place of the last part.
      if ((offset + 1) % run.meta.part_count != 0) return {};
      const std::int64_t step =
          run.meta.step +
          static_cast<std::int64_t>(offset / run.meta.part_count);
      if (run.rejected) {
        return EncodeGap({GapCause::kRejected, step, step, 1, ""});
      }
      return EncodeGap({lost_by_, step, step, 1,
                        lost_by_ == GapCause::kRunDeleted
                            ? "the run was deleted while it went on"
                            : "the collector lost what it had acknowledged"});
    }
    case EntryKind::kGap:
      return EncodeGap({run.meta.cause, run.meta.step, run.meta.last_step,
                        run.meta.steps, ""});
    case EntryKind::kRollback:
      return EncodeRollback({run.meta.step, run.meta.branch});
    case EntryKind::kSchema:  // An older one.
    case EntryKind::kEnd:
      return {};
  }
  return {};
}

}  // namespace gradtap::agent
