// The samples of one rank of one run, for metric_series.h.
//
// Layer: server/query. This file: std, absl, promql, store; no grpc. One query,
// one thread.

#ifndef GRADTAP_SERVER_QUERY_METRIC_SCAN_H_
#define GRADTAP_SERVER_QUERY_METRIC_SCAN_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/promql/source.h"
#include "server/query/environment.h"
#include "server/query/metric_names.h"
#include "server/query/run_view.h"

namespace gradtap::server {

struct MetricScanQuestion {
  const std::vector<promql::Matcher>* matchers = nullptr;
  promql::Times times;
  std::int64_t before_ms = 0;
  bool newest_only = false;
};

class MetricScan {
 public:
  MetricScan(Store* store, const MetricScanQuestion& question,
             SchemaCache* schemas, ReadBudget* budget,
             std::uint64_t* samples_left);

  // Appends the series of `rank` that have a sample. kResourceExhausted: more
  // than *samples_left.
  absl::Status Run(const RunView& run, std::uint32_t rank,
                   std::vector<promql::SampledSeries>* series);

 private:
  struct Target {
    std::size_t series = 0;  // Into series_.
    const Statistic* statistic = nullptr;
    std::size_t parameter = 0;  // Of the schema.
  };
  struct Plan {
    std::shared_ptr<const SchemaIndex> index;
    std::vector<Target> targets;
    std::uint32_t first_parameter = 0, last_parameter = 0;
  };

  absl::StatusOr<const Plan*> PlanOf(StreamId stream, std::uint32_t schema_id);
  absl::Status FocusOn(const Segment& segment, SealedWindow* window);
  std::size_t SeriesOf(promql::Labels labels);
  absl::Status Add(std::size_t series, std::int64_t time_ms, double value);
  absl::Status Take(const Row& row);
  absl::Status AddRecords(const Row& row);
  absl::Status AddScalars(const Row& row, std::int64_t time_ms);
  // Whether a row is the newest at one of the times, `next_ms` being when the
  // one after it was.
  bool IsNewest(std::int64_t time_ms, std::int64_t next_ms) const;

  Store* const store_;
  const MetricScanQuestion& question_;
  SchemaCache* const schemas_;
  ReadBudget* const budget_;
  std::uint64_t* const samples_left_;
  std::vector<const NamedStatistic*> statistics_;  // That may match.
  bool wants_scalars_ = false;
  bool wants_steps_ = false;
  promql::Labels of_rank_;  // run and rank.
  std::map<std::pair<StreamId, std::uint32_t>, Plan> plans_;
  std::vector<promql::SampledSeries> series_;
  std::map<promql::Labels, std::size_t> by_labels_;
  // By wire name; no value: not wanted.
  std::unordered_map<std::string, std::optional<std::size_t>> scalars_;
  std::optional<std::size_t> steps_;
  std::optional<Row> pending_;  // With records; not evaluated yet.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_METRIC_SCAN_H_
