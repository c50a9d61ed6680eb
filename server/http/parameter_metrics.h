// Statistics of chosen parameters at the newest step of each run, for /metrics.
//
// Layer: server/http. This file: std, absl, query.

#ifndef GRADTAP_SERVER_HTTP_PARAMETER_METRICS_H_
#define GRADTAP_SERVER_HTTP_PARAMETER_METRICS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/http/metric_set.h"
#include "server/query/metric_names.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

// Of one scrape; everything must outlive it.
class ParameterMetrics {
 public:
  ParameterMetrics(QueryBackend* backend, const MetricSelection& selection,
                   std::size_t most_series, MetricSet* set)
      : backend_(backend),
        selection_(selection),
        left_(most_series),
        set_(*set) {}

  // Of several ranks what they are together. What is absent has no series.
  absl::Status Add(const v1::RunInfo& run, const Cancelled& cancelled);

  // Series that would have been more than most_series.
  std::size_t omitted() const { return omitted_; }

 private:
  QueryBackend* const backend_;
  const MetricSelection& selection_;
  std::size_t left_;
  MetricSet& set_;
  std::size_t omitted_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_PARAMETER_METRICS_H_
