#include "server/service/collector.h"

#include <algorithm>
#include <utility>

#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/text/rules_text.h"
#include "server/auth/grpc_door.h"
#include "server/auth/token_file.h"
#include "server/health/health_watch.h"
#include "server/http/http_server.h"
#include "server/keeping/keeper.h"
#include "server/keeping/keeping_thread.h"
#include "server/notify/alert_sender.h"
#include "server/query/environment.h"
#include "server/service/grpc_listener.h"
#include "server/service/methods.h"
#include "server/service/query_backend.h"
#include "server/service/query_service.h"
#include "server/service/socket_path.h"
#include "server/service/upkeep_service.h"

namespace gradtap::server {
namespace {

// Why each: server/service/README.md, "Limits".
constexpr int kMaxReceiveBytes = 4 << 20;
// Of a message, what is around a batch.
constexpr int kAroundABatch = 64 << 10;
// What of a connection is worked off before another one's turn. gRPC's 4 MiB
// may be 46,000 heads of calls, which take a quarter of a second.
constexpr int kMaxReadBytes = 256 << 10;
constexpr int kMaxMetadataBytes = 8 << 10;
constexpr int kMinPingIntervalMs = 20'000;
constexpr int kWindowBytes = 2 << 20;
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kMaxIdleMs = 300'000;
constexpr std::chrono::milliseconds kLastBytes{250};

void ApplyLimits(const CollectorOptions& options,
                 grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(std::max(
      kMaxReceiveBytes,
      static_cast<int>(options.ingest.max_batch_bytes) + kAroundABatch));
  // gRPC inflates a message as a whole before it looks at its size. Batches are
  // compressed by the agent, and inflated within their own limit.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder->SetMaxSendMessageSize(-1);  // QueryLimits bound the answers.
  const auto set = [builder](const char* name, int value) {
    builder->AddChannelArgument(name, value);
  };
  set(GRPC_ARG_ALLOW_REUSEPORT, 0);  // Or two collectors share a port.
  set(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  // What a sender may have on its way to a call that does not read: a batch.
  // Else gRPC grants more to a fast one, and all that a slow disk holds up
  // together look like peers that hoard.
  set(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  set(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, kWindowBytes);
  set(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kMaxReadBytes);
  set(GRPC_ARG_MAX_CONCURRENT_STREAMS, static_cast<int>(options.max_streams));
  set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
      static_cast<int>(options.handshake_time.count()));
  set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
      kMinPingIntervalMs);
  set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  set(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  set(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kMaxIdleMs);
  grpc::ResourceQuota quota("gradtapd");
  quota.Resize(static_cast<std::size_t>(options.grpc_memory));
  builder->SetResourceQuota(quota);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Collector>> Collector::Start(
    const CollectorOptions& options) {
  std::unique_ptr<Collector> collector(new Collector(options));
  absl::Status status = collector->OpenDoors();
  if (!status.ok()) return status;
  absl::StatusOr<std::string> backups =
      BackupFolder(options.backup_dir, options.data_dir);
  if (!backups.ok()) return backups.status();
  absl::StatusOr<std::unique_ptr<Store>> store =
      OpenRocksdbStore({options.data_dir});
  if (!store.ok()) return store.status();
  collector->store_ = *std::move(store);
  collector->MakeIngest();
  collector->keeper_ =
      std::make_unique<Keeper>(collector->Surroundings(), options.keeping);
  collector->ForwardSeries();
  QueryBackendOptions backend;
  backend.threads = options.query_threads;
  collector->backend_ =
      std::make_unique<QueryBackend>(collector->Environment(), backend);
  if (absl::Status s = collector->WatchHealth(); !s.ok()) return s;
  collector->query_ = std::make_unique<QueryService>(
      collector->backend_.get(), options.max_watches,
      options.connections.answer_time, collector->gate_);
  collector->upkeep_ =
      std::make_unique<UpkeepService>(collector->store_.get(), options.clock,
                                      *std::move(backups), collector->guards());
  collector->methods_ = std::make_unique<Methods>(
      collector->gate_, collector->guards(),
      std::vector<std::string>{QueryService::kName, UpkeepService::kName,
                               "gradtap.v1.Telemetry"},
      options.max_calls);
  collector->query_->AddTo(collector->methods_.get());
  collector->upkeep_->AddTo(collector->methods_.get());
  // HTTP first: it adds to what queries over gRPC tell.
  status = collector->ListenForHttp();
  if (status.ok()) status = collector->Listen();
  if (!status.ok()) return status;
  status = collector->PassAlertsOn();
  if (!status.ok()) return status;
  collector->keeping_thread_ =
      std::make_unique<KeepingThread>(collector->keeper_.get());
  return collector;
}

absl::Status Collector::OpenDoors() {
  const auto say = [this](const std::string& line) {
    if (options_.say) options_.say(line);
  };
  std::string tokens = options_.token_file;
  if (tokens.empty() && IsThere(TokenFileIn(options_.data_dir))) {
    tokens = TokenFileIn(options_.data_dir);
  }
  if (!tokens.empty()) {
    absl::StatusOr<std::unique_ptr<Gate>> gate =
        Gate::Create(tokens, options_.clock, say);
    if (!gate.ok()) return gate.status();
    own_gate_ = *std::move(gate);
    gate_ = own_gate_.get();
  }
  if (options_.tls.cert.empty() != options_.tls.key.empty() ||
      (options_.tls.cert.empty() && !options_.tls.client_ca.empty())) {
    return absl::InvalidArgumentError(
        "a certificate and its key go together: --tls-cert and --tls-key, and "
        "--tls-client-ca with them alone");
  }
  if (!options_.tls.empty()) {
    absl::StatusOr<std::unique_ptr<Certificates>> read =
        Certificates::Read(options_.tls, options_.clock, say);
    if (!read.ok()) return read.status();
    certificates_ = *std::move(read);
  }
  if (!options_.grpc_listen.empty()) {
    absl::StatusOr<ListenAddress> address = Permitted(options_.grpc_listen);
    if (!address.ok()) return address.status();
    address_ = *std::move(address);
  }
  if (!options_.http_listen.empty()) {
    absl::StatusOr<ListenAddress> address = Permitted(options_.http_listen);
    if (!address.ok()) return address.status();
    http_address_ = *std::move(address);
  }
  if (options_.grpc_socket.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> path =
      ParseSocketPath(options_.grpc_socket);
  return path.ok() ? PrepareSocketFolder(*path) : path.status();
}

absl::StatusOr<ListenAddress> Collector::Permitted(
    const std::string& listen) const {
  absl::StatusOr<ListenAddress> address = ParseListenAddress(listen);
  if (!address.ok() || address->IsLoopback()) return address;
  const bool tls = certificates_ != nullptr;
  if (gate_->asks() && !tls) {
    return absl::InvalidArgumentError(
        "listening on " + address->ToString() +
        ", tokens would travel unencrypted; give --tls-cert and --tls-key, or "
        "use a loopback address");
  }
  if ((!gate_->asks() || !tls) && !options_.allow_insecure) {
    return absl::InvalidArgumentError(
        "listening on " + address->ToString() +
        " would let everybody who reaches it read and write, without " +
        (tls ? "a token" : "TLS or a token") +
        "; make one with `gradtapd token create`" +
        (tls ? "" : " and give --tls-cert and --tls-key") +
        ", or use a loopback address, or --allow-insecure if that is meant");
  }
  return address;
}

void Collector::MakeIngest() {
  IngestLimits limits = options_.ingest;
  limits.hello_time = options_.handshake_time;
  limits.guards = guards();
  ingest_ = Ingest::Create(store_.get(), options_.clock, limits, gate_);
}

void Collector::ForwardSeries() {
  if (options_.remote_write.url.host.empty()) return;
  RemoteWriteOptions forward = options_.remote_write;
  forward.say = options_.say;
  remote_writer_ =
      std::make_unique<RemoteWriter>(store_.get(), std::move(forward));
}

Collector::LiveSession Collector::LiveSessions() const {
  return
      [ingest = ingest_.get()](StreamId stream) -> std::optional<std::int64_t> {
        std::optional<std::int64_t> seen = ingest->LastSeenUnixNanos(stream);
        if (!seen.has_value() && ingest->IsConnected(stream)) seen = 0;
        return seen;
      };
}

QueryEnvironment Collector::Environment() {
  QueryEnvironment environment;
  environment.store = store_.get();
  environment.clock = options_.clock;
  environment.limits = options_.query;
  environment.guards = guards();
  environment.start_time_unix_ns = options_.clock->UnixNanos();
  environment.live_session = LiveSessions();
  Ingest* const ingest = ingest_.get();
  environment.open_sessions = [ingest] { return ingest->open_sessions(); };
  environment.batches = [ingest] { return ingest->batches(); };
  environment.refused_calls = [gate = gate_] { return gate->refusals(); };
  if (certificates_ != nullptr) {
    environment.certificate_not_after_unix_s = [certificates =
                                                    certificates_.get()] {
      return certificates->Current()->not_after_unix_s;
    };
  }
  environment.keeping = [keeper = keeper_.get()](v1::KeepingStatus* status) {
    keeper->Describe(status);
  };
  if (remote_writer_ != nullptr) {
    environment.forwarded = [writer = remote_writer_.get()] {
      return writer->figures();
    };
  }
  return environment;
}

absl::Status Collector::WatchHealth() {
  HealthOptions options;
  options.rules = options_.rules;
  if (options.rules == nullptr) {
    absl::StatusOr<std::shared_ptr<const Rules>> rules =
        Rules::Create(DefaultRules());
    if (!rules.ok()) return rules.status();
    options.rules = *std::move(rules);
  }
  options.say = options_.say;
  Ingest* ingest = ingest_.get();
  absl::StatusOr<std::unique_ptr<HealthWatch>> health = HealthWatch::Start(
      store_.get(), options_.clock,
      [ingest](StreamId stream) { return ingest->IsConnected(stream); },
      std::move(options));
  if (!health.ok()) return health.status();
  health_ = *std::move(health);
  backend_->SetHealth(health_.get());
  return absl::OkStatus();
}

absl::Status Collector::PassAlertsOn() {
  const std::pair<Destination, std::string> destinations[] = {
      {Destination::kAlertmanager, options_.alertmanager},
      {Destination::kWebhook, options_.alert_webhook}};
  for (const auto& [to, text] : destinations) {
    if (text.empty()) continue;
    const absl::StatusOr<NotifyUrl> url = ParseNotifyUrl(text);
    if (!url.ok()) return url.status();
    SenderOptions options;
    options.to = to;
    options.url = *url;
    options.resend = options_.alert_resend;
    options.page = options_.page_url;
    if (options.page.empty() && http_ != nullptr) {
      options.page =
          (certificates_ == nullptr ? "http://" : "https://") + http_address();
    }
    options.say = options_.say;
    senders_.push_back(std::make_unique<AlertSender>(
        &health_->log(), options_.clock, std::move(options)));
  }
  return absl::OkStatus();
}

KeeperSurroundings Collector::Surroundings() const {
  KeeperSurroundings around;
  around.store = store_.get();
  around.clock = options_.clock;
  around.disk = [dir = options_.data_dir] { return DiskSpaceAt(dir); };
  around.live_session = LiveSessions();
  around.say = [this](const std::string& line) {
    if (options_.say) options_.say(line);
  };
  return around;
}

absl::Status Collector::BindGrpc() {
  absl::StatusOr<std::unique_ptr<GrpcListener>> bound =
      GrpcListener::Bind(*address_, &connections_);
  if (!bound.ok()) {
    return absl::UnavailableError(
        "cannot listen on " + address_->ToString() + ": " +
        std::string(bound.status().message()) +
        "; stop what uses it, or choose another with --grpc-listen (port 0: "
        "a free one)");
  }
  listener_ = *std::move(bound);
  address_->port = listener_->port();
  return absl::OkStatus();
}

absl::Status Collector::Listen() {
  if (address_.has_value()) {
    if (absl::Status bound = BindGrpc(); !bound.ok()) return bound;
  }
  grpc::ServerBuilder builder;
  ApplyLimits(options_, &builder);
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor;
  if (address_.has_value()) {
    const DoorKind kind = certificates_ != nullptr ? DoorKind::kTls
                          : address_->IsLoopback() ? DoorKind::kLoopback
                                                   : DoorKind::kPlain;
    credentials_.push_back(MakeCredentials(kind, certificates_.get(), gate_));
    acceptor = builder.experimental().AddExternalConnectionAcceptor(
        grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD,
        credentials_.back());
  }
  if (!options_.grpc_socket.empty()) {
    credentials_.push_back(MakeCredentials(DoorKind::kUnix, nullptr, gate_));
    builder.AddListeningPort(options_.grpc_socket, credentials_.back());
  }
  builder.RegisterService(ingest_->service());
  builder.RegisterCallbackGenericService(methods_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::UnavailableError(
        "cannot listen on " +
        (address_.has_value() ? address_->ToString() : options_.grpc_socket));
  }
  if (listener_ != nullptr) listener_->Start(std::move(acceptor));
  return absl::OkStatus();
}

absl::Status Collector::ListenForHttp() {
  if (!http_address_.has_value()) return absl::OkStatus();
  HttpOptions options;
  options.listen = *http_address_;
  options.names = options_.http_names;
  options.connections = options_.http_connections;
  options.max_live_streams = options_.max_live_streams;
  options.heartbeat = options_.http_heartbeat;
  options.metrics = options_.metrics;
  options.gate = gate_;
  options.open_metrics = options_.open_metrics;
  options.certificates = certificates_.get();
  absl::StatusOr<std::unique_ptr<HttpServer>> http =
      HttpServer::Start(std::move(options), backend_.get());
  if (!http.ok()) return http.status();
  http_ = *std::move(http);
  return absl::OkStatus();
}

std::string Collector::grpc_address() const {
  return address_.has_value() ? address_->ToString() : options_.grpc_socket;
}

std::string Collector::http_address() const {
  return http_ == nullptr ? "" : http_->address().ToString();
}

namespace {

ConnectionCaps Granted(const CollectorOptions& options) {
  ConnectionCaps caps = options.connections;
  caps.connections = GrantedConnections(caps.connections);
  // Well before gRPC ends calls by itself.
  caps.held_in_all = std::max(caps.held_bytes, options.grpc_memory / 4);
  caps.of_a_client = std::min(caps.of_a_client, caps.connections);
  return caps;
}

}  // namespace

Collector::Collector(const CollectorOptions& options)
    : options_(options),
      rate_(options.requests, options.clock, &refused_),
      connections_(Granted(options), options.clock, &Sockets::OfTheSystem(),
                   &refused_) {}

Guards Collector::guards() {
  return {&refused_, &rate_, &connections_, &answers_};
}

Collector::~Collector() { Shutdown(); }

void Collector::Shutdown() {
  keeping_thread_ = nullptr;
  if (health_ != nullptr) health_->BeginShutdown();
  senders_.clear();
  if (http_ != nullptr) http_->BeginShutdown();
  if (server_ != nullptr) {
    methods_->StopServing();
    ingest_->Drain(std::chrono::steady_clock::now() + options_.drain_timeout);
    query_->Shutdown(std::chrono::steady_clock::now() + options_.drain_timeout);
    upkeep_->Shutdown(std::chrono::steady_clock::now() +
                      options_.drain_timeout);
    // All calls have ended, or had their time. What is left is the last bytes
    // and connections without a call, whose clients may take seconds to notice.
    if (listener_ != nullptr) listener_->Stop();
    server_->Shutdown(std::chrono::system_clock::now() + kLastBytes);
    server_->Wait();
    server_ = nullptr;
  }
  listener_ = nullptr;
  http_ = nullptr;
  methods_ = nullptr;
  upkeep_ = nullptr;
  query_ = nullptr;
  backend_ = nullptr;
  remote_writer_ = nullptr;
  health_ = nullptr;
  keeper_ = nullptr;
  ingest_ = nullptr;
  store_ = nullptr;
}

}  // namespace gradtap::server
