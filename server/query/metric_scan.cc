#include "server/query/metric_scan.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "server/query/metric_series.h"
#include "server/query/selection.h"
#include "server/query/time_window.h"
#include "server/store/window/sealed_window.h"

namespace gradtap::server {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::size_t kBlockBytes = std::size_t{4} << 20;
// Parameters between two looks at whether anybody waits.
constexpr std::size_t kLookEvery = 1'024;

std::int64_t TimeMs(const StoredStep& step) {
  return step.wall_time_unix_ns() / kNsPerMs;
}

std::int64_t ToNs(std::int64_t ms) {
  constexpr std::int64_t kMost =
      std::numeric_limits<std::int64_t>::max() / kNsPerMs;
  return std::clamp<std::int64_t>(ms, 0, kMost) * kNsPerMs;
}

// By rising time; of those at one time the last.
void Order(std::vector<promql::Sample>* samples) {
  const auto before = [](const promql::Sample& a, const promql::Sample& b) {
    return a.time_ms < b.time_ms;
  };
  if (!std::is_sorted(samples->begin(), samples->end(), before)) {
    std::stable_sort(samples->begin(), samples->end(), before);
  }
  std::size_t out = 0;
  for (std::size_t i = 0; i < samples->size(); ++i) {
    if (out > 0 && (*samples)[out - 1].time_ms == (*samples)[i].time_ms) --out;
    (*samples)[out++] = (*samples)[i];
  }
  samples->resize(out);
}

}  // namespace

MetricScan::MetricScan(Store* store, const MetricScanQuestion& question,
                       SchemaCache* schemas, ReadBudget* budget,
                       std::uint64_t* samples_left)
    : store_(store),
      question_(question),
      schemas_(schemas),
      budget_(budget),
      samples_left_(samples_left) {
  const auto named = [&](std::string_view metric) {
    return promql::MatchesAll(*question_.matchers, promql::kMetricName, metric);
  };
  for (const NamedStatistic& one : NamedStatistics()) {
    if (named(one.metric)) statistics_.push_back(&one);
  }
  wants_scalars_ = named(kScalarMetric);
  wants_steps_ = named(kStepMetric);
}

std::size_t MetricScan::SeriesOf(promql::Labels labels) {
  const auto [it, is_new] = by_labels_.try_emplace(labels, series_.size());
  if (is_new) series_.push_back({std::move(labels), {}});
  return it->second;
}

absl::StatusOr<const MetricScan::Plan*> MetricScan::PlanOf(
    StreamId stream, std::uint32_t schema_id) {
  const auto [it, is_new] = plans_.try_emplace({stream, schema_id});
  Plan& plan = it->second;
  if (!is_new) return &plan;
  auto index = schemas_->Get(stream, schema_id);
  if (!index.ok()) return index.status();
  plan.index = *std::move(index);
  const std::vector<Parameter>& parameters = plan.index->schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (i % kLookEvery == 0) {
      if (const auto s = budget_->Charge(0); !s.ok()) return s;
    }
    if (!promql::MatchesAll(*question_.matchers, "param", parameters[i].name)) {
      continue;
    }
    for (const NamedStatistic* one : statistics_) {
      if (!HasStatistic(plan.index->places()[i], one->statistic)) continue;
      promql::Labels labels = of_rank_;
      labels[promql::kMetricName] = one->metric;
      labels["param"] = parameters[i].name;
      if (!promql::MatchesAll(*question_.matchers, labels)) continue;
      const auto place = static_cast<std::uint32_t>(i);
      if (plan.targets.empty()) plan.first_parameter = place;
      plan.last_parameter = place;
      plan.targets.push_back({SeriesOf(std::move(labels)), &one->statistic, i});
    }
  }
  return &plan;
}

absl::Status MetricScan::FocusOn(const Segment& segment, SealedWindow* window) {
  if (window->timeline().recorded() == 0) return absl::OkStatus();
  const auto plan = PlanOf(segment.stream->id, window->timeline().schema_id());
  if (!plan.ok()) return plan.status();
  if (!(*plan)->targets.empty()) {
    window->Focus((*plan)->first_parameter, (*plan)->last_parameter);
  }
  return absl::OkStatus();
}

absl::Status MetricScan::Add(std::size_t series, std::int64_t time_ms,
                             double value) {
  if (*samples_left_ == 0) {
    return absl::ResourceExhaustedError(
        "the query would read more than " + std::to_string(kMaxSamples) +
        " samples; ask for a shorter time or fewer series, or for the newest "
        "value in the place of a range");
  }
  --*samples_left_;
  series_[series].samples.push_back({time_ms, value});
  return absl::OkStatus();
}

