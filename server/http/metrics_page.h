// What Prometheus scrapes: the collector's own figures, and for each run that
// goes on, or has ended of late, where it stands. docs/http.md lists them all.
//
// Layer: server/http. This file: std, absl, service's backend; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_METRICS_PAGE_H_
#define GRADTAP_SERVER_HTTP_METRICS_PAGE_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "server/query/metric_names.h"
#include "server/query/row_reader.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

struct MetricsLimits {
  // How long after it was last seen a run that has ended is still told.
  std::int64_t ended_run_ns = 15 * std::int64_t{60} * 1'000'000'000;
  // Runs, those seen last first, and scalars of each. What is left out is
  // counted.
  std::size_t runs = 100;
  std::size_t scalars = 50;
  // Of all parameters of all runs.
  std::size_t parameter_series = 1'000;
};

// In Prometheus' text format, version 0.0.4. To be run by the backend: it reads
// the newest steps of each run. A run that cannot be read is left out and
// counted. Of parameters there is what `parameters` has; errors are those of
// the collector's own figures.
absl::StatusOr<std::string> MetricsPage(QueryBackend* backend,
                                        const MetricSelection& parameters,
                                        const MetricsLimits& limits,
                                        const Cancelled& cancelled);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_METRICS_PAGE_H_
