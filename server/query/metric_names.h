// What statistics are called where metrics have names and labels: Prometheus,
// and what reads like it.
//
//   gradtap_<role>_<field>{run, rank, param}   gradtap_grad_l2, ...
//   gradtap_scalar{run, rank, name}            name="loss", "agent.lr", ...
//   gradtap_step{run, rank}                    the step's number
//
// A sample's time is the step's wall time, in whole milliseconds.
//
// Layer: server/query. This file: std, core. Pure.

#ifndef GRADTAP_SERVER_QUERY_METRIC_NAMES_H_
#define GRADTAP_SERVER_QUERY_METRIC_NAMES_H_

#include <string>
#include <vector>

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

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_METRIC_NAMES_H_
