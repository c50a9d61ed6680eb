#include "client/include/gradtap/client.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/convert.h"
#include "client/rpc/answer_memory.h"
#include "client/rpc/query_channel.h"
#include "client/rpc/watch_loop.h"
#include "client/rpc/words.h"
#include "core/names.h"

namespace gradtap::client {

class Client::Impl {
 public:
  explicit Impl(std::unique_ptr<QueryChannel> channel)
      : channel_(std::move(channel)) {}

  // One call; the answer converted.
  template <typename Stub, typename Request, typename Response>
  auto Ask(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                        Response*),
           const Request& request) const
      -> Result<decltype(FromProto(std::declval<const Response&>()))> {
    AnswerMemory::Lease lease(&memory_);
    auto* response = lease.Create<Response>();
    const absl::Status status = channel_->Call(method, request, response);
    if (!status.ok()) return ToError(status);
    return FromProto(*response);
  }

  QueryChannel& channel() const { return *channel_; }

 private:
  const std::unique_ptr<QueryChannel> channel_;
  mutable AnswerMemory memory_;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::Connect(const ClientOptions& options) {
  ChannelOptions channel_options;
  channel_options.collector = options.collector;
  channel_options.tls = options.tls;
  channel_options.tls_ca_file = options.tls_ca_file;
  channel_options.tls_cert_file = options.tls_cert_file;
  channel_options.tls_key_file = options.tls_key_file;
  channel_options.token = options.token;
  channel_options.use_proxy = options.use_proxy;
  channel_options.connect_deadline = options.connect_deadline;
  channel_options.deadline = options.deadline;
  channel_options.long_deadline = options.long_deadline;
  channel_options.max_answer_bytes = options.max_answer_bytes;
  absl::StatusOr<std::unique_ptr<QueryChannel>> channel =
      QueryChannel::Connect(channel_options);
  if (!channel.ok()) return ToError(channel.status());
  return Client(std::make_unique<Impl>(*std::move(channel)));
}

Result<std::vector<RunSummary>> Client::Runs(const RunsQuery& query) const {
  v1::ListRunsResponse response;
  const absl::Status status = impl_->channel().Call(&v1::Query::Stub::ListRuns,
                                                    ToProto(query), &response);
  if (!status.ok()) return ToError(status);
  std::vector<RunSummary> runs;
  runs.reserve(response.runs_size());
  for (const v1::RunInfo& run : response.runs()) runs.push_back(FromProto(run));
  return runs;
}

Result<RunDetails> Client::Run(const std::string& run) const {
  v1::GetRunRequest request;
  request.set_run(run);
  return impl_->Ask(&v1::Query::Stub::GetRun, request);
}

Result<ParameterList> Client::Parameters(const ParametersQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::ListParameters, ToProto(query));
}

Result<SeriesAnswer> Client::Series(const SeriesQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::GetSeries, ToProto(query));
}

Result<SnapshotAnswer> Client::Snapshot(const SnapshotQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::GetSnapshot, ToProto(query));
}

Result<HistogramsAnswer> Client::Histograms(
    const HistogramsQuery& query) const {
  if (!query.role.empty() && !RoleOfWord(query.role)) {
    return Error{ErrorCode::kInvalidArgument,
                 "role '" + EscapeForTerminal(query.role) +
                     "': one of weight, grad, update, grad_local, buffer"};
  }
  return impl_->Ask(&v1::Query::Stub::GetHistograms, ToProto(query));
}

Result<HeatMapAnswer> Client::HeatMap(const HeatMapQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::GetHeatMap, ToProto(query));
}

Result<TopAnswer> Client::Top(const TopQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::GetTop, ToProto(query));
}

Result<CompareAnswer> Client::Compare(const CompareQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::CompareRuns, ToProto(query));
}

Result<GapList> Client::Gaps(const GapsQuery& query) const {
  return impl_->Ask(&v1::Query::Stub::ListGaps, ToProto(query));
}

Result<bool> Client::Watch(
    const WatchQuery& query,
    const std::function<bool(const WatchEvent& event)>& on_event) const {
  if (query.tick <= std::chrono::milliseconds::zero()) {
    return Error{ErrorCode::kInvalidArgument, "the tick must be positive"};
  }
  WatchLoopOptions options;
  options.tick = query.tick;
  options.reconnect = query.reconnect;
  WatchEvent tick;
  WatchEvent reconnected;
  reconnected.kind = WatchEvent::Kind::kReconnected;
  WatchHandlers handlers;
  handlers.on_message = [&](const v1::WatchResponse& message) {
    return on_event(FromProto(message));
  };
  handlers.on_tick = [&] { return on_event(tick); };
  handlers.on_disconnected = [&](const absl::Status& why) {
    WatchEvent event;
    event.kind = WatchEvent::Kind::kDisconnected;
    event.problem = ToError(why);
    return on_event(event);
  };
  handlers.on_reconnected = [&] { return on_event(reconnected); };
  const absl::Status status =
      RunWatchLoop(impl_->channel(), ToProto(query), options, handlers);
  if (!status.ok()) return ToError(status);
  return true;
}

Result<DeletedRun> Client::DeleteRun(const std::string& run) const {
  v1::DeleteRunRequest request;
  request.set_run(run);
  v1::DeleteRunResponse response;
  const absl::Status status =
      impl_->channel().Call(&v1::Query::Stub::DeleteRun, request, &response);
  if (!status.ok()) return ToError(status);
  return DeletedRun{response.run(), response.deleted_steps(),
                    response.deleted_bytes()};
}

Result<bool> Client::PinRun(const std::string& run, bool pinned) const {
  v1::PinRunRequest request;
  request.set_run(run);
  request.set_pinned(pinned);
  v1::PinRunResponse response;
  const absl::Status status =
      impl_->channel().Call(&v1::Query::Stub::PinRun, request, &response);
  if (!status.ok()) return ToError(status);
  return response.changed();
}

Result<BackupResult> Client::Backup(const std::string& name) const {
  v1::BackupRequest request;
  request.set_name(name);
  return impl_->Ask(&v1::Upkeep::Stub::Backup, request);
}

Result<CompactResult> Client::Compact() const {
  return impl_->Ask(&v1::Upkeep::Stub::Compact, v1::CompactRequest());
}

Result<CollectorStatus> Client::Status() const {
  return impl_->Ask(&v1::Query::Stub::GetStatus, v1::GetStatusRequest());
}

}  // namespace gradtap::client
