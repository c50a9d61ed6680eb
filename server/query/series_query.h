// GetSeries: statistics of parameters, and scalars, over steps.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_SERIES_QUERY_H_
#define GRADTAP_SERVER_QUERY_SERIES_QUERY_H_

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"

namespace gradtap::server {

// One pass over the rows of each line. Memory is that of the answer, which
// QueryLimits bounds. On failure `response` is unspecified.
absl::Status GetSeries(const QueryEnvironment& environment,
                       const v1::GetSeriesRequest& request,
                       const Cancelled& cancelled,
                       v1::GetSeriesResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SERIES_QUERY_H_
