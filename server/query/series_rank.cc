#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "server/query/gaps.h"
#include "server/query/rolled_series.h"
#include "server/query/series_scan.h"
#include "server/query/time_window.h"

namespace gradtap::server {
absl::Status SeriesScan::FocusOn(const Segment& segment, SealedWindow* window) {
  if (window->timeline().recorded() == 0) return absl::OkStatus();
  const std::uint32_t schema_id = window->timeline().schema_id();
  const auto [it, is_new] = focus_.try_emplace({segment.stream->id, schema_id});
  if (is_new) {
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(segment.stream->id, schema_id);
    if (!index.ok()) return index.status();
    const std::vector<Parameter>& parameters = (*index)->schema().parameters;
    auto& [first, last] = it->second;
    first = static_cast<std::uint32_t>(parameters.size());
    for (std::uint32_t i = 0; i < parameters.size(); ++i) {
      if (!match_.Matches(parameters[i].name)) continue;
      first = std::min(first, i);
      last = i;
    }
  }
  window->Focus(it->second.first, it->second.second);
  return absl::OkStatus();
}

absl::Status SeriesScan::AddRecords(const Line& line, const Row& row,
                                    Point point, const Plan& plan,
                                    std::uint64_t* added) {
  const StoredStep& step = *row.stored;
  const auto histograms =
      HistogramsOf(line.rank, row.segment, step, plan.blocks);
  if (!histograms.ok()) return histograms.status();
  for (const Target& target : plan.targets) {
    const std::optional<Value> value =
        Evaluate(*target.statistic, step,
                 plan.index->places()[target.parameter], histograms->get());
    if (!value.has_value()) continue;
    point.value = value->value;
    point.absent = value->absent;
    target.sampler->Add(point);
    ++*added;
  }
  return absl::OkStatus();
}

absl::Status SeriesScan::ScanRank(const Line& line, const StepWindow& window) {
  first_in_time_ = 0;
  last_in_time_ = -1;
  const absl::StatusOr<std::vector<TimedSegment>> pieces =
      SegmentsInTime(environment_.store, line, window, Times(), &budget_);
  if (!pieces.ok()) return pieces.status();
  std::uint64_t rows = 0;
  for (const TimedSegment& piece : *pieces) {
    rows += RowsOf({line.rank, {piece.segment}}, piece.all);
  }
  const bool rolls_up = request_.max_points() > 0 &&
                        rows / kRolledFactor >= request_.max_points();
  expected_ = rolls_up ? rows : 0;
  Plans plans;
  for (const TimedSegment& piece : *pieces) {
    const Segment& segment = piece.segment;
    const Branch& branch = segment.stream->branches[segment.branch];
    RolledSpan span{segment.end, segment.end};
    // Where nothing else is left roll-ups are better than nothing.
    const std::int64_t rolled_end =
        rolls_up ? piece.all.end
                 : std::min(piece.all.end, branch.rolled_up_end);
    if (piece.all.begin < rolled_end && !statistics_.records.empty()) {
      const absl::StatusOr<RolledSpan> rolled = environment_.store->RolledUp(
          segment.stream->id, segment.branch, piece.all.begin, rolled_end);
      if (!rolled.ok()) return rolled.status();
      if (rolled->begin < rolled->end) span = *rolled;
    }
    absl::Status status =
        ScanRows(line, segment, {segment.begin, span.begin}, &plans);
    if (status.ok()) status = ScanRolledUp(line, segment, span, &plans);
    if (status.ok()) {
      status = ScanRows(line, segment, {span.end, segment.end}, &plans);
    }
    if (!status.ok()) return status;
  }
  return AddGaps(line, window);
}

absl::Status SeriesScan::ScanRows(const Line& line, const Segment& segment,
                                  const StepWindow& window, Plans* plans) {
  if (window.begin >= window.end) return absl::OkStatus();
  RowReader reader(environment_.store, {line.rank, {segment}}, window,
                   kSeriesBlockBytes, &budget_,
                   [&](const Segment& at, SealedWindow* sealed) {
                     return FocusOn(at, sealed);
                   });
  for (;;) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) return absl::OkStatus();
    absl::Status status = AddRow(line, **row, plans);
    if (status.ok()) status = reader.Pop();
    if (!status.ok()) return status;
  }
}

