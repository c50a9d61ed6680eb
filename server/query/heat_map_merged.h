// A heat map over all ranks: their records merged step by step, as GetSeries
// merges them. A step that a rank lacks leaves out what it has a part of.
//
// Read twice, first for which steps there are. Roll-ups do not merge: it is as
// dear as the series of all parameters.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_HEAT_MAP_MERGED_H_
#define GRADTAP_SERVER_QUERY_HEAT_MAP_MERGED_H_

#include <cstdint>

#include "absl/status/status.h"
#include "core/name_filter.h"
#include "core/statistic.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"
#include "server/query/run_view.h"

namespace gradtap::server {

// What GetHeatMap asks, checked.
struct HeatMapQuestion {
  const RunView* run = nullptr;
  const Statistic* statistic = nullptr;
  const NameFilter* match = nullptr;
  std::uint32_t max_buckets = 0;
};

// Fills all of the answer but the run and the statistic. Errors are those of
// GetHeatMap().
absl::Status GetMergedHeatMap(const QueryEnvironment& environment,
                              const v1::GetHeatMapRequest& request,
                              const HeatMapQuestion& question,
                              const Cancelled& cancelled,
                              v1::GetHeatMapResponse* response);

// The cells of a heat map would be more than `most`.
absl::Status TooManyCells(std::size_t parameters, std::uint32_t buckets,
                          std::uint64_t most);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_HEAT_MAP_MERGED_H_
