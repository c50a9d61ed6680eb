#include "server/query/snapshot_query.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "core/codec.h"
#include "server/query/errors.h"
#include "server/query/gaps.h"
#include "server/query/row_find.h"
#include "server/query/series_check.h"

namespace gradtap::server {
namespace {

void FillHead(const std::string& run, std::uint32_t rank, const Row& row,
              const StepView& step, const SnapshotSelection& selection,
              v1::GetSnapshotResponse* response) {
  response->set_run(run);
  response->set_attempt(row.segment.attempt);
  response->set_rank(rank);
  response->set_step(row.step);
  response->set_time_unix_ns(step.wall_time_unix_ns());
  response->set_interval_steps(step.interval_steps());
  for (const Statistic& statistic : selection.statistics.records) {
    response->add_statistics(statistic.name);
  }
  for (const StepView::ScalarView& scalar : step.scalars()) {
    if (!selection.all_scalars &&
        !selection.statistics.WantsScalar(scalar.name)) {
      continue;
    }
    v1::Scalar* out = response->add_scalars();
    out->set_name(std::string(scalar.name));
    out->set_value(scalar.value);
  }
}

// Nothing: the value is absent, the role was not recorded.
void AddValue(const std::optional<Value>& value, v1::SnapshotRow* row) {
  if (!value.has_value() || value->absent) {
    row->add_absent(static_cast<std::uint32_t>(row->value_size()));
    row->add_value(std::numeric_limits<double>::quiet_NaN());
    return;
  }
  row->add_value(value->value);
}

absl::Status CheckSize(std::size_t parameters, std::size_t statistics,
                       const QueryLimits& limits) {
  if (parameters * statistics <= limits.max_values) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      "the snapshot has " + std::to_string(parameters) + " parameters with " +
      std::to_string(statistics) + " statistics; the limit of one query is " +
      std::to_string(limits.max_values) +
      " values; ask for fewer parameters (--match) or statistics (--stat)");
}

v1::SnapshotRow* AddRow(const Parameter& parameter,
                        v1::GetSnapshotResponse* response) {
  v1::SnapshotRow* row = response->add_rows();
  row->set_parameter(parameter.name);
  row->set_kind(static_cast<v1::Kind>(parameter.kind));
  return row;
}

// A schema whose parameters all fail the pattern makes the pattern unknown.
absl::Status CheckMatched(const std::string& run, const std::string& pattern,
                          const Schema& schema,
                          const v1::GetSnapshotResponse& response) {
  if (response.rows_size() > 0 || schema.parameters.empty() ||
      pattern.empty() || response.statistics_size() == 0) {
    return absl::OkStatus();
  }
  std::vector<std::string> names;
  for (const Parameter& parameter : schema.parameters) {
    names.push_back(parameter.name);
  }
  return NothingMatches(run, pattern, names);
}

bool HasShards(const SchemaIndex& index) {
  return std::any_of(index.places().begin(), index.places().end(),
                     [](const Places& places) { return places.sharded; });
}

// Lines of the ranks that have reached the newest attempt that recorded
// anything: the others are over.
std::vector<Line> LiveLines(const RunView& run, std::uint32_t attempt) {
  std::vector<Line> lines;
  std::uint32_t newest = 0;
  for (const std::uint32_t rank : run.Ranks(attempt)) {
    Line line = run.LineOf(rank, attempt);
    if (line.segments.empty()) continue;
    newest = std::max(newest, line.segments.back().attempt);
    lines.push_back(std::move(line));
  }
  std::erase_if(lines, [newest](const Line& line) {
    return line.segments.back().attempt != newest;
  });
  return lines;
}

class MergedSnapshot {
 public:
  MergedSnapshot(const QueryEnvironment& environment,
                 const v1::GetSnapshotRequest& request,
                 const SnapshotSelection& selection, const RunView& run,
                 ReadBudget* budget)
      : environment_(environment),
        request_(request),
        selection_(selection),
        run_(run),
        budget_(budget),
        schemas_(environment.store) {}

  absl::Status Run(v1::GetSnapshotResponse* response) {
    const std::vector<Line> lines = LiveLines(run_, request_.attempt());
    if (lines.empty()) return NothingRecorded(run_);
    absl::StatusOr<Row> lead = FindLead(lines);
    if (!lead.ok()) return lead.status();
    absl::Status status = ReadRows(lead->step);
    if (!status.ok()) return status;
    return Fill(*lead, response);
  }

