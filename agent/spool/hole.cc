#include "agent/spool/hole.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {
namespace {

bool TellsOfSteps(const EntryMeta& meta) {
  return meta.kind == EntryKind::kStep || meta.kind == EntryKind::kGap;
}

}  // namespace

std::optional<LoopPlace> FirstPlace(const EntryMeta& meta) {
  if (!TellsOfSteps(meta)) return std::nullopt;
  return LoopPlace{meta.branch, meta.step, meta.part_count};
}

std::optional<LoopPlace> LastPlace(const EntryMeta& meta) {
  if (!TellsOfSteps(meta)) return std::nullopt;
  const bool gap = meta.kind == EntryKind::kGap;
  return LoopPlace{meta.branch, gap ? meta.last_step : meta.step,
                   meta.part_count};
}

std::optional<GapData> GapOfHole(const std::optional<LoopPlace>& before,
                                 const LoopPlace& next, std::uint64_t records,
                                 std::string detail) {
  GapData gap;
  gap.cause = GapCause::kIoError;
  gap.last_step = next.step - 1;
  gap.detail = std::move(detail);
  if (before) {
    if (before->branch != next.branch || next.step <= before->step) {
      return std::nullopt;
    }
    gap.steps = static_cast<std::uint64_t>(next.step - before->step) - 1;
  } else {
    gap.steps = std::min(
        records / std::max<std::uint32_t>(next.parts, 1),
        static_cast<std::uint64_t>(std::max<std::int64_t>(next.step, 0)));
  }
  if (gap.steps == 0) return std::nullopt;
  gap.first_step = next.step - static_cast<std::int64_t>(gap.steps);
  return gap;
}

EntryMeta MetaOfHole(const std::optional<GapData>& gap, std::uint32_t branch) {
  EntryMeta meta;
  meta.kind = EntryKind::kEnd;
  if (!gap) return meta;
  meta.kind = EntryKind::kGap;
  meta.cause = gap->cause;
  meta.branch = branch;
  meta.step = gap->first_step;
  meta.last_step = gap->last_step;
  meta.steps = gap->steps;
  return meta;
}

}  // namespace gradtap::agent
