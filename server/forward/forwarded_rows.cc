#include "server/forward/forwarded_rows.h"

#include <optional>

#include "server/store/stored_step.h"

namespace gradtap::server {
namespace {

constexpr std::int64_t kNsPerMs = 1'000'000;

}  // namespace

std::size_t ForwardedRows::SeriesOf(promql::Labels labels) {
  const auto [it, is_new] = by_labels_.try_emplace(labels, series_.size());
  if (is_new) {
    series_.push_back({std::move(labels), {}});
    has_value_.push_back(0);
  }
  return it->second;
}

promql::Labels ForwardedRows::LabelsOf(const char* metric,
                                       std::uint32_t rank) const {
  return {{promql::kMetricName, metric},
          {"run", run_},
          {"rank", std::to_string(rank)}};
}

absl::StatusOr<const ForwardedRows::Plan*> ForwardedRows::PlanOf(
    StreamId stream, std::uint32_t schema_id, std::uint32_t rank) {
  const auto known = plans_.find({stream, schema_id});
  if (known != plans_.end()) return &known->second;
  auto schema = store_->ReadSchema(stream, schema_id);
  if (!schema.ok()) return schema.status();
  if (planned_ > 2 * by_labels_.size() + kMostTargets) {
    plans_.clear();  // Who still runs makes its own again.
    planned_ = 0;
  }
  const SchemaIndex index(*std::move(schema));
  const std::size_t series = by_labels_.size();
  Plan plan;
  const std::vector<Parameter>& parameters = index.schema().parameters;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (!selection_->match->Matches(parameters[i].name)) continue;
    for (const Statistic& statistic : selection_->statistics) {
      if (!HasStatistic(index.places()[i], statistic)) continue;
      promql::Labels labels = LabelsOf("", rank);
      labels[promql::kMetricName] = MetricNameOf(statistic);
      labels["param"] = parameters[i].name;
      plan.push_back(
          {SeriesOf(std::move(labels)), &statistic, index.places()[i]});
    }
  }
  of_parameters_ += by_labels_.size() - series;
  planned_ += 1 + plan.size();
  return &(plans_[{stream, schema_id}] = std::move(plan));
}

void ForwardedRows::Put(std::size_t series, std::int64_t time_ms,
                        double value) {
  std::vector<promql::Sample>& samples = series_[series].samples;
  // Of several steps in a millisecond the last one stays, as a reader has it.
  if (!samples.empty() && samples.back().time_ms == time_ms) {
    samples.back().value = value;
    return;
  }
  samples.push_back({time_ms, value});
  ++waiting_;
}

absl::Status ForwardedRows::Add(const StepRow& row, std::uint32_t rank) {
  const auto step = OpenStep(row);
  if (!step.ok()) return step.status();
  const std::int64_t time_ms = (*step)->wall_time_unix_ns() / kNsPerMs;
  Put(SeriesOf(LabelsOf(kStepMetric, rank)), time_ms,
      static_cast<double>((*step)->step()));
  (*step)->ForEachScalar(nullptr, [&](std::string_view name, double value) {
    promql::Labels labels = LabelsOf(kScalarMetric, rank);
    labels["name"] = std::string(name);
    Put(SeriesOf(std::move(labels)), time_ms, value);
  });
  if (selection_->match == nullptr || !(*step)->has_columns()) {
    return (*step)->status();
  }
  const auto plan = PlanOf(row.stream, (*step)->schema_id(), rank);
  if (!plan.ok()) return plan.status();
  for (const Target& target : **plan) {
    const std::optional<Value> value =
        Evaluate(*target.statistic, **step, target.places);
    if (!value.has_value()) continue;
    std::uint8_t& has_value = has_value_[target.series];
    if (!value->absent) {
      Put(target.series, time_ms, value->value);
    } else if (has_value != 0) {
      Put(target.series, time_ms, promql::Stale());
    }
    has_value = value->absent ? 0 : 1;
  }
  return (*step)->status();
}

std::vector<promql::SampledSeries> ForwardedRows::Take() {
  std::vector<promql::SampledSeries> taken;
  for (promql::SampledSeries& one : series_) {
    if (one.samples.empty()) continue;
    taken.push_back({one.labels, std::move(one.samples)});
    one.samples.clear();
  }
  waiting_ = 0;
  return taken;
}

}  // namespace gradtap::server