 private:
  // The row of the lowest rank that has the step asked for. With shards the
  // newest step is the newest that every rank has come to.
  absl::StatusOr<Row> FindLead(const std::vector<Line>& lines) {
    StepWindow window;
    if (!request_.has_step() || request_.step() < 0) {
      const SchemaSource source =
          NewestSchema(run_, lines.front().rank, request_.attempt());
      bool shards = false;
      if (source.stream != nullptr) {
        absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
            schemas_.Get(source.stream->id, source.stream->schema_id);
        if (!index.ok()) return index.status();
        shards = HasShards(**index);
      }
      for (const Line& line : lines) {
        if (!shards) break;
        absl::StatusOr<std::optional<Row>> newest =
            NewestRecorded(environment_.store, line, StepWindow{}, budget_);
        if (!newest.ok()) return newest.status();
        if (newest->has_value()) {
          window.end = std::min(window.end, (*newest)->step + 1);
        }
      }
      return FindRow(environment_.store, run_, lines.front(), StepOf(request_),
                     window, IsRecorded, budget_);
    }
    absl::StatusOr<Row> row = absl::NotFoundError("");
    for (const Line& line : AllLines()) {
      row = FindRow(environment_.store, run_, line, StepOf(request_), window,
                    IsRecorded, budget_);
      if (row.ok() || !absl::IsNotFound(row.status())) return row;
    }
    return row;
  }

  std::vector<Line> AllLines() const {
    std::vector<Line> lines;
    for (const std::uint32_t rank : run_.Ranks(request_.attempt())) {
      lines.push_back(run_.LineOf(rank, request_.attempt()));
    }
    return lines;
  }

  absl::Status ReadRows(std::int64_t step) {
    const std::vector<Line> lines = AllLines();
    stored_.reserve(lines.size());  // Views point into it.
    for (const Line& line : lines) {
      absl::StatusOr<std::optional<Row>> row = NewestRecorded(
          environment_.store, line, StepWindow{step, step + 1}, budget_);
      if (!row.ok()) return row.status();
      if (!row->has_value()) continue;
      stored_.push_back(**std::move(row));
      absl::StatusOr<StepView> view = StepView::Parse(stored_.back().body);
      if (!view.ok()) return view.status();
      const StreamId stream = stored_.back().segment.stream->id;
      absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
          schemas_.Get(stream, view->schema_id());
      if (!index.ok()) return index.status();
      rows_.push_back({line.rank, stream, *std::move(view), *std::move(index)});
    }
    return absl::OkStatus();
  }

  absl::Status Fill(const Row& lead, v1::GetSnapshotResponse* response) {
    FillHead(run_.name(), kMergedRank, lead, rows_.front().step, selection_,
             response);
    absl::StatusOr<MergePlan> plan = PlanMerge(
        run_, lead.segment.attempt, {}, rows_, selection_.match, &schemas_);
    if (!plan.ok()) return plan.status();
    absl::Status status =
        CheckSize(plan->parameters.size(), selection_.statistics.records.size(),
                  environment_.limits);
    if (!status.ok()) return status;
    if (selection_.statistics.records.empty()) return absl::OkStatus();
    for (const MergedParameter& parameter : plan->parameters) {
      if (parameter.sources.empty()) continue;  // Missing: no entry.
      v1::SnapshotRow* row = AddRow(*parameter.parameter, response);
      for (const Statistic& statistic : selection_.statistics.records) {
        AddValue(EvaluatePlanned(statistic, parameter, rows_), row);
      }
    }
    if (!plan->parameters.empty()) return absl::OkStatus();
    return CheckMatched(run_.name(), request_.match(),
                        rows_.front().index->schema(), *response);
  }

  const QueryEnvironment& environment_;
  const v1::GetSnapshotRequest& request_;
  const SnapshotSelection& selection_;
  const RunView& run_;
  ReadBudget* const budget_;
  SchemaCache schemas_;
  std::vector<Row> stored_;
  std::vector<RankRow> rows_;
};

}  // namespace

absl::StatusOr<SnapshotSelection> ParseSnapshotSelection(
    const google::protobuf::RepeatedPtrField<std::string>& names,
    const std::string& match) {
  google::protobuf::RepeatedPtrField<std::string> wanted = names;
  if (wanted.empty()) {
    for (const std::string& name : DefaultSnapshotStatistics()) {
      *wanted.Add() = name;
    }
  }
  absl::StatusOr<StatisticSelection> statistics = ParseStatistics(wanted);
  if (!statistics.ok()) return statistics.status();
  absl::StatusOr<NameFilter> filter = ParseMatch(match);
  if (!filter.ok()) return filter.status();
  SnapshotSelection selection;
  selection.all_scalars = statistics->scalars.empty();
  selection.statistics = *std::move(statistics);
  selection.match = *std::move(filter);
  return selection;
}

