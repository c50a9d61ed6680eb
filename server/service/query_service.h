// gradtap.v1.Query over gRPC.
//
// Layer: server/service. This file: grpc, query.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
#define GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "gradtap/v1/query.grpc.pb.h"
#include "server/query/environment.h"
#include "server/query/run_query.h"
#include "server/service/arena_messages.h"
#include "server/service/call_meter.h"
#include "server/service/watch_hub.h"
#include "server/service/worker_pool.h"

namespace gradtap::server {

struct QueryServiceOptions {
  std::uint32_t threads = 2;       // That run queries.
  std::uint32_t max_queued = 64;   // Queries that wait for one of them.
  std::uint32_t max_watches = 64;  // Open at a time.
};

// Thread-safe. Must outlive the server that it is registered with. Watch is
// answered in bytes: see WatchHub.
class QueryService final : public v1::Query::WithRawCallbackMethod_Watch<
                               v1::Query::CallbackService> {
 public:
  // What `environment` points to must outlive the service. Its open_watches and
  // calls are set here.
  QueryService(QueryEnvironment environment,
               const QueryServiceOptions& options = {});
  ~QueryService() override;

  // Refuses new calls with UNAVAILABLE and ends those that are open. Returns
  // when they have ended or at the deadline.
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

 private:
  using Task = std::function<absl::Status(const Cancelled& cancelled)>;

  // Runs `task` on the pool, or refuses. `method` is a literal.
  grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* context,
                                   const char* method, Task task);

  QueryEnvironment environment_;
  OverheadCache overheads_;
  CallMeter meter_;
  std::atomic<bool> stopping_{false};
  // Of the calls whose answers have many rows.
  ArenaMessages<v1::ListParametersRequest, v1::ListParametersResponse>
      parameter_messages_;
  ArenaMessages<v1::GetSeriesRequest, v1::GetSeriesResponse> series_messages_;
  ArenaMessages<v1::GetSnapshotRequest, v1::GetSnapshotResponse>
      snapshot_messages_;
  ArenaMessages<v1::GetHeatMapRequest, v1::GetHeatMapResponse>
      heat_map_messages_;
  ArenaMessages<v1::GetHistogramsRequest, v1::GetHistogramsResponse>
      histogram_messages_;
  std::atomic<std::uint32_t> running_{0};  // Tasks that have not answered.
  std::unique_ptr<WatchHub> hub_;
  std::unique_ptr<WorkerPool> pool_;  // Last: its tasks use all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_SERVICE_H_
