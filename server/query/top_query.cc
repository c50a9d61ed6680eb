#include "server/query/top_query.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/query/errors.h"
#include "server/query/row_find.h"
#include "server/query/series_check.h"
#include "server/query/step_histograms.h"
#include "server/query/step_records.h"

namespace gradtap::server {
namespace {

constexpr char kDefaultStatistic[] = "grad.l2";
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The groups of v1::TopOrder, in order.
enum class Group { kNewlyNonfinite, kNonfinite, kScored, kNoScore, kAbsent };

struct Entry {
  const Parameter* parameter = nullptr;
  Sample now;
  Sample since;
  Group group = Group::kScored;
  double score = kNan;
};

double ScoreOf(v1::TopOrder order, double value, double since) {
  switch (order) {
    case v1::TOP_ORDER_CHANGE:
      return std::fabs(Log2Ratio(value, since));
    case v1::TOP_ORDER_GROWTH:
      return Log2Ratio(value, since);
    case v1::TOP_ORDER_DIFFERENCE:
      return value - since;
    default:
      return value;
  }
}

void Judge(const Statistic& statistic, v1::TopOrder order, bool has_since,
           Entry* entry) {
  const Sample& now = entry->now;
  const Sample& since = entry->since;
  if (now.absent) {
    entry->group = Group::kAbsent;
    return;
  }
  const bool scored =
      std::isfinite(now.value) &&
      (!has_since || (!since.absent && std::isfinite(since.value)));
  if (scored) entry->score = ScoreOf(order, now.value, since.value);
  const bool hidden = now.nonfinite > 0 && !CountsElements(statistic.field);
  if (hidden || !std::isfinite(now.value)) {
    const bool was = has_since && !since.absent && !since.IsFinite();
    entry->group = was ? Group::kNonfinite : Group::kNewlyNonfinite;
  } else {
    entry->group = scored ? Group::kScored : Group::kNoScore;
  }
}

class TopQuery {
 public:
  TopQuery(const QueryEnvironment& environment,
           const v1::GetTopRequest& request, const Cancelled& cancelled)
      : environment_(environment),
        request_(request),
        budget_(environment.limits.max_read_bytes, cancelled),
        schemas_(environment.store) {}

  absl::Status Run(v1::GetTopResponse* response) {
    absl::Status status = Prepare();
    if (!status.ok()) return status;
    absl::StatusOr<StepRecords> now = Read(StepOf(request_));
    if (!now.ok()) return now.status();
    StepRecords since;
    if (request_.has_since_step()) {
      absl::StatusOr<StepRecords> found = Read(request_.since_step());
      if (!found.ok()) return found.status();
      since = *std::move(found);
      status = CheckSteps(now->found.lead, since.found.lead);
      if (!status.ok()) return status;
    }
    std::vector<Entry> entries = EntriesOf(*now, since);
    status = ReadStatus(now->rows());
    if (status.ok()) status = ReadStatus(since.rows());
    if (!status.ok()) return status;
    Sort(&entries);
    FillHead(*now, since, response);
    return FillRows(entries, response);
  }

 private:
  absl::Status Prepare() {
    google::protobuf::RepeatedPtrField<std::string> names;
    *names.Add() =
        request_.statistic().empty() ? kDefaultStatistic : request_.statistic();
    absl::StatusOr<StatisticSelection> selection = ParseStatistics(names);
    if (!selection.ok()) return selection.status();
    if (selection->records.empty()) {
      return absl::InvalidArgumentError(
          "parameters are ranked by a statistic of theirs, for example "
          "grad.l2; " +
          Quote(names[0]) + " is one of the step");
    }
    selection_ = *std::move(selection);
    order_ = request_.order();
    if (order_ == v1::TOP_ORDER_UNSPECIFIED) {
      order_ = request_.has_since_step() ? v1::TOP_ORDER_CHANGE
                                         : v1::TOP_ORDER_VALUE;
    }
    if (!v1::TopOrder_IsValid(order_)) {
      return absl::InvalidArgumentError("order " + std::to_string(order_) +
                                        " is not known here");
    }
    if (order_ != v1::TOP_ORDER_VALUE && !request_.has_since_step()) {
      return absl::InvalidArgumentError(
          "to rank by a change takes the step to compare with (since_step)");
    }
    absl::StatusOr<NameFilter> match = ParseMatch(request_.match());
    if (!match.ok()) return match.status();
    match_ = *std::move(match);
    absl::StatusOr<RunView> run = OpenRun(*environment_.store, request_.run());
    if (!run.ok()) return run.status();
    run_ = *std::move(run);
    absl::Status status = CheckAttempt(run_, request_.attempt());
    if (status.ok() && !request_.merged()) {
      status = CheckRank(run_, request_.attempt(), request_.rank());
    }
    if (!status.ok()) return status;
    return CheckParameters({run_}, request_.attempt(), selection_, match_,
                           request_.match(), &schemas_);
  }

  const Statistic& statistic() const { return selection_.records[0]; }

