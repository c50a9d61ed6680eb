// CompareRuns: a good run beside another.
//
// Layer: server/query. This file: absl, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_QUERY_COMPARE_QUERY_H_
#define GRADTAP_SERVER_QUERY_COMPARE_QUERY_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/environment.h"

namespace gradtap::server {

// Rows when none were asked for.
inline constexpr std::uint32_t kDefaultCompareRows = 20;
// Series of one comparison: about 700 bytes each.
inline constexpr std::size_t kMaxComparedSeries = 65'536;

// One pass over the rows of both lines between the first and the last step that
// both have come to. Memory is that of the series, whatever the steps are.
// kResourceExhausted: more than kMaxComparedSeries, or too much to read.
absl::Status CompareRuns(const QueryEnvironment& environment,
                         const v1::CompareRunsRequest& request,
                         const Cancelled& cancelled,
                         v1::CompareRunsResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_COMPARE_QUERY_H_
