#include "server/query/series_query.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/query/errors.h"
#include "server/query/gaps.h"
#include "server/query/rolled_series.h"
#include "server/query/series_check.h"
#include "server/query/series_scan.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMinBlockBytes = std::size_t{256} << 10;
constexpr std::size_t kMinGaps = 1'000;
constexpr std::size_t kMaxScalarNames = 10'000;

}  // namespace

absl::Status SeriesScan::Prepare() {
  if (request_.runs().empty()) {
    return absl::InvalidArgumentError(
        "no run was named; at least one is needed");
  }
  if (request_.statistics().empty()) {
    return absl::InvalidArgumentError(
        "no statistic was named; at least one is needed, for example grad.l2");
  }
  if (request_.since_unix_ns() < 0 || request_.until_unix_ns() < 0 ||
      (request_.until_unix_ns() != 0 &&
       request_.until_unix_ns() < request_.since_unix_ns())) {
    return absl::InvalidArgumentError(
        "the times asked for end before they begin: since " +
        std::to_string(request_.since_unix_ns()) + ", until " +
        std::to_string(request_.until_unix_ns()));
  }
  absl::StatusOr<StatisticSelection> statistics =
      ParseStatistics(request_.statistics());
  if (!statistics.ok()) return statistics.status();
  statistics_ = *std::move(statistics);
  absl::StatusOr<NameFilter> match = ParseMatch(request_.match());
  if (!match.ok()) return match.status();
  match_ = *std::move(match);
  absl::StatusOr<ParameterGroups> groups =
      ParameterGroups::Parse(request_.merge_match());
  if (!groups.ok()) return groups.status();
  groups_ = *std::move(groups);
  ranks_.assign(request_.ranks().begin(), request_.ranks().end());
  std::sort(ranks_.begin(), ranks_.end());
  ranks_.erase(std::unique(ranks_.begin(), ranks_.end()), ranks_.end());
  std::set<std::string> names;
  for (const std::string& name : request_.runs()) {
    if (!names.insert(name).second) continue;
    absl::StatusOr<RunView> run = OpenRun(*environment_.store, name);
    if (!run.ok()) return run.status();
    absl::Status status = CheckAttempt(*run, request_.attempt());
    for (const std::uint32_t rank : ranks_) {
      if (status.ok()) status = CheckRank(*run, request_.attempt(), rank);
    }
    if (!status.ok()) return status;
    runs_.push_back(*std::move(run));
  }
  return absl::OkStatus();
}

absl::Status SeriesScan::Run(v1::GetSeriesResponse* response) {
  absl::Status status = Prepare();
  if (!status.ok()) return status;
  if (!statistics_.records.empty()) {  // Scalars need no parameter.
    status = CheckParameters(runs_, request_.attempt(), statistics_, match_,
                             request_.match(), &schemas_);
    if (status.ok()) {
      status = CheckGroups(runs_, request_.attempt(), statistics_, match_,
                           groups_, &schemas_);
    }
  }
  if (!status.ok()) return status;
  for (const RunView& run : runs_) {
    status = RunOne(run);
    if (!status.ok()) return status;
  }
  status = CheckScalars(environment_.store, runs_, request_.attempt(),
                        statistics_, scalar_names_, &budget_);
  if (!status.ok()) return status;
  status = series_.Finish(environment_.store, response);
  if (!status.ok()) return status;
  SortAndJoin(&gaps_);
  Coalesce(std::max<std::size_t>(kMinGaps, request_.max_points()), &gaps_);
  for (v1::GapInfo& gap : gaps_) *response->add_gaps() = std::move(gap);
  return absl::OkStatus();
}

