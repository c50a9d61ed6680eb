// GetHeatMap: one statistic of many parameters over many steps, pooled in the
// server so that no spike and no NaN is hidden.
//
// Long stretches come from roll-ups, column by column of runs of 64 recorded
// steps, shared between two threads; what is not rolled up, and stretches of
// few steps, step by step.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_HEAT_MAP_QUERY_H_
#define GRADTAP_SERVER_QUERY_HEAT_MAP_QUERY_H_

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"

namespace gradtap::server {

// Columns when no number was asked for, and the most that may be.
inline constexpr std::uint32_t kDefaultHeatMapBuckets = 1000;
inline constexpr std::uint32_t kMaxHeatMapBuckets = 10'000;

// kInvalidArgument: no statistic, or one that is not of records, or a quantile.
// kResourceExhausted: more cells than limits.max_cells, or a statistic without
// roll-ups over more values than max_read_bytes allows; both name a narrower
// question.
absl::Status GetHeatMap(const QueryEnvironment& environment,
                        const v1::GetHeatMapRequest& request,
                        const Cancelled& cancelled,
                        v1::GetHeatMapResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_HEAT_MAP_QUERY_H_
