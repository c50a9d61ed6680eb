#include "server/service/query_service.h"

#include <cstddef>
#include <string>
#include <utility>

#include "server/auth/grpc_door.h"
#include "server/health/health_watch.h"
#include "server/limits/answer_room.h"
#include "server/service/arena_messages.h"
#include "server/service/grpc_status.h"
#include "server/service/query_methods.h"
#include "server/service/request_bytes.h"
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
  Serve<v1::ListRunsRequest, v1::ListRunsResponse>("ListRuns");
  Serve<v1::GetRunRequest, v1::GetRunResponse>("GetRun");
  Serve<v1::ListParametersRequest, v1::ListParametersResponse>(
      "ListParameters");
  Serve<v1::GetSeriesRequest, v1::GetSeriesResponse>("GetSeries");
  Serve<v1::GetSnapshotRequest, v1::GetSnapshotResponse>("GetSnapshot");
  Serve<v1::GetHeatMapRequest, v1::GetHeatMapResponse>("GetHeatMap");
  Serve<v1::GetHistogramsRequest, v1::GetHistogramsResponse>("GetHistograms");
  Serve<v1::GetTopRequest, v1::GetTopResponse>("GetTop");
  Serve<v1::CompareRunsRequest, v1::CompareRunsResponse>("CompareRuns");
  Serve<v1::ListGapsRequest, v1::ListGapsResponse>("ListGaps");
  Serve<v1::DeleteRunRequest, v1::DeleteRunResponse>("DeleteRun");
  Serve<v1::PinRunRequest, v1::PinRunResponse>("PinRun");
  Serve<v1::GetStatusRequest, v1::GetStatusResponse>("GetStatus");
  Serve<v1::ListAlertsRequest, v1::ListAlertsResponse>("ListAlerts");
  Serve<v1::GetHealthRequest, v1::GetHealthResponse>("GetHealth");
  Serve<v1::GetFirstBadRequest, v1::GetFirstBadResponse>("GetFirstBad");
  Serve<v1::TestRulesRequest, v1::TestRulesResponse>("TestRules");
  hub_ =
      std::make_unique<WatchHub>(&backend->environment(), backend->overheads(),
                                 max_watches, max_unread, gate);
  backend->CountWatches([this] { return hub_->open(); });
  ServeWatches();
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
void QueryService::Serve(const char* method) {
  static ArenaMessages<Response> messages;  // Of all services; has no state.
  auto* const handler =
      new grpc::internal::CallbackUnaryHandler<grpc::ByteBuffer, Response>(
          [this, method](grpc::CallbackServerContext* context,
                         const grpc::ByteBuffer* bytes, Response* response) {
            return Submit<Request>(context, method, bytes, response);
          });
  handler->SetMessageAllocator(&messages);
  MarkMethodRawCallback(MethodIndex(v1::Query::service_full_name(), method),
                        handler);
}

void QueryService::ServeWatches() {
  using grpc::internal::CallbackServerStreamingHandler;
  MarkMethodRawCallback(
      MethodIndex(v1::Query::service_full_name(), "Watch"),
      new CallbackServerStreamingHandler<grpc::ByteBuffer, grpc::ByteBuffer>(
          [this](grpc::CallbackServerContext* context,
                 const grpc::ByteBuffer* bytes) {
            return hub_->Open(context, bytes);
          }));
  MarkMethodRawCallback(
      MethodIndex(v1::Query::service_full_name(), "WatchAlerts"),
      new CallbackServerStreamingHandler<grpc::ByteBuffer,
                                         v1::WatchAlertsResponse>(
          [this](grpc::CallbackServerContext* context,
                 const grpc::ByteBuffer* bytes) {
            return alert_hub_ == nullptr ? nullptr  // It is not implemented.
                                         : alert_hub_->Open(context, bytes);
          }));
}

template <typename Request, typename Response>
grpc::ServerUnaryReactor* QueryService::Submit(
    grpc::CallbackServerContext* context, const char* method,
    const grpc::ByteBuffer* bytes, Response* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  grpc::ByteBuffer taken = TakeBytes(bytes);
  const Guards& guards = backend_->environment().guards;
  absl::StatusOr<Caller> caller = CallerOf(gate_, guards, *context);
  const std::shared_ptr<OpenConnection> connection =
      ConnectionOf(guards, *context);
  if (connection != nullptr) connection->Took(taken.Length());
  absl::Status may = caller.status();
  std::shared_ptr<const Request> request;
  if (may.ok()) {
    auto read = ReadRequest<Request>(guards, std::move(taken));
    may = read.status();
    if (read.ok()) request = *std::move(read);
  }
  if (may.ok()) may = CheckRuns(gate_, *caller, *request);
  if (!may.ok()) {
    reactor->Finish(ToGrpcStatus(may));
    return reactor;
  }
  auto* const messages = ArenaMessages<Response>::Of(context);
  const std::string client = ClientName(*caller, context->peer());
  messages->Hold(guards.answers, client);
  backend_->Submit(
      method, client, [context] { return context->IsCancelled(); },
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

}  // namespace gradtap::server
