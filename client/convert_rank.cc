// Rankings: GetTop.

#include <cmath>
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

}  // namespace

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
    if (!std::isnan(row.score())) entry.score = row.score();
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

}  // namespace gradtap::client