absl::Status SeriesScan::RunOne(const RunView& run) {
  std::vector<Line> lines;
  std::int64_t last_step = -1;
  for (const std::uint32_t rank : run.Ranks(request_.attempt())) {
    if (!ranks_.empty() &&
        !std::binary_search(ranks_.begin(), ranks_.end(), rank)) {
      continue;
    }
    lines.push_back(run.LineOf(rank, request_.attempt()));
    last_step = std::max(last_step, lines.back().last_step());
  }
  if (request_.merged()) {
    // One end for all ranks: that of the rank that has come furthest.
    const StepWindow window = ResolveSteps(request_.steps(), last_step);
    series_.StartLine(run.name(), kMergedRank);
    merged_ranks_ = ranks_;
    return ScanMerged(run, lines, window);
  }
  for (const Line& line : lines) {
    const StepWindow window = ResolveSteps(request_.steps(), line.last_step());
    series_.StartLine(run.name(), line.rank);
    merged_ranks_ = {line.rank};
    absl::Status status = groups_.empty() ? ScanRank(line, window)
                                          : ScanMerged(run, {line}, window);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool SeriesScan::InTime(const StoredStep& step) {
  if (!Times().Contains(step.wall_time_unix_ns())) return false;
  NoteInTime(step.step());
  return true;
}

void SeriesScan::NoteInTime(std::int64_t step) {
  if (last_in_time_ < 0) first_in_time_ = step;
  first_in_time_ = std::min(first_in_time_, step);
  last_in_time_ = std::max(last_in_time_, step);
}

TimeWindow SeriesScan::Times() const {
  TimeWindow times;
  times.since_unix_ns = request_.since_unix_ns();
  if (request_.until_unix_ns() != 0) {
    times.until_unix_ns = request_.until_unix_ns();
  }
  return times;
}

void SeriesScan::NoteSkipped(const Line& line, const Segment& segment,
                             const StoredStep& step) {
  if (step.skipped() == GapCause::kUnspecified) return;
  AddSkipped(MakeGap(segment.attempt, line.rank, segment.branch,
                     GapOfSkippedRow(step)));
}

void SeriesScan::AddSkipped(v1::GapInfo gap) {
  gaps_.push_back(std::move(gap));
  // Rows come in order: joining now keeps memory in proportion to the answer.
  if (gaps_.size() >= 65'536) {
    SortAndJoin(&gaps_);
    Coalesce(32'768, &gaps_);
  }
}

absl::Status SeriesScan::AddGaps(const Line& line, StepWindow window) {
  if (request_.since_unix_ns() != 0 || request_.until_unix_ns() != 0) {
    window.begin = std::max(window.begin, first_in_time_);
    window.end = std::min(window.end, last_in_time_ + 1);
  }
  if (window.begin >= window.end) return absl::OkStatus();
  return AddStoredGaps(environment_.store, line, window, &gaps_);
}

std::uint64_t SeriesScan::AddScalars(const StoredStep& step, const Point& at) {
  if (statistics_.scalars.empty()) return 0;
  std::uint64_t added = 0;
  step.ForEachScalar(
      [&](std::string_view name) {
        if (scalar_names_.size() < kMaxScalarNames) {
          scalar_names_.insert(ScalarStatisticName(name));
        }
        return statistics_.WantsScalar(name);
      },
      [&](std::string_view name, double value) {
        Point point = at;
        point.value = value;
        series_.Find("", ScalarStatisticName(name))->Add(point);
        ++added;
      });
  return added;
}

absl::StatusOr<SeriesScan::Plan*> SeriesScan::PlanOf(StreamId stream,
                                                     std::uint32_t schema_id,
                                                     Plans* plans) {
  Plan& plan = (*plans)[stream][schema_id];
  if (plan.index != nullptr) return &plan;
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas_.Get(stream, schema_id);
  if (!index.ok()) return index.status();
  plan.index = *std::move(index);
  const std::vector<Parameter>& parameters = plan.index->schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!match_.Matches(parameters[i].name)) continue;
    for (const Statistic& statistic : statistics_.records) {
      if (!HasStatistic(plan.index->places()[i], statistic)) continue;
      plan.targets.push_back(
          {series_.Find(parameters[i].name, statistic.name, 0,
                        CanBeRolledUp(statistic) ? expected_ : 0),
           &statistic, i});
      AddBlock(statistic, plan.index->places()[i], &plan.blocks);
    }
  }
  return &plan;
}

absl::StatusOr<std::shared_ptr<const StepHistograms>> SeriesScan::HistogramsOf(
    std::uint32_t rank, const Segment& segment, const StoredStep& step,
    const BlockSet& blocks) {
  if (blocks.empty()) return nullptr;
  HistogramSteps& steps =
      histogram_steps_.try_emplace(rank, environment_.store).first->second;
  const absl::StatusOr<bool> has = steps.Has(segment, step);
  if (!has.ok()) return has.status();
  if (!*has) return nullptr;
  absl::StatusOr<StepHistograms> read =
      StepHistograms::Read(environment_.store, segment, step, blocks, &budget_);
  if (!read.ok()) return read.status();
  return std::make_shared<const StepHistograms>(*std::move(read));
}

absl::StatusOr<bool> SeriesScan::NextGroup(std::vector<RowReader>* readers,
                                           const std::vector<Line>& lines,
                                           Segment* segment,
                                           std::vector<RankRow>* rows) {
  rows->clear();
  std::int64_t step = std::numeric_limits<std::int64_t>::max();
  bool any = false;
  for (RowReader& reader : *readers) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) continue;
    any = true;
    step = std::min(step, (*row)->step);
  }
  if (!any) return false;
  for (std::size_t i = 0; i < readers->size(); ++i) {
    absl::StatusOr<const Row*> row = (*readers)[i].Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr || (*row)->step != step) continue;
    const Segment from = (*row)->segment;
    std::shared_ptr<const StoredStep> stored = (*row)->stored;
    // What the row before it has read is charged.
    absl::Status status = (*readers)[i].Pop();
    if (!status.ok()) return status;
    if (!InTime(*stored)) continue;
    NoteSkipped(lines[i], from, *stored);
    if (rows->empty()) *segment = from;
    rows->push_back({lines[i].rank, from, std::move(stored), nullptr, nullptr});
  }
  return true;
}

