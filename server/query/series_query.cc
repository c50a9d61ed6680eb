#include "server/query/series_query.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/codec.h"
#include "server/query/errors.h"
#include "server/query/gaps.h"
#include "server/query/merge.h"
#include "server/query/run_view.h"
#include "server/query/selection.h"
#include "server/query/series_check.h"
#include "server/query/series_set.h"
#include "server/query/step_histograms.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{4} << 20;
constexpr std::size_t kMinBlockBytes = std::size_t{256} << 10;
constexpr std::size_t kMinGaps = 1'000;
constexpr std::size_t kMaxScalarNames = 10'000;

class SeriesQuery {
 public:
  SeriesQuery(const QueryEnvironment& environment,
              const v1::GetSeriesRequest& request, const Cancelled& cancelled)
      : environment_(environment),
        request_(request),
        budget_(environment.limits.max_read_bytes, cancelled),
        schemas_(environment.store),
        series_(request.max_points(), environment.limits.max_values) {}

  absl::Status Run(v1::GetSeriesResponse* response);

 private:
  // One series and where its values stand in rows of one schema.
  struct Target {
    DownSampler* sampler;
    const Statistic* statistic;
    std::size_t parameter;
  };
  struct Plan {
    std::shared_ptr<const SchemaIndex> index;
    std::vector<Target> targets;
    BlockSet blocks;
  };
  struct MergedPlan {
    MergePlan merge;
    std::vector<Target> targets;
    std::vector<BlockSet> blocks;  // One for each rank's row.
  };
  using GroupKey = std::vector<std::pair<StreamId, std::uint32_t>>;

  absl::Status Prepare();
  absl::Status RunOne(const RunView& run);
  absl::Status ScanRank(const Line& line, const StepWindow& window);
  absl::Status ScanMerged(const RunView& run, const std::vector<Line>& lines,
                          const StepWindow& window);
  absl::StatusOr<bool> NextGroup(std::vector<RowReader>* readers,
                                 const std::vector<Line>& lines,
                                 Segment* segment, std::vector<RankRow>* rows,
                                 std::vector<std::string>* bodies);
  absl::Status AddGroup(const RunView& run, const Segment& segment,
                        const std::vector<RankRow>& rows,
                        std::map<GroupKey, MergedPlan>* plans);
  absl::Status PlanGroup(const RunView& run, const Segment& segment,
                         const std::vector<RankRow>& rows, MergedPlan* plan);
  absl::Status AddRecords(const Line& line, const Row& row,
                          const StepView& step, Point point, const Plan& plan,
                          std::uint64_t* added);
  // Null: nothing wants them, or the step has none.
  absl::StatusOr<std::shared_ptr<const StepHistograms>> HistogramsOf(
      std::uint32_t rank, const Segment& segment, const StepView& step,
      const BlockSet& blocks);
  absl::StatusOr<Plan*> PlanOf(
      StreamId stream, std::uint32_t schema_id,
      std::map<StreamId, std::map<std::uint32_t, Plan>>* plans);
  std::uint64_t AddScalars(const StepView& step, const Point& at);
  bool InTime(const StepView& step);
  void NoteSkipped(const Line& line, const Segment& segment,
                   const StepView& step);
  absl::Status AddGaps(const Line& line, StepWindow window);

  const QueryEnvironment& environment_;
  const v1::GetSeriesRequest& request_;
  ReadBudget budget_;
  SchemaCache schemas_;
  std::map<std::uint32_t, HistogramSteps> histogram_steps_;  // By rank.
  SeriesSet series_;
  StatisticSelection statistics_;
  NameFilter match_;
  std::vector<RunView> runs_;
  std::vector<std::uint32_t> ranks_;  // Asked for, sorted; empty: all.
  std::set<std::string, std::less<>> scalar_names_;  // Seen in any row read.
  std::vector<v1::GapInfo> gaps_;
  // Steps of the rows of one line that were within the times asked for.
  std::int64_t first_in_time_ = 0;
  std::int64_t last_in_time_ = -1;
};

