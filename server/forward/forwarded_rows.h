// The rows of a run, as they were committed, as samples of the series that are
// forwarded.
//
// Layer: server/forward. This file: std, absl, query, store. One thread.

#ifndef GRADTAP_SERVER_FORWARD_FORWARDED_ROWS_H_
#define GRADTAP_SERVER_FORWARD_FORWARDED_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/statistic.h"
#include "server/promql/source.h"
#include "server/query/metric_names.h"
#include "server/query/selection.h"
#include "server/store/store.h"

namespace gradtap::server {

// The series of a run's scalars and step numbers, and of the parameters that
// the selection has.
class ForwardedRows {
 public:
  // `store` and `selection` must outlive it.
  ForwardedRows(Store* store, const MetricSelection* selection, std::string run)
      : store_(store), selection_(selection), run_(std::move(run)) {}

  // Adds the row's samples to those that wait. A series whose value is absent
  // where it had one before gets the mark of that. `rank` is the stream's.
  absl::Status Add(const StepRow& row, std::uint32_t rank);

  // What waits.
  std::vector<promql::SampledSeries> Take();
  std::size_t waiting() const { return waiting_; }

  // Its scalars have had so many names that new ones seem to come for ever.
  // Another one knows of no series, and marks none as absent.
  bool knows_too_many() const {
    return by_labels_.size() > of_parameters_ + kMostScalars;
  }

  // Of how many processes, and tables of parameters, it knows where which
  // series stands.
  std::size_t PlansForTest() const { return plans_.size(); }

 private:
  static constexpr std::size_t kMostScalars = 10'000;
  // In all plans, besides two for each series: each rank that runs has series
  // of its own, a process that comes back has those of the one before.
  static constexpr std::size_t kMostTargets = 10'000;

  struct Target {
    std::size_t series = 0;
    const Statistic* statistic = nullptr;
    Places places;
  };
  using Plan = std::vector<Target>;

  absl::StatusOr<const Plan*> PlanOf(StreamId stream, std::uint32_t schema_id,
                                     std::uint32_t rank);
  std::size_t SeriesOf(promql::Labels labels);
  promql::Labels LabelsOf(const char* metric, std::uint32_t rank) const;
  void Put(std::size_t series, std::int64_t time_ms, double value);

  Store* const store_;
  const MetricSelection* const selection_;
  const std::string run_;
  std::map<std::pair<StreamId, std::uint32_t>, Plan> plans_;
  std::vector<promql::SampledSeries> series_;
  std::vector<std::uint8_t> has_value_;  // Of each series, newest.
  std::map<promql::Labels, std::size_t> by_labels_;
  std::size_t of_parameters_ = 0;  // Of them.
  std::size_t planned_ = 0;        // Plans and their targets.
  std::size_t waiting_ = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_FORWARD_FORWARDED_ROWS_H_
