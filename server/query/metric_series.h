// The store as a source of PromQL's samples.
//
// Layer: server/query. This file: std, absl, promql, store; no grpc. One query,
// one thread.

#ifndef GRADTAP_SERVER_QUERY_METRIC_SERIES_H_
#define GRADTAP_SERVER_QUERY_METRIC_SERIES_H_

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/promql/source.h"
#include "server/query/environment.h"
#include "server/query/run_view.h"

namespace gradtap::server {

// Samples of one query; what would be more is refused.
inline constexpr std::uint64_t kMaxSamples = 4'000'000;
// Label sets of one answer.
inline constexpr std::size_t kMaxLabelSets = 20'000;

// [begin, end], in ms.
struct TimeSpan {
  std::int64_t begin_ms = 0;
  std::int64_t end_ms = 0;
};

// Of the canonical lines of all runs that were there at the time. With
// newest_only, values are read of those steps alone that are the newest ones at
// one of the times. Where a parameter is absent (no gradient was defined) its
// series ends until it has a value again; what was lost or skipped leaves the
// last sample standing, as it does in Prometheus.
class MetricSeries final : public promql::SampleSource {
 public:
  MetricSeries(const QueryEnvironment& environment, const Cancelled& cancelled);

  // kResourceExhausted: more than kMaxSamples, or than a query may read.
  absl::Status Select(const std::vector<promql::Matcher>& matchers,
                      const promql::Times& times, std::int64_t before_ms,
                      bool newest_only,
                      std::vector<promql::SampledSeries>* series) override;

  // The label sets of the series that the runs of that time have by their
  // newest schema and step. kResourceExhausted: more than kMaxLabelSets.
  absl::Status Series(const std::vector<promql::Matcher>& matchers,
                      const TimeSpan& span, std::set<promql::Labels>* labels);

  // The values that a label has among them.
  absl::Status LabelValues(const std::vector<promql::Matcher>& matchers,
                           const TimeSpan& span, const std::string& label,
                           std::set<std::string>* values);

 private:
  absl::Status ForEachRank(
      const std::vector<promql::Matcher>& matchers, const TimeSpan& span,
      const std::function<absl::Status(const RunView& run, std::uint32_t rank)>&
          visit);
  absl::Status ScalarNames(const RunView& run, std::uint32_t rank,
                           std::vector<std::string>* names);
  // After a series: the next one, that of the next metric, or none.
  enum class Next : std::uint8_t { kSeries, kMetric, kStop };
  absl::Status VisitRank(
      const std::vector<promql::Matcher>& matchers, const RunView& run,
      std::uint32_t rank,
      const std::function<Next(const promql::Labels& labels)>& visit);

  const QueryEnvironment& environment_;
  ReadBudget budget_;
  SchemaCache schemas_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_METRIC_SERIES_H_
