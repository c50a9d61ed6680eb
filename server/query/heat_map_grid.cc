#include "server/query/heat_map_grid.h"

#include <algorithm>
#include <utility>

#include "server/query/gaps.h"
#include "server/store/rollup/block.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

absl::StatusOr<HeatMapGrid> HeatMapGrid::Make(Store* store, const Line& line,
                                              const StepWindow& window,
                                              bool rolled,
                                              std::uint32_t max_buckets,
                                              ReadBudget* budget) {
  HeatMapGrid grid(line.rank, rolled);
  for (const Segment& segment : line.segments) {
    const StepWindow within{std::max(segment.begin, window.begin),
                            std::min(segment.end, window.end)};
    if (within.begin >= within.end) continue;
    RolledSpan span{within.end, within.end};
    if (rolled) {
      const absl::StatusOr<RolledSpan> found = store->RolledUp(
          segment.stream->id, segment.branch, within.begin, within.end);
      if (!found.ok()) return found.status();
      if (found->begin < found->end) span = *found;
    }
    absl::Status s =
        grid.AddSteps(store, segment, {within.begin, span.begin}, budget);
    if (s.ok()) s = grid.AddRolled(store, segment, span, budget);
    if (s.ok()) {
      s = grid.AddSteps(store, segment, {span.end, within.end}, budget);
    }
    if (!s.ok()) return s;
  }
  const std::size_t units = std::max<std::size_t>(1, grid.units_.size());
  grid.units_a_bucket_ =
      static_cast<std::uint32_t>((units + max_buckets - 1) / max_buckets);
  return grid;
}

HeatMapStretch* HeatMapGrid::AddStretch(const Segment& segment,
                                        const StepWindow& steps, bool rolled) {
  HeatMapStretch& stretch = stretches_.emplace_back();
  stretch.segment = segment;
  stretch.steps = steps;
  stretch.rolled = rolled;
  stretch.first_unit = static_cast<std::uint32_t>(units_.size());
  return &stretch;
}

void HeatMapGrid::AddStep(const StoredStep& step, bool begins_unit) {
  if (begins_unit) {
    units_.push_back({step.step(), 0, step.wall_time_unix_ns(), 0});
  }
  units_.back().last_step = step.step();
  ++units_.back().recorded;
}

absl::Status HeatMapGrid::AddRolled(Store* store, const Segment& segment,
                                    const RolledSpan& span,
                                    ReadBudget* budget) {
  if (span.begin >= span.end) return absl::OkStatus();
  HeatMapStretch* stretch =
      AddStretch(segment, {span.begin, span.end}, /*rolled=*/true);
  stretch->span = span;
  absl::Status charged;
  const absl::Status s = store->ScanTimelines(
      segment.stream->id, segment.branch, span.begin, span.end,
      [&](std::int64_t first_step, const TimelineView& window) {
        charged = budget->Charge(0);
        stretch->unit_of[first_step] =
            static_cast<std::uint32_t>(units_.size());
        if (window.recorded() > 0) stretch->schemas.insert(window.schema_id());
        for (std::uint32_t at = 0; at < window.recorded(); at += kRollupRun) {
          const std::uint32_t recorded =
              std::min(kRollupRun, window.recorded() - at);
          const std::uint32_t first = window.RowOfRecorded(at);
          const std::uint32_t last = window.RowOfRecorded(at + recorded - 1);
          units_.push_back({window.step(first), window.step(last),
                            window.time(first), recorded});
        }
        for (const GapData& gap : SkippedRowsOf(window)) {
          gaps_.push_back(MakeGap(segment.attempt, rank_, segment.branch, gap));
        }
        return charged.ok();
      });
  return s.ok() ? charged : s;
}

absl::Status HeatMapGrid::AddSteps(Store* store, const Segment& segment,
                                   const StepWindow& window,
                                   ReadBudget* budget) {
  if (window.begin >= window.end) return absl::OkStatus();
  HeatMapStretch* stretch = AddStretch(segment, window, /*rolled=*/false);
  stretch->unit_steps = rolled_ ? kRollupRun : 1;
  std::uint64_t recorded = 0;
  const auto take = [&](const StepRow& row) -> absl::Status {
    if (row.window == nullptr) {
      absl::Status s = budget->Charge(row.body.size());
      if (!s.ok()) return s;
    }
    const auto step = OpenStep(row);
    if (!step.ok()) return step.status();
    if ((*step)->skipped() != GapCause::kUnspecified) {
      gaps_.push_back(MakeGap(segment.attempt, rank_, segment.branch,
                              GapOfSkippedRow(**step)));
    }
    if ((*step)->has_columns()) {
      AddStep(**step, recorded++ % stretch->unit_steps == 0);
    }
    return absl::OkStatus();
  };
  absl::Status taken;
  const absl::Status s =
      store->ScanSteps(segment.stream->id, segment.branch, window.begin,
                       window.end, [&](const StepRow& row) {
                         taken = take(row);
                         return taken.ok();
                       });
  return s.ok() ? taken : s;
}

void HeatMapGrid::Describe(v1::GetHeatMapResponse* response) const {
  response->set_bucket_steps(units_a_bucket_ * (rolled_ ? kRollupRun : 1));
  for (std::size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    v1::HeatMapBucket* bucket = nullptr;
    if (u % units_a_bucket_ == 0) {
      bucket = response->add_buckets();
      bucket->set_first_step(unit.first_step);
      bucket->set_first_time_unix_ns(unit.first_time_unix_ns);
    } else {
      bucket = response->mutable_buckets(response->buckets_size() - 1);
    }
    bucket->set_last_step(unit.last_step);
    bucket->set_recorded(bucket->recorded() + unit.recorded);
  }
}

}  // namespace gradtap::server