bool MetricScan::IsNewest(std::int64_t time_ms, std::int64_t next_ms) const {
  const promql::Times& times = question_.times;
  const std::int64_t past = time_ms - times.begin_ms;
  const std::int64_t at =
      past <= 0 ? times.begin_ms
                : times.begin_ms + (past + times.step_ms - 1) / times.step_ms *
                                       times.step_ms;
  return at < next_ms && at <= times.end_ms;
}

absl::Status MetricScan::AddRecords(const Row& row) {
  const StoredStep& step = *row.stored;
  const auto plan = PlanOf(row.segment.stream->id, step.schema_id());
  if (!plan.ok()) return plan.status();
  const std::int64_t time_ms = TimeMs(step);
  for (const Target& target : (*plan)->targets) {
    const std::optional<Value> value = Evaluate(
        *target.statistic, step, (*plan)->index->places()[target.parameter]);
    if (!value.has_value()) continue;
    const absl::Status status = Add(
        target.series, time_ms, value->absent ? promql::Stale() : value->value);
    if (!status.ok()) return status;
  }
  return step.status();
}

absl::Status MetricScan::AddScalars(const Row& row, std::int64_t time_ms) {
  const auto series_of = [this](std::string_view name) {
    const auto [it, is_new] = scalars_.try_emplace(std::string(name));
    if (is_new) {
      promql::Labels labels = of_rank_;
      labels[promql::kMetricName] = kScalarMetric;
      labels["name"] = std::string(name);
      if (promql::MatchesAll(*question_.matchers, labels)) {
        it->second = SeriesOf(std::move(labels));
      }
    }
    return it->second;
  };
  absl::Status status;
  row.stored->ForEachScalar(
      [&](std::string_view name) { return series_of(name).has_value(); },
      [&](std::string_view name, double value) {
        if (status.ok()) status = Add(*series_of(name), time_ms, value);
      });
  return status.ok() ? row.stored->status() : status;
}

absl::Status MetricScan::Take(const Row& row) {
  const std::int64_t time_ms = TimeMs(*row.stored);
  if (time_ms < question_.times.begin_ms - question_.before_ms ||
      time_ms > question_.times.end_ms) {
    return absl::OkStatus();
  }
  absl::Status status;
  if (wants_scalars_) status = AddScalars(row, time_ms);
  if (status.ok() && steps_.has_value()) {
    status = Add(*steps_, time_ms, static_cast<double>(row.step));
  }
  if (!status.ok() || statistics_.empty() || !row.stored->has_columns()) {
    return status;
  }
  if (!question_.newest_only) return AddRecords(row);
  if (pending_.has_value() && IsNewest(TimeMs(*pending_->stored), time_ms)) {
    status = AddRecords(*pending_);
  }
  pending_ = row;
  return status;
}

absl::Status MetricScan::Run(const RunView& run, std::uint32_t rank,
                             std::vector<promql::SampledSeries>* series) {
  of_rank_ = {{"run", run.name()}, {"rank", std::to_string(rank)}};
  if (wants_steps_) {
    promql::Labels labels = of_rank_;
    labels[promql::kMetricName] = kStepMetric;
    if (promql::MatchesAll(*question_.matchers, labels)) {
      steps_ = SeriesOf(std::move(labels));
    }
  }
  if (statistics_.empty() && !wants_scalars_ && !steps_.has_value()) {
    return absl::OkStatus();
  }
  const TimeWindow window{ToNs(question_.times.begin_ms - question_.before_ms),
                          ToNs(question_.times.end_ms + 1)};
  const auto pieces = SegmentsInTime(store_, run.LineOf(rank, 0), StepWindow{},
                                     window, budget_);
  if (!pieces.ok()) return pieces.status();
  Line line{rank, {}};
  for (const TimedSegment& piece : *pieces) {
    line.segments.push_back(piece.segment);
  }
  RowReader reader(store_, std::move(line), StepWindow{}, kBlockBytes, budget_,
                   [this](const Segment& segment, SealedWindow* sealed) {
                     return FocusOn(segment, sealed);
                   });
  for (;;) {
    const absl::StatusOr<const Row*> row = reader.Peek();
    if (!row.ok()) return row.status();
    if (*row == nullptr) break;
    absl::Status status = Take(**row);
    if (status.ok()) status = reader.Pop();
    if (!status.ok()) return status;
  }
  if (pending_.has_value()) {
    const absl::Status status = AddRecords(*pending_);
    if (!status.ok()) return status;
  }
  for (promql::SampledSeries& one : series_) {
    if (one.samples.empty()) continue;
    Order(&one.samples);
    series->push_back(std::move(one));
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
