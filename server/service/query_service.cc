#include "server/service/query_service.h"

#include <cstddef>
#include <string>
#include <utility>

#include "server/auth/grpc_door.h"
#include "server/health/health_watch.h"
#include "server/limits/answer_room.h"
#include "server/service/grpc_status.h"
#include "server/service/query_methods.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// An answer takes that much twice: as a message, of half as much again, and in
// bytes. Of small ones a connection may have a hundred.
constexpr std::size_t kSmallMessage = std::size_t{16} << 10;

bool IsSmall(std::size_t answer_bytes) { return answer_bytes <= kSmallMessage; }

}  // namespace

QueryService::QueryService(QueryBackend* backend, std::uint32_t max_watches,
                           std::chrono::nanoseconds max_unread, Gate* gate)
    : backend_(backend), gate_(gate) {
  SetMessageAllocatorFor_ListRuns(&runs_messages_);
  SetMessageAllocatorFor_GetRun(&run_messages_);
  SetMessageAllocatorFor_ListParameters(&parameter_messages_);
  SetMessageAllocatorFor_GetSeries(&series_messages_);
  SetMessageAllocatorFor_GetSnapshot(&snapshot_messages_);
  SetMessageAllocatorFor_GetHeatMap(&heat_map_messages_);
  SetMessageAllocatorFor_GetHistograms(&histogram_messages_);
  SetMessageAllocatorFor_GetTop(&top_messages_);
  SetMessageAllocatorFor_CompareRuns(&compare_messages_);
  SetMessageAllocatorFor_ListGaps(&gap_messages_);
  SetMessageAllocatorFor_DeleteRun(&delete_messages_);
  SetMessageAllocatorFor_PinRun(&pin_messages_);
  SetMessageAllocatorFor_GetStatus(&status_messages_);
  SetMessageAllocatorFor_ListAlerts(&alert_messages_);
  SetMessageAllocatorFor_GetHealth(&health_messages_);
  SetMessageAllocatorFor_GetFirstBad(&first_bad_messages_);
  SetMessageAllocatorFor_TestRules(&rule_messages_);
  hub_ =
      std::make_unique<WatchHub>(&backend->environment(), backend->overheads(),
                                 max_watches, max_unread, gate);
  backend->CountWatches([this] { return hub_->open(); });
  if (backend->health() == nullptr) return;
  alert_hub_ = std::make_unique<AlertHub>(
      backend->environment().store, &backend->health()->log(), max_watches,
      max_unread, gate, backend->environment().guards);
  backend->CountWatches([this] { return alert_hub_->open(); });
}

QueryService::~QueryService() = default;

