// GetHistograms: the bins of parameters at one step.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_HISTOGRAM_QUERY_H_
#define GRADTAP_SERVER_QUERY_HISTOGRAM_QUERY_H_

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"

namespace gradtap::server {

// Reads the blocks that hold what was asked for: for one parameter and role,
// one. kResourceExhausted: more bins than limits.max_values.
absl::Status GetHistograms(const QueryEnvironment& environment,
                           const v1::GetHistogramsRequest& request,
                           const Cancelled& cancelled,
                           v1::GetHistogramsResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_HISTOGRAM_QUERY_H_
