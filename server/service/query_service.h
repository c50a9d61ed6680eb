// gradtap.v1.Query over gRPC.
//
// Layer: server/service. This file: grpc, query.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
#define GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_

#include <chrono>
#include <cstdint>
#include <memory>

#include "gradtap/v1/query.grpc.pb.h"
#include "server/auth/gate.h"
#include "server/service/alert_hub.h"
#include "server/service/arena_messages.h"
#include "server/service/query_backend.h"
#include "server/service/watch_hub.h"

namespace gradtap::server {

// Thread-safe. Must outlive the server that it is registered with. Watch is
// answered in bytes: see WatchHub.
class QueryService final : public v1::Query::WithRawCallbackMethod_Watch<
                               v1::Query::CallbackService> {
 public:
  // Both must outlive the service. `gate`: who may read which runs.
  // `max_unread`: how long a message of a watch may wait to be taken.
  QueryService(QueryBackend* backend, std::uint32_t max_watches,
               std::chrono::nanoseconds max_unread, Gate* gate = Gate::Open());
  ~QueryService() override;

  // Stops the backend and ends the calls that are open. Returns when they have
  // ended or at the deadline.
  void Shutdown(std::chrono::steady_clock::time_point deadline);

  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context,
                                     const v1::ListRunsRequest* request,
                                     v1::ListRunsResponse* response) override;
  grpc::ServerUnaryReactor* GetRun(grpc::CallbackServerContext* context,
                                   const v1::GetRunRequest* request,
                                   v1::GetRunResponse* response) override;
  grpc::ServerUnaryReactor* ListParameters(
      grpc::CallbackServerContext* context,
      const v1::ListParametersRequest* request,
      v1::ListParametersResponse* response) override;
  grpc::ServerUnaryReactor* GetSeries(grpc::CallbackServerContext* context,
                                      const v1::GetSeriesRequest* request,
                                      v1::GetSeriesResponse* response) override;
  grpc::ServerUnaryReactor* GetSnapshot(
      grpc::CallbackServerContext* context,
      const v1::GetSnapshotRequest* request,
      v1::GetSnapshotResponse* response) override;
  grpc::ServerUnaryReactor* GetHeatMap(
      grpc::CallbackServerContext* context,
      const v1::GetHeatMapRequest* request,
      v1::GetHeatMapResponse* response) override;
  grpc::ServerUnaryReactor* GetHistograms(
      grpc::CallbackServerContext* context,
      const v1::GetHistogramsRequest* request,
      v1::GetHistogramsResponse* response) override;
  grpc::ServerUnaryReactor* GetTop(grpc::CallbackServerContext* context,
                                   const v1::GetTopRequest* request,
                                   v1::GetTopResponse* response) override;
  grpc::ServerUnaryReactor* CompareRuns(
      grpc::CallbackServerContext* context,
      const v1::CompareRunsRequest* request,
      v1::CompareRunsResponse* response) override;
  grpc::ServerUnaryReactor* ListGaps(grpc::CallbackServerContext* context,
                                     const v1::ListGapsRequest* request,
                                     v1::ListGapsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Watch(
      grpc::CallbackServerContext* context,
      const grpc::ByteBuffer* request) override;
  grpc::ServerUnaryReactor* DeleteRun(grpc::CallbackServerContext* context,
                                      const v1::DeleteRunRequest* request,
                                      v1::DeleteRunResponse* response) override;
  grpc::ServerUnaryReactor* PinRun(grpc::CallbackServerContext* context,
                                   const v1::PinRunRequest* request,
                                   v1::PinRunResponse* response) override;
  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest* request,
                                      v1::GetStatusResponse* response) override;
  grpc::ServerUnaryReactor* ListAlerts(
      grpc::CallbackServerContext* context,
      const v1::ListAlertsRequest* request,
      v1::ListAlertsResponse* response) override;
  grpc::ServerWriteReactor<v1::WatchAlertsResponse>* WatchAlerts(
      grpc::CallbackServerContext* context,
      const v1::WatchAlertsRequest* request) override;
  grpc::ServerUnaryReactor* GetHealth(grpc::CallbackServerContext* context,
                                      const v1::GetHealthRequest* request,
                                      v1::GetHealthResponse* response) override;
  grpc::ServerUnaryReactor* GetFirstBad(
      grpc::CallbackServerContext* context,
      const v1::GetFirstBadRequest* request,
      v1::GetFirstBadResponse* response) override;
  grpc::ServerUnaryReactor* TestRules(grpc::CallbackServerContext* context,
                                      const v1::TestRulesRequest* request,
                                      v1::TestRulesResponse* response) override;

 private:
  // Runs on the backend, or refuses. `method` is a literal.
  template <typename Request, typename Response>
  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context,
                                   const char* method, const Request* request,
                                   Response* response);

  QueryBackend* const backend_;
  Gate* const gate_;
  // One of each method.
  ArenaMessages<v1::ListRunsRequest, v1::ListRunsResponse> runs_messages_;
  ArenaMessages<v1::GetRunRequest, v1::GetRunResponse> run_messages_;
  ArenaMessages<v1::ListParametersRequest, v1::ListParametersResponse>
      parameter_messages_;
  ArenaMessages<v1::GetSeriesRequest, v1::GetSeriesResponse> series_messages_;
  ArenaMessages<v1::GetSnapshotRequest, v1::GetSnapshotResponse>
      snapshot_messages_;
  ArenaMessages<v1::GetHeatMapRequest, v1::GetHeatMapResponse>
      heat_map_messages_;
  ArenaMessages<v1::GetHistogramsRequest, v1::GetHistogramsResponse>
      histogram_messages_;
  ArenaMessages<v1::GetTopRequest, v1::GetTopResponse> top_messages_;
  ArenaMessages<v1::CompareRunsRequest, v1::CompareRunsResponse>
      compare_messages_;
  ArenaMessages<v1::ListGapsRequest, v1::ListGapsResponse> gap_messages_;
  ArenaMessages<v1::DeleteRunRequest, v1::DeleteRunResponse> delete_messages_;
  ArenaMessages<v1::PinRunRequest, v1::PinRunResponse> pin_messages_;
  ArenaMessages<v1::GetStatusRequest, v1::GetStatusResponse> status_messages_;
  ArenaMessages<v1::ListAlertsRequest, v1::ListAlertsResponse> alert_messages_;
  ArenaMessages<v1::GetHealthRequest, v1::GetHealthResponse> health_messages_;
  ArenaMessages<v1::GetFirstBadRequest, v1::GetFirstBadResponse>
      first_bad_messages_;
  ArenaMessages<v1::TestRulesRequest, v1::TestRulesResponse> rule_messages_;
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<AlertHub> alert_hub_;  // Null: no rules are evaluated.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