void QueryService::Shutdown(std::chrono::steady_clock::time_point deadline) {
  backend_->Stop();
  hub_->Shutdown(deadline);
  if (alert_hub_ != nullptr) alert_hub_->Shutdown(deadline);
  backend_->WaitIdle(deadline);
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* QueryService::Submit(
    grpc::CallbackServerContext* context, const char* method,
    const Request* request, Response* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const Guards& guards = backend_->environment().guards;
  absl::StatusOr<Caller> caller = CallerOf(gate_, guards, *context);
  const std::shared_ptr<OpenConnection> connection =
      ConnectionOf(guards, *context);
  if (connection != nullptr) connection->Took(request->ByteSizeLong());
  const absl::Status may =
      caller.ok() ? CheckRuns(gate_, *caller, *request) : caller.status();
  if (!may.ok()) {
    reactor->Finish(ToGrpcStatus(may));
    return reactor;
  }
  auto* const messages = ArenaMessages<Request, Response>::Of(context);
  messages->Hold(guards.answers, ClientName(*caller, context->peer()));
  backend_->Submit(
      method, [context] { return context->IsCancelled(); },
      [=, this, caller = *std::move(caller)](const Cancelled& cancelled) {
        const MakingAnswer making(messages->held());
        absl::Status s = Answer(backend_, *request, cancelled, response);
        if (!s.ok()) {
          return WithOwnRuns(caller, *backend_->environment().store, s);
        }
        KeepOwn(caller, response);
        const std::size_t bytes = response->ByteSizeLong();
        if (IsSmall(bytes)) return s;
        messages->Send(guards.connections, connection);
        return messages->held()->Grow(bytes * 5 / 2);
      },
      [reactor](const absl::Status& status) {
        reactor->Finish(ToGrpcStatus(status));
      });
  return reactor;
}

grpc::ServerUnaryReactor* QueryService::ListRuns(
    grpc::CallbackServerContext* context, const v1::ListRunsRequest* request,
    v1::ListRunsResponse* response) {
  return Submit(context, "ListRuns", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetRun(
    grpc::CallbackServerContext* context, const v1::GetRunRequest* request,
    v1::GetRunResponse* response) {
  return Submit(context, "GetRun", request, response);
}

grpc::ServerUnaryReactor* QueryService::ListParameters(
    grpc::CallbackServerContext* context,
    const v1::ListParametersRequest* request,
    v1::ListParametersResponse* response) {
  return Submit(context, "ListParameters", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetSeries(
    grpc::CallbackServerContext* context, const v1::GetSeriesRequest* request,
    v1::GetSeriesResponse* response) {
  return Submit(context, "GetSeries", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetSnapshot(
    grpc::CallbackServerContext* context, const v1::GetSnapshotRequest* request,
    v1::GetSnapshotResponse* response) {
  return Submit(context, "GetSnapshot", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetHeatMap(
    grpc::CallbackServerContext* context, const v1::GetHeatMapRequest* request,
    v1::GetHeatMapResponse* response) {
  return Submit(context, "GetHeatMap", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetHistograms(
    grpc::CallbackServerContext* context,
    const v1::GetHistogramsRequest* request,
    v1::GetHistogramsResponse* response) {
  return Submit(context, "GetHistograms", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetTop(
    grpc::CallbackServerContext* context, const v1::GetTopRequest* request,
    v1::GetTopResponse* response) {
  return Submit(context, "GetTop", request, response);
}

grpc::ServerUnaryReactor* QueryService::CompareRuns(
    grpc::CallbackServerContext* context, const v1::CompareRunsRequest* request,
    v1::CompareRunsResponse* response) {
  return Submit(context, "CompareRuns", request, response);
}

grpc::ServerUnaryReactor* QueryService::ListGaps(
    grpc::CallbackServerContext* context, const v1::ListGapsRequest* request,
    v1::ListGapsResponse* response) {
  return Submit(context, "ListGaps", request, response);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* QueryService::Watch(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* request) {
  return hub_->Open(context, request);
}

grpc::ServerUnaryReactor* QueryService::DeleteRun(
    grpc::CallbackServerContext* context, const v1::DeleteRunRequest* request,
    v1::DeleteRunResponse* response) {
  return Submit(context, "DeleteRun", request, response);
}

grpc::ServerUnaryReactor* QueryService::PinRun(
    grpc::CallbackServerContext* context, const v1::PinRunRequest* request,
    v1::PinRunResponse* response) {
  return Submit(context, "PinRun", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetStatus(
    grpc::CallbackServerContext* context, const v1::GetStatusRequest* request,
    v1::GetStatusResponse* response) {
  return Submit(context, "GetStatus", request, response);
}

grpc::ServerUnaryReactor* QueryService::ListAlerts(
    grpc::CallbackServerContext* context, const v1::ListAlertsRequest* request,
    v1::ListAlertsResponse* response) {
  return Submit(context, "ListAlerts", request, response);
}

grpc::ServerWriteReactor<v1::WatchAlertsResponse>* QueryService::WatchAlerts(
    grpc::CallbackServerContext* context,
    const v1::WatchAlertsRequest* request) {
  if (alert_hub_ != nullptr) return alert_hub_->Open(context, request);
  return v1::Query::CallbackService::WatchAlerts(context, request);
}

grpc::ServerUnaryReactor* QueryService::GetHealth(
    grpc::CallbackServerContext* context, const v1::GetHealthRequest* request,
    v1::GetHealthResponse* response) {
  return Submit(context, "GetHealth", request, response);
}

grpc::ServerUnaryReactor* QueryService::GetFirstBad(
    grpc::CallbackServerContext* context, const v1::GetFirstBadRequest* request,
    v1::GetFirstBadResponse* response) {
  return Submit(context, "GetFirstBad", request, response);
}

grpc::ServerUnaryReactor* QueryService::TestRules(
    grpc::CallbackServerContext* context, const v1::TestRulesRequest* request,
    v1::TestRulesResponse* response) {
  return Submit(context, "TestRules", request, response);
}

}  // namespace gradtap::server