absl::Status SeriesScan::PlanGroup(const RunView& run, const Segment& segment,
                                   const std::vector<RankRow>& rows,
                                   MergedPlan* plan) {
  absl::StatusOr<MergePlan> merge =
      PlanMerge(run, segment.attempt, merged_ranks_, rows, match_, &schemas_);
  if (!merge.ok()) return merge.status();
  plan->merge = *std::move(merge);
  plan->blocks.resize(rows.size());
  plan->series = PlanSeries(groups_, statistics_, plan->merge, match_);
  for (const PlannedSeries& series : plan->series) {
    plan->samplers.push_back(
        series_.Find(series.name, series.statistic->name, series.count));
    for (const MergedParameter* member : series.members) {
      for (std::size_t row = 0; row < rows.size(); ++row) {
        AddBlocks(*series.statistic, *member, row, &plan->blocks[row]);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SeriesScan::AddGroup(const RunView& run, const Segment& segment,
                                  const std::vector<RankRow>& all_rows,
                                  std::map<GroupKey, MergedPlan>* plans) {
  if (all_rows.empty()) return absl::OkStatus();
  const StoredStep& first = *all_rows[0].step;
  Point point{first.step(), first.wall_time_unix_ns(), 0, segment.attempt,
              false};
  std::uint64_t added = AddScalars(first, point);
  std::vector<RankRow> rows;
  GroupKey key;
  for (const RankRow& row : all_rows) {
    if (!row.step->has_columns()) continue;
    rows.push_back(row);
    const StreamId stream = row.segment.stream->id;
    key.emplace_back(stream, row.step->schema_id());
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(stream, row.step->schema_id());
    if (!index.ok()) return index.status();
    rows.back().index = *std::move(index);
  }
  if (rows.empty() || statistics_.records.empty()) return series_.Check(added);
  auto [it, is_new] = plans->try_emplace(key);
  MergedPlan& plan = it->second;
  if (is_new) {
    absl::Status status = PlanGroup(run, segment, rows, &plan);
    if (!status.ok()) return status;
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    auto histograms = HistogramsOf(rows[i].rank, rows[i].segment, *rows[i].step,
                                   plan.blocks[i]);
    if (!histograms.ok()) return histograms.status();
    rows[i].histograms = *std::move(histograms);
  }
  for (std::size_t i = 0; i < plan.series.size(); ++i) {
    const std::optional<Value> value =
        EvaluateGroup(*plan.series[i].statistic, plan.series[i], rows);
    if (!value.has_value()) continue;
    point.value = value->value;
    point.absent = value->absent;
    plan.samplers[i]->Add(point);
    ++added;
  }
  for (const RankRow& row : rows) {
    if (!row.step->status().ok()) return row.step->status();
  }
  return series_.Check(added);
}

absl::Status SeriesScan::ScanMerged(const RunView& run,
                                    const std::vector<Line>& lines,
                                    const StepWindow& window) {
  first_in_time_ = 0;
  last_in_time_ = -1;
  const std::size_t block =
      std::max(kMinBlockBytes,
               4 * kSeriesBlockBytes / std::max<std::size_t>(1, lines.size()));
  std::vector<RowReader> readers;
  readers.reserve(lines.size());
  for (const Line& line : lines) {
    const absl::StatusOr<std::vector<TimedSegment>> pieces =
        SegmentsInTime(environment_.store, line, window, Times(), &budget_);
    if (!pieces.ok()) return pieces.status();
    Line in_time{line.rank, {}};
    for (const TimedSegment& piece : *pieces) {
      in_time.segments.push_back(piece.segment);
    }
    readers.emplace_back(environment_.store, in_time, window, block, &budget_,
                         [&](const Segment& segment, SealedWindow* sealed) {
                           return FocusOn(segment, sealed);
                         });
  }
  std::map<GroupKey, MergedPlan> plans;
  std::vector<RankRow> rows;
  for (;;) {
    Segment segment;
    absl::StatusOr<bool> more = NextGroup(&readers, lines, &segment, &rows);
    if (!more.ok()) return more.status();
    if (!*more) break;
    absl::Status status = AddGroup(run, segment, rows, &plans);
    if (!status.ok()) return status;
  }
  for (const Line& line : lines) {
    absl::Status status = AddGaps(line, window);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status GetSeries(const QueryEnvironment& environment,
                       const v1::GetSeriesRequest& request,
                       const Cancelled& cancelled,
                       v1::GetSeriesResponse* response) {
  return SeriesScan(environment, request, cancelled).Run(response);
}

}  // namespace gradtap::server
