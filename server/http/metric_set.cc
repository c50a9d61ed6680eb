#include "server/http/metric_set.h"

#include <prometheus/text_serializer.h>

#include <sstream>
#include <utility>

namespace gradtap::server {
namespace {

double Seconds(std::int64_t ns) { return static_cast<double>(ns) * 1e-9; }

}  // namespace

void MetricSet::Gauge(const char* name, const char* help, double value,
                      Labels labels) {
  Add(name, help, prometheus::MetricType::Gauge, std::move(labels))
      .gauge.value = value;
}

void MetricSet::Counter(const char* name, const char* help, double value,
                        Labels labels) {
  Add(name, help, prometheus::MetricType::Counter, std::move(labels))
      .counter.value = value;
}

void MetricSet::Summary(const char* name, const char* help,
                        const v1::LatencyFigures& latency, Labels labels) {
  prometheus::ClientMetric::Summary& summary =
      Add(name, help, prometheus::MetricType::Summary, std::move(labels))
          .summary;
  summary.sample_count = latency.count();
  summary.sample_sum = Seconds(latency.sum_ns());
  if (latency.recent() == 0) return;
  summary.quantile = {{0.5, Seconds(latency.p50_ns())},
                      {0.99, Seconds(latency.p99_ns())},
                      {1, Seconds(latency.max_ns())}};
}

std::string MetricSet::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families_);
  return out.str();
}

prometheus::ClientMetric& MetricSet::Add(const char* name, const char* help,
                                         prometheus::MetricType type,
                                         Labels labels) {
  const auto [known, is_new] = by_name_.try_emplace(name, families_.size());
  if (is_new) families_.push_back({name, help, type, {}});
  auto& metrics = families_[known->second].metric;
  metrics.emplace_back();
  metrics.back().label = std::move(labels);
  return metrics.back();
}

}  // namespace gradtap::server
