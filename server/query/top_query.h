// GetTop: the parameters that stand out, by a statistic at one step or by its
// change between two.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_TOP_QUERY_H_
#define GRADTAP_SERVER_QUERY_TOP_QUERY_H_

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"

namespace gradtap::server {

// Rows when none were asked for.
inline constexpr std::uint32_t kDefaultTopRows = 20;

// Reads the rows of one step, or of two. The order is that of v1::TopOrder.
// kInvalidArgument: no statistic of parameters, an order without the step that
// it needs, steps that do not follow each other.
absl::Status GetTop(const QueryEnvironment& environment,
                    const v1::GetTopRequest& request,
                    const Cancelled& cancelled, v1::GetTopResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_TOP_QUERY_H_
