#include "server/query/snapshot_query.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "core/codec.h"
#include "server/query/errors.h"
#include "server/query/row_find.h"
#include "server/query/series_check.h"
#include "server/query/step_histograms.h"
#include "server/query/step_records.h"
#include "server/query/step_values.h"

namespace gradtap::server {
namespace {

void FillHead(const std::string& run, std::uint32_t rank, const Row& row,
              const StoredStep& step, const SnapshotSelection& selection,
              const std::vector<const Statistic*>& shown,
              v1::GetSnapshotResponse* response) {
  response->set_run(run);
  response->set_attempt(row.segment.attempt);
  response->set_rank(rank);
  response->set_step(row.step);
  response->set_time_unix_ns(step.wall_time_unix_ns());
  response->set_interval_steps(step.interval_steps());
  for (const Statistic* statistic : shown) {
    response->add_statistics(statistic->name);
  }
  step.ForEachScalar(
      [&](std::string_view name) {
        return selection.all_scalars || selection.statistics.WantsScalar(name);
      },
      [&](std::string_view name, double value) {
        v1::Scalar* out = response->add_scalars();
        out->set_name(std::string(name));
        out->set_value(value);
      });
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

// Nothing of the schema has passed the pattern: that makes it unknown.
absl::Status CheckMatched(const std::string& run, const std::string& pattern,
                          const Schema& schema) {
  if (schema.parameters.empty() || pattern.empty()) return absl::OkStatus();
  std::vector<std::string> names;
  for (const Parameter& parameter : schema.parameters) {
    names.push_back(parameter.name);
  }
  return NothingMatches(run, pattern, names);
}

// Statistics that the step can answer: quantiles need histograms.
std::vector<const Statistic*> Shown(const SnapshotSelection& selection,
                                    bool histograms) {
  std::vector<const Statistic*> shown;
  for (const Statistic& statistic : selection.statistics.records) {
    if (statistic.field == Field::kQuantile && !histograms) continue;
    shown.push_back(&statistic);
  }
  return shown;
}

// One row a group. One that is missing at this step has none, as a parameter
// has none.
absl::Status FillGroups(const RunView& run, const SnapshotSelection& selection,
                        const std::vector<const Statistic*>& shown,
                        const StepRecords& records,
                        v1::GetSnapshotResponse* response) {
  const ParameterGroups& groups = selection.groups;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    const std::uint32_t members =
        MembersOf(groups, group, records.plan, selection.match);
    if (members == 0) {
      return CheckMatched(run.name(), groups.pattern(group),
                          records.rows().front().index->schema());
    }
    v1::SnapshotRow row;
    row.set_parameter(groups.NameOf(group));
    row.set_members(members);
    bool any = false;
    for (const Statistic* statistic : shown) {
      const PlannedGroup planned =
          PlanGroup(groups, group, *statistic, records.plan, selection.match);
      const std::optional<Value> value =
          EvaluateGroup(*statistic, planned, records.rows());
      const bool lacks_role = planned.members.empty() && planned.elsewhere == 0;
      any |= value.has_value() || lacks_role;
      AddValue(value, &row);
    }
    if (any) *response->add_rows() = std::move(row);
  }
  return absl::OkStatus();
}

// Over ranks, over parameters, or both.
absl::Status GetMergedSnapshot(const QueryEnvironment& environment,
                               const v1::GetSnapshotRequest& request,
                               const SnapshotSelection& selection,
                               const RunView& run, ReadBudget* budget,
                               v1::GetSnapshotResponse* response) {
  SchemaCache schemas(environment.store);
  const ParameterGroups& groups = selection.groups;
  RecordsQuestion question;
  question.step.step = StepOf(request);
  question.step.attempt = request.attempt();
  question.step.histograms = WantsHistograms(selection.statistics);
  question.step.all_ranks = !groups.empty();
  question.rank = request.rank();
  question.merged = request.merged();
  absl::StatusOr<StepRecords> records = FindStepRecords(
      environment.store, run, question, selection.match, &schemas, budget);
  if (!records.ok()) return records.status();
  const std::vector<const Statistic*> shown = Shown(selection, true);
  FillHead(run.name(), request.merged() ? kMergedRank : request.rank(),
           records->found.lead, *records->rows().front().step, selection, shown,
           response);
  const MergePlan& plan = records->plan;
  absl::Status status =
      CheckSize(groups.empty() ? plan.parameters.size() : groups.size(),
                shown.size(), environment.limits);
  if (!status.ok()) return status;
  if (shown.empty()) return absl::OkStatus();
  status = ReadBlocksOf(environment.store, shown, &*records, budget);
  if (!status.ok()) return status;
  if (!groups.empty()) {
    status = FillGroups(run, selection, shown, *records, response);
    return status.ok() ? ReadStatus(records->rows()) : status;
  }
  for (const MergedParameter& parameter : plan.parameters) {
    if (parameter.sources.empty()) continue;  // Missing: no entry.
    v1::SnapshotRow* row = AddRow(*parameter.parameter, response);
    for (const Statistic* statistic : shown) {
      AddValue(EvaluatePlanned(*statistic, parameter, records->rows()), row);
    }
  }
  status = ReadStatus(records->rows());
  if (!status.ok() || !plan.parameters.empty()) return status;
  return CheckMatched(run.name(), request.match(),
                      records->rows().front().index->schema());
}

// The histograms that quantiles of these parameters need. Null: nothing needs
// them, or the step has none.
absl::StatusOr<std::shared_ptr<const StepHistograms>> HistogramsFor(
    Store* store, const Row& row, const StoredStep& step,
    const SnapshotSelection& selection, const SchemaIndex& index,
    const std::vector<std::size_t>& matched, ReadBudget* budget) {
  if (!WantsHistograms(selection.statistics)) return nullptr;
  const absl::StatusOr<bool> has = HistogramSteps(store).Has(row.segment, step);
  if (!has.ok()) return has.status();
  if (!*has) return nullptr;
  BlockSet blocks;
  for (const std::size_t i : matched) {
    for (const Statistic& statistic : selection.statistics.records) {
      AddBlock(statistic, index.places()[i], &blocks);
    }
  }
  absl::StatusOr<StepHistograms> read =
      StepHistograms::Read(store, row.segment, step, blocks, budget);
  if (!read.ok()) return read.status();
  return std::make_shared<const StepHistograms>(*std::move(read));
}

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

std::vector<std::size_t> PlacesShown(const SnapshotSelection& selection,
                                     const Schema& schema) {
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < schema.parameters.size(); ++i) {
    if (selection.match.Matches(schema.parameters[i].name)) places.push_back(i);
  }
  return places;
}

absl::Status FillSnapshot(const QueryEnvironment& environment,
                          const std::string& run, std::uint32_t rank,
                          const Row& row, const SnapshotSelection& selection,
                          SchemaCache* schemas, ReadBudget* budget,
                          v1::GetSnapshotResponse* response,
                          const std::vector<std::size_t>* places) {
  const StoredStep* step = row.stored.get();
  if (!step->has_columns() || selection.statistics.records.empty()) {
    FillHead(run, rank, row, *step, selection, Shown(selection, false),
             response);
    return step->status();
  }
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas->Get(row.segment.stream->id, step->schema_id());
  if (!index.ok()) return index.status();
  const std::vector<Parameter>& parameters = (*index)->schema().parameters;
  std::vector<std::size_t> found;
  if (places == nullptr) found = PlacesShown(selection, (*index)->schema());
  const std::vector<std::size_t>& matched = places == nullptr ? found : *places;
  absl::Status status = CheckSize(
      matched.size(), selection.statistics.records.size(), environment.limits);
  if (!status.ok()) return status;
  const auto histograms = HistogramsFor(environment.store, row, *step,
                                        selection, **index, matched, budget);
  if (!histograms.ok()) return histograms.status();
  const std::vector<const Statistic*> shown =
      Shown(selection, *histograms != nullptr);
  FillHead(run, rank, row, *step, selection, shown, response);
  if (shown.empty()) return absl::OkStatus();
  std::vector<std::optional<Value>> values;
  status =
      EvaluateStep(*step, **index, matched, shown, histograms->get(), &values);
  if (!status.ok()) return status;
  response->mutable_rows()->Reserve(static_cast<int>(matched.size()));
  auto value = values.begin();
  for (const std::size_t i : matched) {
    v1::SnapshotRow* out = AddRow(parameters[i], response);
    out->mutable_value()->Reserve(static_cast<int>(shown.size()));
    for (std::size_t s = 0; s < shown.size(); ++s) AddValue(*value++, out);
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
  absl::StatusOr<ParameterGroups> groups =
      ParameterGroups::Parse(request.merge_match());
  if (!groups.ok()) return groups.status();
  selection->groups = *std::move(groups);
  if (!request.merged()) {
    status = CheckRank(*run, request.attempt(), request.rank());
    if (!status.ok()) return status;
  }
  ReadBudget budget(environment.limits.max_read_bytes, cancelled);
  if (request.merged() || !selection->groups.empty()) {
    return GetMergedSnapshot(environment, request, *selection, *run, &budget,
                             response);
  }
  SchemaCache schemas(environment.store);
  const Line line = run->LineOf(request.rank(), request.attempt());
  absl::StatusOr<Row> row =
      WantsHistograms(selection->statistics)
          ? FindHistogramRow(environment.store, *run, line, StepOf(request),
                             StepWindow{}, &budget)
          : FindRow(environment.store, *run, line, StepOf(request),
                    StepWindow{}, IsRecorded, &budget);
  if (!row.ok()) return row.status();
  status = FillSnapshot(environment, run->name(), request.rank(), *row,
                        *selection, &schemas, &budget, response);
  if (!status.ok()) return status;
  if (!row->stored->has_columns()) return absl::OkStatus();
  absl::StatusOr<std::shared_ptr<const SchemaIndex>> index =
      schemas.Get(row->segment.stream->id, row->stored->schema_id());
  if (!index.ok()) return index.status();
  if (response->rows_size() > 0 || response->statistics_size() == 0) {
    return absl::OkStatus();
  }
  return CheckMatched(run->name(), request.match(), (*index)->schema());
}

}  // namespace gradtap::server
