// The unary methods of gradtap.v1.Query, one overload for each request: what
// every door answers them with.
//
// Layer: server/service. This file: absl, query, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_METHODS_H_
#define GRADTAP_SERVER_SERVICE_QUERY_METHODS_H_

#include "absl/status/status.h"
#include "gradtap/v1/alert.pb.h"
#include "gradtap/v1/query.pb.h"
#include "server/query/row_reader.h"
#include "server/service/query_backend.h"

namespace gradtap::server {

// Thread-safe; to be run by the backend. `answer` is empty before, and means
// nothing after an error. Errors are those of the queries.
absl::Status Answer(QueryBackend* backend, const v1::ListRunsRequest& request,
                    const Cancelled& cancelled, v1::ListRunsResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetRunRequest& request,
                    const Cancelled& cancelled, v1::GetRunResponse* answer);
absl::Status Answer(QueryBackend* backend,
                    const v1::ListParametersRequest& request,
                    const Cancelled& cancelled,
                    v1::ListParametersResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetSeriesRequest& request,
                    const Cancelled& cancelled, v1::GetSeriesResponse* answer);
absl::Status Answer(QueryBackend* backend,
                    const v1::GetSnapshotRequest& request,
                    const Cancelled& cancelled,
                    v1::GetSnapshotResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetHeatMapRequest& request,
                    const Cancelled& cancelled, v1::GetHeatMapResponse* answer);
absl::Status Answer(QueryBackend* backend,
                    const v1::GetHistogramsRequest& request,
                    const Cancelled& cancelled,
                    v1::GetHistogramsResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetTopRequest& request,
                    const Cancelled& cancelled, v1::GetTopResponse* answer);
absl::Status Answer(QueryBackend* backend,
                    const v1::CompareRunsRequest& request,
                    const Cancelled& cancelled,
                    v1::CompareRunsResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::ListGapsRequest& request,
                    const Cancelled& cancelled, v1::ListGapsResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::DeleteRunRequest& request,
                    const Cancelled& cancelled, v1::DeleteRunResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::PinRunRequest& request,
                    const Cancelled& cancelled, v1::PinRunResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetStatusRequest& request,
                    const Cancelled& cancelled, v1::GetStatusResponse* answer);
// FAILED_PRECONDITION if the backend has nothing that evaluates rules.
absl::Status Answer(QueryBackend* backend, const v1::ListAlertsRequest& request,
                    const Cancelled& cancelled, v1::ListAlertsResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::GetHealthRequest& request,
                    const Cancelled& cancelled, v1::GetHealthResponse* answer);
absl::Status Answer(QueryBackend* backend,
                    const v1::GetFirstBadRequest& request,
                    const Cancelled& cancelled,
                    v1::GetFirstBadResponse* answer);
absl::Status Answer(QueryBackend* backend, const v1::TestRulesRequest& request,
                    const Cancelled& cancelled, v1::TestRulesResponse* answer);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_METHODS_H_
