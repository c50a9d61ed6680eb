// What statistics are called where metrics have names and labels: Prometheus,
// and what reads like it.
//
//   gradtap_<role>_<field>{run, rank, param}   gradtap_grad_l2, ...
//   gradtap_scalar{run, rank, name}            name="loss", "agent.lr", ...
//   gradtap_step{run, rank}                    the step's number
//
// A sample's time is the step's wall time, in whole milliseconds.
//
// Layer: server/query. This file: std, absl, core. Pure.

#ifndef GRADTAP_SERVER_QUERY_METRIC_NAMES_H_
#define GRADTAP_SERVER_QUERY_METRIC_NAMES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/name_filter.h"
#include "core/statistic.h"

namespace gradtap::server {

inline constexpr char kScalarMetric[] = "gradtap_scalar";
inline constexpr char kStepMetric[] = "gradtap_step";

struct NamedStatistic {
  std::string metric;
  Statistic statistic;
};

// All statistics of records, quantiles aside.
const std::vector<NamedStatistic>& NamedStatistics();

// Of a statistic of records.
std::string MetricNameOf(const Statistic& statistic);

// "grad.l2,update.ratio": statistics of parameters. kInvalidArgument or
// kNotFound names what is none: also scalars, and quantiles.
absl::StatusOr<std::vector<Statistic>> ParseMetricStatistics(
    const std::string& names);

// RE2, unanchored, over parameter names. kInvalidArgument names it.
absl::StatusOr<std::shared_ptr<const NameFilter>> ParseMetricMatch(
    const std::string& pattern);

// Of which parameters others get which statistics; without `match` of none.
struct MetricSelection {
  std::vector<Statistic> statistics =
      *ParseMetricStatistics("grad.l2,weight.l2,update.ratio");
  std::shared_ptr<const NameFilter> match;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_METRIC_NAMES_H_