absl::Status SeriesQuery::Prepare() {
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

absl::Status SeriesQuery::Run(v1::GetSeriesResponse* response) {
  absl::Status status = Prepare();
  if (!status.ok()) return status;
  if (!statistics_.records.empty()) {  // Scalars need no parameter.
    status = CheckParameters(runs_, request_.attempt(), statistics_, match_,
                             request_.match(), &schemas_);
  }
  if (!status.ok()) return status;
  for (const RunView& run : runs_) {
    status = RunOne(run);
    if (!status.ok()) return status;
  }
  status = CheckScalars(environment_.store, runs_, request_.attempt(),
                        statistics_, scalar_names_, &budget_);
  if (!status.ok()) return status;
  status = series_.Finish(response);
  if (!status.ok()) return status;
  SortAndJoin(&gaps_);
  Coalesce(std::max<std::size_t>(kMinGaps, request_.max_points()), &gaps_);
  for (v1::GapInfo& gap : gaps_) *response->add_gaps() = std::move(gap);
  return absl::OkStatus();
}

absl::Status SeriesQuery::RunOne(const RunView& run) {
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
    return ScanMerged(run, lines, window);
  }
  for (const Line& line : lines) {
    const StepWindow window = ResolveSteps(request_.steps(), line.last_step());
    series_.StartLine(run.name(), line.rank);
    absl::Status status = ScanRank(line, window);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

bool SeriesQuery::InTime(const StepView& step) {
  const std::int64_t time = step.wall_time_unix_ns();
  if (time < request_.since_unix_ns()) return false;
  if (request_.until_unix_ns() != 0 && time >= request_.until_unix_ns()) {
    return false;
  }
  if (last_in_time_ < 0) first_in_time_ = step.step();
  first_in_time_ = std::min(first_in_time_, step.step());
  last_in_time_ = std::max(last_in_time_, step.step());
  return true;
}

void SeriesQuery::NoteSkipped(const Line& line, const Segment& segment,
                              const StepView& step) {
  if (step.skipped() == GapCause::kUnspecified) return;
  gaps_.push_back(MakeGap(segment.attempt, line.rank, segment.branch,
                          GapOfSkippedRow(step)));
  // Rows come in order: joining now keeps memory in proportion to the answer.
  if (gaps_.size() >= 65'536) {
    SortAndJoin(&gaps_);
    Coalesce(32'768, &gaps_);
  }
}

absl::Status SeriesQuery::AddGaps(const Line& line, StepWindow window) {
  if (request_.since_unix_ns() != 0 || request_.until_unix_ns() != 0) {
    window.begin = std::max(window.begin, first_in_time_);
    window.end = std::min(window.end, last_in_time_ + 1);
  }
  if (window.begin >= window.end) return absl::OkStatus();
  return AddStoredGaps(environment_.store, line, window, &gaps_);
}

std::uint64_t SeriesQuery::AddScalars(const StepView& step, const Point& at) {
  std::uint64_t added = 0;
  for (const StepView::ScalarView& scalar : step.scalars()) {
    if (statistics_.scalars.empty()) break;
    const std::string name = ScalarStatisticName(scalar.name);
    if (scalar_names_.size() < kMaxScalarNames) scalar_names_.insert(name);
    if (!statistics_.WantsScalar(scalar.name)) continue;
    Point point = at;
    point.value = scalar.value;
    series_.Find("", name)->Add(point);
    ++added;
  }
  return added;
}

absl::StatusOr<SeriesQuery::Plan*> SeriesQuery::PlanOf(
    StreamId stream, std::uint32_t schema_id,
    std::map<StreamId, std::map<std::uint32_t, Plan>>* plans) {
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
          {series_.Find(parameters[i].name, statistic.name), &statistic, i});
      AddBlock(statistic, plan.index->places()[i], &plan.blocks);
    }
  }
  return &plan;
}

absl::StatusOr<std::shared_ptr<const StepHistograms>> SeriesQuery::HistogramsOf(
    std::uint32_t rank, const Segment& segment, const StepView& step,
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

absl::Status SeriesQuery::AddRecords(const Line& line, const Row& row,
                                     const StepView& step, Point point,
                                     const Plan& plan, std::uint64_t* added) {
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

absl::Status SeriesQuery::ScanRank(const Line& line, const StepWindow& window) {
  first_in_time_ = 0;
  last_in_time_ = -1;
  std::map<StreamId, std::map<std::uint32_t, Plan>> plans;
  RowReader reader(environment_.store, line, window, kBlockBytes, &budget_);
  for (;; reader.Pop()) {
    absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) break;
    absl::StatusOr<StepView> step = StepView::Parse((*row)->body);
    if (!step.ok()) return step.status();
    if (!InTime(*step)) continue;
    NoteSkipped(line, (*row)->segment, *step);
    Point point{(*row)->step, step->wall_time_unix_ns(), 0,
                (*row)->segment.attempt, false};
    std::uint64_t added = AddScalars(*step, point);
    if (!statistics_.records.empty() && !step->columns().empty()) {
      absl::StatusOr<Plan*> plan =
          PlanOf((*row)->segment.stream->id, step->schema_id(), &plans);
      if (!plan.ok()) return plan.status();
      absl::Status status =
          AddRecords(line, **row, *step, point, **plan, &added);
      if (!status.ok()) return status;
    }
    absl::Status status = series_.Check(added);
    if (!status.ok()) return status;
  }
  return AddGaps(line, window);
}

// Takes the rows of the lowest step that any reader is at; false at the end.
absl::StatusOr<bool> SeriesQuery::NextGroup(std::vector<RowReader>* readers,
                                            const std::vector<Line>& lines,
                                            Segment* segment,
                                            std::vector<RankRow>* rows,
                                            std::vector<std::string>* bodies) {
  rows->clear();
  bodies->clear();
  bodies->reserve(readers->size());  // Views point into them.
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
    bodies->push_back((*row)->body);
    (*readers)[i].Pop();
    absl::StatusOr<StepView> view = StepView::Parse(bodies->back());
    if (!view.ok()) return view.status();
    if (!InTime(*view)) continue;
    NoteSkipped(lines[i], from, *view);
    if (rows->empty()) *segment = from;
    rows->push_back({lines[i].rank, from, *std::move(view), nullptr, nullptr});
  }
  return true;
}

