// Metrics as they are gathered for one scrape, in the order of their first
// sample.
//
// Layer: server/http. This file: std, prometheus-cpp. Not thread-safe.

#ifndef GRADTAP_SERVER_HTTP_METRIC_SET_H_
#define GRADTAP_SERVER_HTTP_METRIC_SET_H_

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gradtap/v1/figures.pb.h"

namespace gradtap::server {

class MetricSet {
 public:
  using Labels = std::vector<prometheus::ClientMetric::Label>;

  // A name keeps the type and the help that it came with first.
  void Gauge(const char* name, const char* help, double value,
             Labels labels = {});
  void Counter(const char* name, const char* help, double value,
               Labels labels = {});
  // Seconds: count and sum since the start, quantiles of the last minute.
  void Summary(const char* name, const char* help,
               const v1::LatencyFigures& latency, Labels labels = {});

  // The text that Prometheus reads.
  std::string Text() const;

 private:
  prometheus::ClientMetric& Add(const char* name, const char* help,
                                prometheus::MetricType type, Labels labels);

  std::vector<prometheus::MetricFamily> families_;
  std::map<std::string, std::size_t> by_name_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_METRIC_SET_H_
