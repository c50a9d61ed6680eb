#include "server/service/query_service.h"

#include <google/protobuf/arena.h>

#include <cstddef>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gradtap/v1/query.pb.h"
#include "server/health/health_watch.h"
#include "server/limits/answer_room.h"
#include "server/service/query_methods.h"
#include "server/service/request_bytes.h"
#include "server/service/run_access.h"

namespace gradtap::server {
namespace {

// An answer takes that much twice: as a message, of half as much again, and in
// bytes. Of small ones a connection may have a hundred.
constexpr std::size_t kSmallMessage = std::size_t{16} << 10;

bool IsSmall(std::size_t answer_bytes) { return answer_bytes <= kSmallMessage; }

// One block of it is a small answer's; others grow twofold. An answer of ten
// thousand rows takes and frees some blocks in the place of 30,000 pieces.
google::protobuf::ArenaOptions BlocksOfAnAnswer() {
  google::protobuf::ArenaOptions options;
  options.start_block_size = std::size_t{4} << 10;
  options.max_block_size = std::size_t{256} << 10;
  return options;
}

}  // namespace

// What the answer takes (../limits/answer_room.h) it takes until the call ends.
template <typename Request, typename Response>
class QueryService::Call final : public RequestCall {
 public:
  Call(QueryService* service, const char* method, CallHead head)
      : RequestCall(std::move(head), service->backend_->environment().guards),
        service_(service),
        method_(method) {}

  void OnDone() override { delete this; }

 private:
  void OnRequest(grpc::ByteBuffer bytes) override {
    auto request = ReadRequestOf<Request>(service_->gate_, caller(), guards(),
                                          std::move(bytes));
    if (!request.ok()) return End(request.status());
    request_ = *std::move(request);
    held_.emplace(guards().answers, client());
    service_->backend_->Submit(
        method_, client(), [this] { return context()->IsCancelled(); },
        [this](const Cancelled& cancelled) { return Make(cancelled); },
        [this](const absl::Status& status) {
          request_ = nullptr;  // Not kept until the answer has been read.
          status.ok() ? Answer(answer_) : End(status);
        });
  }

  absl::Status Make(const Cancelled& cancelled) {
    const MakingAnswer making(&*held_);
    QueryBackend* const backend = service_->backend_;
    google::protobuf::Arena arena(BlocksOfAnAnswer());
    auto* const response =
        google::protobuf::Arena::CreateMessage<Response>(&arena);
    absl::Status s = server::Answer(backend, *request_, cancelled, response);
    if (!s.ok()) {
      return WithOwnRuns(caller(), *backend->environment().store, s);
    }
    KeepOwn(caller(), response);
    const std::size_t bytes = response->ByteSizeLong();
    if (!IsSmall(bytes)) s = held_->Grow(bytes * 5 / 2);
    if (!s.ok()) return s;
    absl::StatusOr<grpc::ByteBuffer> written = ToBytes(*response);
    if (written.ok()) answer_.Swap(&*written);
    return written.status();
  }

  QueryService* const service_;
  const char* const method_;
  std::shared_ptr<const Request> request_;
  std::optional<HeldAnswer> held_;
  grpc::ByteBuffer answer_;
};

QueryService::QueryService(QueryBackend* backend, std::uint32_t max_watches,
                           std::chrono::nanoseconds max_unread, Gate* gate)
    : backend_(backend), gate_(gate) {
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
void QueryService::Serve(Methods* methods, const char* method) {
  methods->Serve(
      absl::StrCat("/", kName, "/", method), [this, method](CallHead head) {
        return new Call<Request, Response>(this, method, std::move(head));
      });
}

void QueryService::AddTo(Methods* methods) {
  Serve<v1::ListRunsRequest, v1::ListRunsResponse>(methods, "ListRuns");
  Serve<v1::GetRunRequest, v1::GetRunResponse>(methods, "GetRun");
  Serve<v1::ListParametersRequest, v1::ListParametersResponse>(
      methods, "ListParameters");
  Serve<v1::GetSeriesRequest, v1::GetSeriesResponse>(methods, "GetSeries");
  Serve<v1::GetSnapshotRequest, v1::GetSnapshotResponse>(methods,
                                                         "GetSnapshot");
  Serve<v1::GetHeatMapRequest, v1::GetHeatMapResponse>(methods, "GetHeatMap");
  Serve<v1::GetHistogramsRequest, v1::GetHistogramsResponse>(methods,
                                                             "GetHistograms");
  Serve<v1::GetTopRequest, v1::GetTopResponse>(methods, "GetTop");
  Serve<v1::CompareRunsRequest, v1::CompareRunsResponse>(methods,
                                                         "CompareRuns");
  Serve<v1::ListGapsRequest, v1::ListGapsResponse>(methods, "ListGaps");
  Serve<v1::DeleteRunRequest, v1::DeleteRunResponse>(methods, "DeleteRun");
  Serve<v1::PinRunRequest, v1::PinRunResponse>(methods, "PinRun");
  Serve<v1::GetStatusRequest, v1::GetStatusResponse>(methods, "GetStatus");
  Serve<v1::ListAlertsRequest, v1::ListAlertsResponse>(methods, "ListAlerts");
  Serve<v1::GetHealthRequest, v1::GetHealthResponse>(methods, "GetHealth");
  Serve<v1::GetFirstBadRequest, v1::GetFirstBadResponse>(methods,
                                                         "GetFirstBad");
  Serve<v1::TestRulesRequest, v1::TestRulesResponse>(methods, "TestRules");
  methods->Serve(absl::StrCat("/", kName, "/Watch"),
                 [this](CallHead head) { return hub_->Open(std::move(head)); });
  if (alert_hub_ == nullptr) return;
  methods->Serve(
      absl::StrCat("/", kName, "/WatchAlerts"),
      [this](CallHead head) { return alert_hub_->Open(std::move(head)); });
}

}  // namespace gradtap::server
