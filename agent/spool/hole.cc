#include "agent/spool/hole.h"

#include <algorithm>

#include "core/codec.h"
#include "core/limits.h"

namespace gradtap::agent {
namespace {

// A step that a collector takes.
bool IsStep(std::int64_t step) { return step >= 0 && step <= kMaxStep; }

// What a hole comes to.
struct Told {
  std::uint64_t last = 0;  // Steps before `next`, on its branch.
  std::uint64_t rollbacks = 0;
  std::uint64_t first = 0;  // Steps behind `before`, on its branch.
};

Told WhatToTell(const Hole& hole) {
  Told told;
  const LoopPlace& next = hole.next;
  const auto up_to_next = static_cast<std::uint64_t>(next.step);
  const bool known = hole.before.has_value();
  const std::uint32_t from = known ? hole.before->branch : 0;
  if (from > next.branch) return told;
  const bool may_be_had = !known && !hole.from_start;
  // A collector passes over rollbacks that it has, and would hear of nothing.
  const std::uint64_t for_gap = may_be_had && hole.records > 1 ? 1 : 0;
  told.rollbacks =
      std::min<std::uint64_t>(next.branch - from, hole.records - for_gap);
  // If it has them, all are steps.
  std::uint64_t records = hole.records - told.rollbacks;
  if (may_be_had && records > 0) records = hole.records;
  const std::uint64_t parts =
      std::max({std::uint32_t{1}, next.parts, known ? hole.before->parts : 0});
  const std::uint64_t steps = records / parts + (records % parts != 0 ? 1 : 0);
  if (known && from == next.branch && !next.went_back) {
    if (next.step > hole.before->step) {
      told.last = static_cast<std::uint64_t>(next.step - hole.before->step) - 1;
    }
    return told;
  }
  if (!known || from != next.branch) told.last = std::min(steps, up_to_next);
  if (known) {
    told.first =
        std::min(steps - told.last,
                 static_cast<std::uint64_t>(kMaxStep - hole.before->step));
  }
  return told;
}

HoleRecord GapOf(std::uint32_t branch, std::int64_t first_step,
                 std::uint64_t steps, std::string_view detail) {
  GapData gap;
  gap.cause = GapCause::kIoError;
  gap.first_step = first_step;
  gap.last_step = first_step + static_cast<std::int64_t>(steps) - 1;
  gap.steps = steps;
  gap.detail = std::string(detail);
  HoleRecord record;
  record.meta.kind = EntryKind::kGap;
  record.meta.cause = gap.cause;
  record.meta.branch = branch;
  record.meta.step = gap.first_step;
  record.meta.last_step = gap.last_step;
  record.meta.steps = gap.steps;
  record.bytes = EncodeGap(gap);
  return record;
}

}  // namespace

std::optional<LoopPlace> FirstPlace(const EntryMeta& meta) {
  if (!IsStep(meta.step)) return std::nullopt;
  switch (meta.kind) {
    case EntryKind::kStep:
      // Of one whose first parts are missing the rest is of no use.
      return LoopPlace{meta.branch, meta.step + (meta.part_index > 0 ? 1 : 0),
                       meta.part_count};
    case EntryKind::kGap:
      return LoopPlace{meta.branch, meta.step};
    case EntryKind::kRollback:
      if (meta.branch == 0) return std::nullopt;
      return LoopPlace{meta.branch - 1, meta.step, 0, /*went_back=*/true};
    case EntryKind::kSchema:
    case EntryKind::kEnd:
      break;
  }
  return std::nullopt;
}

std::optional<LoopPlace> LastPlace(const EntryMeta& meta) {
  if (!IsStep(meta.step)) return std::nullopt;
  switch (meta.kind) {
    case EntryKind::kStep: {
      const bool whole = meta.part_index + 1 >= meta.part_count;
      return LoopPlace{meta.branch, whole ? meta.step : meta.step - 1,
                       meta.part_count};
    }
    case EntryKind::kGap:
      if (!IsStep(meta.last_step)) return std::nullopt;
      return LoopPlace{meta.branch, meta.last_step};
    case EntryKind::kRollback:
      return LoopPlace{meta.branch, meta.step - 1};
    case EntryKind::kSchema:
    case EntryKind::kEnd:
      break;
  }
  return std::nullopt;
}

HoleRecord RecordOfHole(const Hole& hole, std::uint64_t behind) {
  const LoopPlace& next = hole.next;
  const Told told = WhatToTell(hole);
  const std::int64_t back_to = next.step - static_cast<std::int64_t>(told.last);
  if (told.last > 0 && behind == 0) {
    return GapOf(next.branch, back_to, told.last, hole.detail);
  }
  if (told.last > 0) --behind;
  HoleRecord record;
  record.meta.kind = EntryKind::kEnd;
  if (behind < told.rollbacks) {
    record.meta.kind = EntryKind::kRollback;
    record.meta.branch = next.branch - static_cast<std::uint32_t>(behind);
    record.meta.step = back_to;
    record.bytes = EncodeRollback({back_to, record.meta.branch});
    return record;
  }
  if (told.first > 0 && behind == told.rollbacks) {
    return GapOf(hole.before->branch, hole.before->step + 1, told.first,
                 hole.detail);
  }
  return record;
}

}  // namespace gradtap::agent