absl::Status SeriesQuery::PlanGroup(const RunView& run, const Segment& segment,
                                    const std::vector<RankRow>& rows,
                                    MergedPlan* plan) {
  absl::StatusOr<MergePlan> merge =
      PlanMerge(run, segment.attempt, ranks_, rows, match_, &schemas_);
  if (!merge.ok()) return merge.status();
  plan->merge = *std::move(merge);
  plan->blocks.resize(rows.size());
  for (std::size_t i = 0; i < plan->merge.parameters.size(); ++i) {
    const MergedParameter& parameter = plan->merge.parameters[i];
    for (const Statistic& statistic : statistics_.records) {
      const auto& sources = parameter.SourcesOf(statistic.role);
      if (sources.empty()) continue;
      if (!HasStatistic(*sources[0].places, statistic)) continue;
      plan->targets.push_back(
          {series_.Find(parameter.parameter->name, statistic.name), &statistic,
           i});
      for (std::size_t row = 0; row < rows.size(); ++row) {
        AddBlocks(statistic, parameter, row, &plan->blocks[row]);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status SeriesQuery::AddGroup(const RunView& run, const Segment& segment,
                                   const std::vector<RankRow>& all_rows,
                                   std::map<GroupKey, MergedPlan>* plans) {
  if (all_rows.empty()) return absl::OkStatus();
  Point point{all_rows[0].step.step(), all_rows[0].step.wall_time_unix_ns(), 0,
              segment.attempt, false};
  std::uint64_t added = AddScalars(all_rows[0].step, point);
  std::vector<RankRow> rows;
  GroupKey key;
  for (const RankRow& row : all_rows) {
    if (row.step.columns().empty()) continue;
    rows.push_back(row);
    const StreamId stream = row.segment.stream->id;
    key.emplace_back(stream, row.step.schema_id());
    absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
        schemas_.Get(stream, row.step.schema_id());
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
    auto histograms = HistogramsOf(rows[i].rank, rows[i].segment, rows[i].step,
                                   plan.blocks[i]);
    if (!histograms.ok()) return histograms.status();
    rows[i].histograms = *std::move(histograms);
  }
  for (const Target& target : plan.targets) {
    const std::optional<Value> value = EvaluatePlanned(
        *target.statistic, plan.merge.parameters[target.parameter], rows);
    if (!value.has_value()) continue;
    point.value = value->value;
    point.absent = value->absent;
    target.sampler->Add(point);
    ++added;
  }
  return series_.Check(added);
}

absl::Status SeriesQuery::ScanMerged(const RunView& run,
                                     const std::vector<Line>& lines,
                                     const StepWindow& window) {
  first_in_time_ = 0;
  last_in_time_ = -1;
  const std::size_t block = std::max(
      kMinBlockBytes, 4 * kBlockBytes / std::max<std::size_t>(1, lines.size()));
  std::vector<RowReader> readers;
  readers.reserve(lines.size());
  for (const Line& line : lines) {
    readers.emplace_back(environment_.store, line, window, block, &budget_);
  }
  std::map<GroupKey, MergedPlan> plans;
  std::vector<RankRow> rows;
  std::vector<std::string> bodies;
  for (;;) {
    Segment segment;
    absl::StatusOr<bool> more =
        NextGroup(&readers, lines, &segment, &rows, &bodies);
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

}  // namespace

absl::Status GetSeries(const QueryEnvironment& environment,
                       const v1::GetSeriesRequest& request,
                       const Cancelled& cancelled,
                       v1::GetSeriesResponse* response) {
  return SeriesQuery(environment, request, cancelled).Run(response);
}

}  // namespace gradtap::server
