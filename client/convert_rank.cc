// What stands out: GetHeatMap, GetTop, CompareRuns.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "client/convert.h"

namespace gradtap::client {
namespace {

v1::TopOrder ToOrder(TopOrder order) {
  switch (order) {
    case TopOrder::kValue:
      return v1::TOP_ORDER_VALUE;
    case TopOrder::kChange:
      return v1::TOP_ORDER_CHANGE;
    case TopOrder::kGrowth:
      return v1::TOP_ORDER_GROWTH;
    case TopOrder::kDifference:
      return v1::TOP_ORDER_DIFFERENCE;
    case TopOrder::kDefault:
      break;
  }
  return v1::TOP_ORDER_UNSPECIFIED;
}

Value ToValue(double value, bool absent) {
  return absent ? Value() : Value(value);
}

std::optional<double> Known(double value) {
  return std::isnan(value) ? std::nullopt : std::optional<double>(value);
}

ComparedLine FromRow(const v1::CompareRow& row) {
  ComparedLine line;
  line.parameter = row.parameter();
  line.statistic = row.statistic();
  line.steps = row.steps();
  line.steps_beyond = row.steps_beyond();
  if (row.has_first_step()) line.first_step = row.first_step();
  line.log2_ratio = Known(row.log2_ratio());
  line.noise_log2 = Known(row.noise_log2());
  line.last_step = row.last_step();
  line.good_value = ToValue(row.good_value(), row.good_absent());
  line.other_value = ToValue(row.other_value(), row.other_absent());
  line.good_nonfinite = row.good_nonfinite();
  line.other_nonfinite = row.other_nonfinite();
  return line;
}

HeatMapRow FromRow(const v1::HeatMapRow& in, std::size_t buckets) {
  HeatMapRow row;
  row.parameter = in.parameter();
  row.kind = ToKind(in.kind());
  const auto columns =
      std::min(buckets, static_cast<std::size_t>(in.worst_size()));
  row.worst.assign(in.worst().begin(),
                   in.worst().begin() + static_cast<std::ptrdiff_t>(columns));
  row.worst.resize(buckets, std::numeric_limits<float>::quiet_NaN());
  if (in.flags().empty()) return row;
  const auto flagged = std::min(buckets, in.flags().size());
  row.flags.assign(in.flags().begin(),
                   in.flags().begin() + static_cast<std::ptrdiff_t>(flagged));
  row.flags.resize(buckets);
  return row;
}

}  // namespace

HeatMapAnswer FromProto(const v1::GetHeatMapResponse& in) {
  HeatMapAnswer out;
  out.run = in.run();
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.statistic = in.statistic();
  out.bucket_steps = in.bucket_steps();
  out.buckets.reserve(in.buckets_size());
  for (const v1::HeatMapBucket& bucket : in.buckets()) {
    out.buckets.push_back({bucket.first_step(), bucket.last_step(),
                           bucket.recorded(), bucket.first_time_unix_ns()});
  }
  out.rows.reserve(in.rows_size());
  for (const v1::HeatMapRow& row : in.rows()) {
    out.rows.push_back(FromRow(row, out.buckets.size()));
  }
  for (const v1::GapInfo& gap : in.gaps()) out.gaps.push_back(FromProto(gap));
  return out;
}

v1::GetHeatMapRequest ToProto(const HeatMapQuery& in) {
  v1::GetHeatMapRequest out;
  out.set_run(in.run);
  out.set_statistic(in.statistic);
  out.set_match(in.match);
  *out.mutable_steps() = ToRange(in.steps);
  out.set_max_buckets(in.max_buckets);
  out.set_rank(in.rank);
  out.set_attempt(in.attempt);
  out.set_merged(in.merged);
  return out;
}

TopAnswer FromProto(const v1::GetTopResponse& in) {
  TopAnswer out;
  out.run = in.run();
  out.attempt = in.attempt();
  out.rank = in.rank();
  out.step = in.step();
  out.time_unix_ns = in.time_unix_ns();
  out.statistic = in.statistic();
  if (in.has_since_step()) out.since_step = in.since_step();
  out.since_attempt = in.since_attempt();
  out.since_time_unix_ns = in.since_time_unix_ns();
  out.rows.reserve(in.rows_size());
  for (const v1::TopRow& row : in.rows()) {
    TopEntry entry;
    entry.parameter = row.parameter();
    entry.kind = ToKind(row.kind());
    entry.value = ToValue(row.value(), row.absent());
    entry.nonfinite = row.nonfinite();
    entry.since_value =
        ToValue(row.since_value(), !in.has_since_step() || row.since_absent());
    entry.since_nonfinite = row.since_nonfinite();
    entry.score = Known(row.score());
    out.rows.push_back(std::move(entry));
  }
  out.ranked = in.ranked();
  out.ranked_nonfinite = in.ranked_nonfinite();
  return out;
}

v1::GetTopRequest ToProto(const TopQuery& in) {
  v1::GetTopRequest out;
  out.set_run(in.run);
  out.set_statistic(in.statistic);
  if (in.step) out.set_step(*in.step);
  if (in.since_step) out.set_since_step(*in.since_step);
  out.set_order(ToOrder(in.order));
  out.set_ascending(in.ascending);
  out.set_limit(in.limit);
  out.set_match(in.match);
  out.set_rank(in.rank);
  out.set_merged(in.merged);
  out.set_attempt(in.attempt);
  return out;
}

CompareAnswer FromProto(const v1::CompareRunsResponse& in) {
  CompareAnswer out;
  out.good_run = in.good_run();
  out.other_run = in.other_run();
  out.rank = in.rank();
  for (const v1::Difference& one : in.differences()) {
    DifferenceEntry entry;
    entry.parameter = one.parameter();
    entry.what = one.what();
    if (one.has_good()) entry.good = one.good();
    if (one.has_other()) entry.other = one.other();
    out.differences.push_back(std::move(entry));
  }
  out.parameter_differences = in.parameter_differences();
  out.compared_steps = in.compared_steps();
  out.only_good_steps = in.only_good_steps();
  out.only_other_steps = in.only_other_steps();
  out.good_first_step = in.good_first_step();
  out.good_last_step = in.good_last_step();
  out.other_first_step = in.other_first_step();
  out.other_last_step = in.other_last_step();
  out.rows.reserve(in.rows_size());
  for (const v1::CompareRow& row : in.rows()) out.rows.push_back(FromRow(row));
  out.series = in.series();
  out.diverged = in.diverged();
  if (in.has_first_diverged_step()) {
    out.first_diverged_step = in.first_diverged_step();
  }
  return out;
}

v1::CompareRunsRequest ToProto(const CompareQuery& in) {
  v1::CompareRunsRequest out;
  out.set_good_run(in.good_run);
  out.set_other_run(in.other_run);
  out.mutable_statistics()->Assign(in.statistics.begin(), in.statistics.end());
  out.set_match(in.match);
  *out.mutable_steps() = ToRange(in.steps);
  out.set_rank(in.rank);
  out.set_merged(in.merged);
  out.set_good_attempt(in.good_attempt);
  out.set_other_attempt(in.other_attempt);
  out.set_order(in.order == CompareOrder::kFirstStep
                    ? v1::COMPARE_ORDER_FIRST_STEP
                    : v1::COMPARE_ORDER_DISTANCE);
  out.set_limit(in.limit);
  out.set_noise_factor(in.noise_factor);
  out.set_steps_in_a_row(in.steps_in_a_row);
  return out;
}

}  // namespace gradtap::client