absl::Status SeriesScan::ScanRolledUp(const Line& line, const Segment& segment,
                                      const RolledSpan& span, Plans* plans) {
  if (span.begin >= span.end) return absl::OkStatus();
  NoteInTime(span.begin);
  NoteInTime(span.end - 1);
  const StreamId stream = segment.stream->id;
  struct Wanted {
    const Statistic* statistic = nullptr;
    std::vector<RolledPart> parts;
    std::vector<std::pair<std::uint32_t, Target>> targets;  // By schema.
  };
  std::vector<DownSampler*> order;
  std::map<DownSampler*, Wanted> wanted;
  for (std::uint32_t id = 1; id <= segment.stream->schema_id; ++id) {
    absl::StatusOr<Plan*> plan = PlanOf(stream, id, plans);
    if (absl::IsNotFound(plan.status())) continue;
    if (!plan.ok()) return plan.status();
    for (const Target& target : (*plan)->targets) {
      const auto [it, is_new] = wanted.try_emplace(target.sampler);
      if (is_new) order.push_back(target.sampler);
      it->second.statistic = target.statistic;
      it->second.parts.push_back(
          {id, &(*plan)->index->places()[target.parameter]});
      it->second.targets.emplace_back(id, target);
    }
  }
  // What has to be read step by step all the same.
  Plans rest;
  // Of steps that come from roll-ups only because nothing else is left it has
  // to be told that they do.
  bool any_left = !statistics_.scalars.empty() || expected_ == 0;
  for (DownSampler* sampler : order) {
    const Wanted& one = wanted[sampler];
    const std::uint64_t before = sampler->seen();
    absl::StatusOr<bool> added = CanBeRolledUp(*one.statistic);
    if (*added) {
      added = AddRolledUp(environment_.store, segment, span, *one.statistic,
                          one.parts, &budget_, &series_, sampler);
    }
    if (!added.ok()) return added.status();
    absl::Status status = series_.Check((sampler->seen() - before) / 64);
    if (!status.ok()) return status;
    if (*added) continue;
    any_left = true;
    for (const auto& [id, target] : one.targets) {
      rest[stream][id].targets.push_back(target);
    }
  }
  if (!any_left) return NoteSkippedWithin(line, segment, span);
  for (auto& [id, plan] : (*plans)[stream]) {
    Plan& left = rest[stream][id];
    left.index = plan.index;
    for (const Target& target : left.targets) {
      AddBlock(*target.statistic, plan.index->places()[target.parameter],
               &left.blocks);
    }
  }
  return ScanRows(line, segment, {span.begin, span.end}, &rest);
}

absl::Status SeriesScan::NoteSkippedWithin(const Line& line,
                                           const Segment& segment,
                                           const RolledSpan& span) {
  if (segment.stream->skipped_steps == 0) return absl::OkStatus();
  return environment_.store->ScanTimelines(
      segment.stream->id, segment.branch, span.begin, span.end,
      [&](std::int64_t, const TimelineView& window) {
        for (const GapData& gap : SkippedRowsOf(window)) {
          AddSkipped(MakeGap(segment.attempt, line.rank, segment.branch, gap));
        }
        return true;
      });
}

absl::Status SeriesScan::AddRow(const Line& line, const Row& row,
                                Plans* plans) {
  const StoredStep& step = *row.stored;
  if (!InTime(step)) return absl::OkStatus();
  NoteSkipped(line, row.segment, step);
  const Point point{row.step, step.wall_time_unix_ns(), 0, row.segment.attempt,
                    false};
  std::uint64_t added = AddScalars(step, point);
  if (!statistics_.records.empty() && step.has_columns()) {
    absl::StatusOr<Plan*> plan =
        PlanOf(row.segment.stream->id, step.schema_id(), plans);
    if (!plan.ok()) return plan.status();
    absl::Status status = AddRecords(line, row, point, **plan, &added);
    if (!status.ok()) return status;
  }
  return series_.Check(added);
}

}  // namespace gradtap::server
