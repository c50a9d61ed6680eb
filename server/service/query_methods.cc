#include "server/service/query_methods.h"

#include "server/query/compare_query.h"
#include "server/query/gaps.h"
#include "server/query/heat_map_query.h"
#include "server/query/histogram_query.h"
#include "server/query/run_query.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/query/top_query.h"

namespace gradtap::server {

absl::Status Answer(QueryBackend* backend, const v1::ListRunsRequest& request,
                    const Cancelled& cancelled, v1::ListRunsResponse* answer) {
  return ListRuns(backend->environment(), request, cancelled,
                  backend->overheads(), answer);
}

absl::Status Answer(QueryBackend* backend, const v1::GetRunRequest& request,
                    const Cancelled& cancelled, v1::GetRunResponse* answer) {
  return GetRun(backend->environment(), request, cancelled,
                backend->overheads(), answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::ListParametersRequest& request,
                    const Cancelled& /*cancelled*/,
                    v1::ListParametersResponse* answer) {
  return ListParameters(backend->environment(), request, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::GetSeriesRequest& request,
                    const Cancelled& cancelled, v1::GetSeriesResponse* answer) {
  return GetSeries(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::GetSnapshotRequest& request,
                    const Cancelled& cancelled,
                    v1::GetSnapshotResponse* answer) {
  return GetSnapshot(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::GetHeatMapRequest& request,
                    const Cancelled& cancelled,
                    v1::GetHeatMapResponse* answer) {
  return GetHeatMap(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::GetHistogramsRequest& request,
                    const Cancelled& cancelled,
                    v1::GetHistogramsResponse* answer) {
  return GetHistograms(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::GetTopRequest& request,
                    const Cancelled& cancelled, v1::GetTopResponse* answer) {
  return GetTop(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::CompareRunsRequest& request,
                    const Cancelled& cancelled,
                    v1::CompareRunsResponse* answer) {
  return CompareRuns(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::ListGapsRequest& request,
                    const Cancelled& cancelled, v1::ListGapsResponse* answer) {
  return ListGaps(backend->environment(), request, cancelled, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::DeleteRunRequest& request,
                    const Cancelled& /*cancelled*/,
                    v1::DeleteRunResponse* answer) {
  return DeleteRun(backend->environment(), request, backend->overheads(),
                   answer);
}

absl::Status Answer(QueryBackend* backend, const v1::PinRunRequest& request,
                    const Cancelled& /*cancelled*/,
                    v1::PinRunResponse* answer) {
  return PinRun(backend->environment(), request, answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::GetStatusRequest& /*request*/,
                    const Cancelled& /*cancelled*/,
                    v1::GetStatusResponse* answer) {
  return GetStatus(backend->environment(), answer);
}

}  // namespace gradtap::server
