#include "server/service/query_methods.h"

#include <algorithm>
#include <string>
#include <utility>

#include "server/health/first_bad.h"
#include "server/health/health_watch.h"
#include "server/query/compare_query.h"
#include "server/query/gaps.h"
#include "server/query/heat_map_query.h"
#include "server/query/histogram_query.h"
#include "server/query/run_query.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/query/top_query.h"

namespace gradtap::server {
namespace {

absl::Status NoRules() {
  return absl::FailedPreconditionError("this collector evaluates no rules");
}

// Other rules' alerts of a run, by their first step.
absl::Status AddAlerts(const HealthWatch& health, const std::string& run,
                       v1::GetFirstBadResponse* answer) {
  v1::ListAlertsRequest request;
  request.set_run(run);
  v1::ListAlertsResponse listed;
  if (absl::Status s = health.ListAlerts(request, &listed); !s.ok()) return s;
  auto* alerts = listed.mutable_alerts();
  std::stable_sort(alerts->begin(), alerts->end(),
                   [](const v1::Alert& a, const v1::Alert& b) {
                     return a.first_step() < b.first_step();
                   });
  for (v1::Alert& alert : *alerts) {
    if (alert.rule() == v1::HEALTH_RULE_NONFINITE) continue;
    *answer->add_alerts() = std::move(alert);
  }
  return absl::OkStatus();
}

}  // namespace

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
                    const Cancelled& cancelled,
                    v1::ListParametersResponse* answer) {
  return ListParameters(backend->environment(), request, cancelled, answer);
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

absl::Status Answer(QueryBackend* backend, const v1::ListAlertsRequest& request,
                    const Cancelled& /*cancelled*/,
                    v1::ListAlertsResponse* answer) {
  if (backend->health() == nullptr) return NoRules();
  return backend->health()->ListAlerts(request, answer);
}

absl::Status Answer(QueryBackend* backend, const v1::GetHealthRequest& request,
                    const Cancelled& /*cancelled*/,
                    v1::GetHealthResponse* answer) {
  if (backend->health() == nullptr) return NoRules();
  return backend->health()->GetHealth(request, answer);
}

absl::Status Answer(QueryBackend* backend,
                    const v1::GetFirstBadRequest& request,
                    const Cancelled& cancelled,
                    v1::GetFirstBadResponse* answer) {
  if (backend->health() == nullptr) return NoRules();
  const std::string& loss =
      backend->health()->rules()->file().loss_spike().scalar();
  absl::Status s =
      FirstBad(backend->environment(), loss, request, cancelled, answer);
  if (s.ok()) s = AddAlerts(*backend->health(), request.run(), answer);
  return s;
}

absl::Status Answer(QueryBackend* backend, const v1::TestRulesRequest& request,
                    const Cancelled& cancelled, v1::TestRulesResponse* answer) {
  if (backend->health() == nullptr) return NoRules();
  return backend->health()->TestRules(backend->environment(), request,
                                      cancelled, answer);
}

}  // namespace gradtap::server
