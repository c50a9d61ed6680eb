// What of a run became NaN or infinite first, on which rank: from what is
// stored, whether or not rules were evaluated while it came.
//
// Layer: server/health. This file: absl, query, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_HEALTH_FIRST_BAD_H_
#define GRADTAP_SERVER_HEALTH_FIRST_BAD_H_

#include <string>

#include "absl/status/status.h"
#include "gradtap/v1/alert.pb.h"
#include "server/query/environment.h"
#include "server/query/row_reader.h"

namespace gradtap::server {

// All but the alerts. `loss` is what is taken where the request names none.
// Reads heat maps, which narrow down to one step: some for each role and rank.
// Errors are those of the queries.
absl::Status FirstBad(const QueryEnvironment& environment,
                      const std::string& loss,
                      const v1::GetFirstBadRequest& request,
                      const Cancelled& cancelled,
                      v1::GetFirstBadResponse* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_FIRST_BAD_H_