  absl::StatusOr<StepRecords> Read(std::optional<std::int64_t> step) {
    const RecordsQuestion question{
        {step, request_.attempt(), WantsHistograms(selection_)},
        request_.rank(),
        request_.merged()};
    absl::StatusOr<StepRecords> records = FindStepRecords(
        environment_.store, run_, question, match_, &schemas_, &budget_);
    if (!records.ok()) return records.status();
    absl::Status status =
        ReadBlocksOf(environment_.store, {&statistic()}, &*records, &budget_);
    if (!status.ok()) return status;
    return records;
  }

  static absl::Status CheckSteps(const Row& now, const Row& since) {
    if (since.step < now.step) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "a change is from an older step to a newer one; asked for were " +
        std::to_string(since.step) + " and then " + std::to_string(now.step));
  }

  std::vector<Entry> EntriesOf(const StepRecords& now,
                               const StepRecords& since) const {
    std::unordered_map<std::string_view, const MergedParameter*> earlier;
    for (const MergedParameter& parameter : since.plan.parameters) {
      earlier.emplace(parameter.parameter->name, &parameter);
    }
    std::vector<Entry> entries;
    for (const MergedParameter& parameter : now.plan.parameters) {
      if (!HasStatistic(*parameter.parameter, statistic())) continue;
      const std::optional<Sample> sample =
          SampleOf(statistic(), parameter, now.rows());
      if (!sample.has_value()) continue;  // Missing.
      Entry entry{parameter.parameter, *sample, {kNan, true, 0}};
      const auto it = earlier.find(parameter.parameter->name);
      if (it != earlier.end()) {
        entry.since = SampleOf(statistic(), *it->second, since.rows())
                          .value_or(entry.since);
      }
      Judge(statistic(), order_, request_.has_since_step(), &entry);
      entries.push_back(entry);
    }
    return entries;
  }

  void Sort(std::vector<Entry>* entries) const {
    const bool ascending = request_.ascending();
    std::stable_sort(entries->begin(), entries->end(),
                     [ascending](const Entry& a, const Entry& b) {
                       if (a.group != b.group) return a.group < b.group;
                       if (a.group != Group::kScored) return false;
                       return ascending ? a.score < b.score : a.score > b.score;
                     });
  }

  void FillHead(const StepRecords& now, const StepRecords& since,
                v1::GetTopResponse* response) const {
    response->set_run(run_.name());
    response->set_attempt(now.found.lead.segment.attempt);
    response->set_rank(request_.merged() ? kMergedRank : request_.rank());
    response->set_step(now.found.lead.step);
    response->set_time_unix_ns(now.rows().front().step->wall_time_unix_ns());
    response->set_statistic(statistic().name);
    response->set_order(order_);
    response->set_ascending(request_.ascending());
    if (!request_.has_since_step()) return;
    response->set_since_step(since.found.lead.step);
    response->set_since_time_unix_ns(
        since.rows().front().step->wall_time_unix_ns());
    response->set_since_attempt(since.found.lead.segment.attempt);
  }

  absl::Status FillRows(const std::vector<Entry>& entries,
                        v1::GetTopResponse* response) const {
    const std::size_t limit =
        request_.limit() == 0 ? kDefaultTopRows : request_.limit();
    const std::size_t rows = std::min(limit, entries.size());
    if (rows > environment_.limits.max_values) {
      return absl::ResourceExhaustedError(
          "the answer has " + std::to_string(rows) +
          " rows; the limit of one query is " +
          std::to_string(environment_.limits.max_values) +
          "; ask for fewer (--limit)");
    }
    std::uint32_t nonfinite = 0;
    for (const Entry& entry : entries) {
      nonfinite += !entry.now.absent && !entry.now.IsFinite() ? 1 : 0;
    }
    response->set_ranked(static_cast<std::uint32_t>(entries.size()));
    response->set_ranked_nonfinite(nonfinite);
    for (std::size_t i = 0; i < rows; ++i) {
      const Entry& entry = entries[i];
      v1::TopRow* row = response->add_rows();
      row->set_parameter(entry.parameter->name);
      row->set_kind(static_cast<v1::Kind>(entry.parameter->kind));
      row->set_value(entry.now.value);
      row->set_absent(entry.now.absent);
      row->set_nonfinite(entry.now.nonfinite);
      row->set_score(entry.score);
      if (!request_.has_since_step()) continue;
      row->set_since_value(entry.since.value);
      row->set_since_absent(entry.since.absent);
      row->set_since_nonfinite(entry.since.nonfinite);
    }
    return absl::OkStatus();
  }

  const QueryEnvironment& environment_;
  const v1::GetTopRequest& request_;
  ReadBudget budget_;
  SchemaCache schemas_;
  StatisticSelection selection_;
  v1::TopOrder order_ = v1::TOP_ORDER_VALUE;
  NameFilter match_;
  RunView run_;
};

}  // namespace

absl::Status GetTop(const QueryEnvironment& environment,
                    const v1::GetTopRequest& request,
                    const Cancelled& cancelled, v1::GetTopResponse* response) {
  return TopQuery(environment, request, cancelled).Run(response);
}

}  // namespace gradtap::server