absl::Status FillSnapshot(const std::string& run, std::uint32_t rank,
                          const Row& row, const SnapshotSelection& selection,
                          const QueryLimits& limits, SchemaCache* schemas,
                          v1::GetSnapshotResponse* response) {
  absl::StatusOr<StepView> step = StepView::Parse(row.body);
  if (!step.ok()) return step.status();
  FillHead(run, rank, row, *step, selection, response);
  if (step->columns().empty() || selection.statistics.records.empty()) {
    return absl::OkStatus();
  }
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas->Get(row.segment.stream->id, step->schema_id());
  if (!index.ok()) return index.status();
  const std::vector<Parameter>& parameters = (*index)->schema().parameters;
  std::vector<std::size_t> matched;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (selection.match.Matches(parameters[i].name)) matched.push_back(i);
  }
  absl::Status status =
      CheckSize(matched.size(), selection.statistics.records.size(), limits);
  if (!status.ok()) return status;
  response->mutable_rows()->Reserve(static_cast<int>(matched.size()));
  for (const std::size_t i : matched) {
    v1::SnapshotRow* out = AddRow(parameters[i], response);
    for (const Statistic& statistic : selection.statistics.records) {
      AddValue(Evaluate(statistic, *step, (*index)->places()[i]), out);
    }
  }
  return absl::OkStatus();
}

absl::Status GetSnapshot(const QueryEnvironment& environment,
                         const v1::GetSnapshotRequest& request,
                         const Cancelled& cancelled,
                         v1::GetSnapshotResponse* response) {
  absl::StatusOr<SnapshotSelection> selection =
      ParseSnapshotSelection(request.statistics(), request.match());
  if (!selection.ok()) return selection.status();
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = CheckAttempt(*run, request.attempt());
  if (!status.ok()) return status;
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  if (request.merged()) {
    return MergedSnapshot(environment, request, *selection, *run, &budget)
        .Run(response);
  }
  status = CheckRank(*run, request.attempt(), request.rank());
  if (!status.ok()) return status;
  const Line line = run->LineOf(request.rank(), request.attempt());
  absl::StatusOr<Row> row =
      FindRow(environment.store, *run, line, StepOf(request), StepWindow{},
              IsRecorded, &budget);
  if (!row.ok()) return row.status();
  SchemaCache schemas(environment.store);
  status = FillSnapshot(run->name(), request.rank(), *row, *selection,
                        environment.limits, &schemas, response);
  if (!status.ok()) return status;
  absl::StatusOr<StepView> step = StepView::Parse(row->body);
  if (!step.ok()) return step.status();
  if (step->columns().empty()) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas.Get(row->segment.stream->id, step->schema_id());
  if (!index.ok()) return index.status();
  return CheckMatched(run->name(), request.match(), (*index)->schema(),
                      *response);
}

absl::Status GetHistograms(const QueryEnvironment& environment,
                           const v1::GetHistogramsRequest& request,
                           const Cancelled& cancelled,
                           v1::GetHistogramsResponse* response) {
  absl::StatusOr<NameFilter> match = ParseMatch(request.match());
  if (!match.ok()) return match.status();
  absl::StatusOr<RunView> run = OpenRun(*environment.store, request.run());
  if (!run.ok()) return run.status();
  absl::Status status = CheckAttempt(*run, request.attempt());
  if (!status.ok()) return status;
  status = CheckRank(*run, request.attempt(), request.rank());
  if (!status.ok()) return status;
  const Line line = run->LineOf(request.rank(), request.attempt());
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  absl::StatusOr<Row> row =
      FindRow(environment.store, *run, line, StepOf(request), StepWindow{},
              HasHistograms, &budget);
  if (!row.ok()) return row.status();
  absl::StatusOr<StepView> step = StepView::Parse(row->body);
  if (!step.ok()) return step.status();
  SchemaCache schemas(environment.store);
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas.Get(row->segment.stream->id, step->schema_id());
  if (!index.ok()) return index.status();
  response->set_run(run->name());
  response->set_attempt(row->segment.attempt);
  response->set_rank(request.rank());
  response->set_step(row->step);
  response->set_time_unix_ns(step->wall_time_unix_ns());
  const ParameterAtPlace at(**index);
  for (const HistogramData& histogram : step->DecodeHistograms()) {
    if (request.role() != v1::ROLE_UNSPECIFIED &&
        static_cast<int>(request.role()) != static_cast<int>(histogram.role)) {
      continue;
    }
    const Parameter* parameter = at.Find(histogram.role, histogram.place);
    if (parameter == nullptr || !match->Matches(parameter->name)) continue;
    v1::ParameterHistogram* out = response->add_histograms();
    out->set_parameter(parameter->name);
    out->set_role(static_cast<v1::Role>(histogram.role));
    out->mutable_bin()->Add(histogram.bin.begin(), histogram.bin.end());
    out->mutable_count()->Add(histogram.count.begin(), histogram.count.end());
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
