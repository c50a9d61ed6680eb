// The collector in one object: store, ingest, queries and its two servers.
//
// Layer: server/service. This file: std, absl, store, ingest and query headers;
// gRPC's types by name only.

#ifndef GRADTAP_SERVER_SERVICE_COLLECTOR_H_
#define GRADTAP_SERVER_SERVICE_COLLECTOR_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/clock.h"
#include "server/auth/certificates.h"
#include "server/auth/gate.h"
#include "server/forward/remote_writer.h"
#include "server/health/rules.h"
#include "server/http/http_limits.h"
#include "server/ingest/ingest.h"
#include "server/keeping/retention.h"
#include "server/limits/connection_table.h"
#include "server/limits/guards.h"
#include "server/limits/limit_counters.h"
#include "server/limits/request_rate.h"
#include "server/query/row_reader.h"
#include "server/service/listen_address.h"
#include "server/store/store.h"

namespace grpc {
class Server;
class ServerCredentials;
}  // namespace grpc

namespace gradtap::server {

class AlertSender;
class GrpcListener;
class HealthWatch;
class HttpServer;
class Keeper;
struct KeeperSurroundings;
class KeepingThread;
class Methods;
class QueryBackend;
struct QueryEnvironment;
class QueryService;
class UpkeepService;

struct CollectorOptions {
  std::string data_dir;
  // Where backups go, as BackupFolder() (upkeep_service.h) takes it.
  std::string backup_dir;
  // HOST:PORT; port 0: a free one. Empty: grpc_socket alone.
  std::string grpc_listen = "127.0.0.1:7317";
  // "unix:PATH", for agents and clients on this machine; empty: none.
  std::string grpc_socket;
  // The same for the API and the page; empty: no HTTP.
  std::string http_listen;
  // What it may be called in a URL besides its address and localhost.
  std::vector<std::string> http_names;
  ConnectionLimits http_connections;
  // After which a live stream without an event says that it is there.
  std::chrono::milliseconds http_heartbeat{10'000};
  // For both doors but the socket; empty: in the clear.
  CertificateFiles tls;
  // Whose tokens let callers in. Empty: 'tokens' of the data folder, if it is
  // there; else nobody is asked for one.
  std::string token_file;
  // Lets everybody have /metrics, without a token.
  bool open_metrics = false;
  // Permits an address that others can reach without TLS and tokens.
  bool allow_insecure = false;
  IngestLimits ingest;
  QueryLimits query;
  std::uint32_t max_watches = 64;
  // Of one gRPC connection, at a time; HTTP/2's recommended minimum.
  std::uint32_t max_streams = 100;
  // Open at a time, besides those of agents and of who watches; of one client
  // three quarters of them.
  std::uint32_t max_calls = 1'024;
  // Of gRPC's buffers in all. At that bound gRPC ends calls, whoever's they
  // are; what connections may hold is well below it.
  std::uint64_t grpc_memory = std::uint64_t{512} << 20;
  ConnectionCaps connections;  // Of gRPC's port.
  RateLimit requests;          // Of each client, over both doors.
  AnswerCaps answers;          // Large ones, over both doors.
  // Until a connection has said what it speaks, a session its Hello, and a call
  // its request.
  std::chrono::milliseconds handshake_time{10'000};
  std::uint32_t max_live_streams = 32;  // Over HTTP.
  std::uint32_t query_threads = 2;
  // How long Shutdown() waits for sessions, and again for calls.
  std::chrono::milliseconds drain_timeout{5'000};
  // Health rules; null: the defaults.
  std::shared_ptr<const Rules> rules;
  // Where alerts are passed on to, as ParseNotifyUrl() takes it; empty:
  // nowhere.
  std::string alertmanager;
  std::string alert_webhook;
  // After which Alertmanager hears again of what is active.
  std::chrono::milliseconds alert_resend{60'000};
  // Before the links in alerts; empty: http:// and the HTTP address.
  std::string page_url;
  // Series for another store; without a host nothing is forwarded.
  RemoteWriteOptions remote_write;
  // What /metrics has of parameters.
  MetricSelection metrics;
  // What is kept for how long, and what is left of the disk.
  KeepingLimits keeping;
  // One line for whoever operates it: what was removed, and why. Any thread;
  // may be unset.
  std::function<void(const std::string& line)> say;
  const Clock* clock = &RealClock();
};

// Start() and Shutdown() by one thread; the rest is thread-safe.
class Collector {
 public:
  // Opens the store and listens. kInvalidArgument: malformed or not permitted
  // address, a certificate that cannot be used, or a folder for backups within
  // that of the data; tokens and socket as ReadTokenFile() and
  // PrepareSocketFolder() have it; kUnavailable: an address
  // cannot be listened on, with the system's reason; else as
  // OpenRocksdbStore().
  static absl::StatusOr<std::unique_ptr<Collector>> Start(
      const CollectorOptions& options);

  // As Shutdown().
  ~Collector();
  Collector(const Collector&) = delete;
  Collector& operator=(const Collector&) = delete;

  // Health turns NOT_SERVING; the sessions' records are committed and
  // acknowledged; watches and calls end; the store closes. Takes at most about
  // twice drain_timeout. Idempotent.
  void Shutdown();

  // Where it listens, with the real port.
  std::string grpc_address() const;
  // Empty: no HTTP.
  std::string http_address() const;
  Store& store() { return *store_; }  // Not after Shutdown().
  Ingest& ingest() { return *ingest_; }

 private:
  using LiveSession =
      std::function<std::optional<std::int64_t>(StreamId stream)>;

  explicit Collector(const CollectorOptions& options);

  Guards guards();
  // Tokens and certificates, and whether it may listen where it is to.
  absl::Status OpenDoors();
  absl::StatusOr<ListenAddress> Permitted(const std::string& listen) const;
  void MakeIngest();
  // To another store, if there is to be one.
  void ForwardSeries();
  absl::Status WatchHealth();
  absl::Status PassAlertsOn();
  absl::Status Listen();
  // A socket of our own for gRPC, which Listen() gives to its server.
  absl::Status BindGrpc();
  absl::Status ListenForHttp();
  // Tells when the live session of a stream last said anything; 0: not yet.
  LiveSession LiveSessions() const;
  KeeperSurroundings Surroundings() const;
  // What queries are answered from. Uses ingest, keeper and remote writer.
  QueryEnvironment Environment();

  const CollectorOptions options_;
  std::unique_ptr<Gate> own_gate_;  // Null: gate_ lets everybody in.
  Gate* gate_ = Gate::Open();
  std::unique_ptr<Certificates> certificates_;  // Null: no TLS.
  LimitCounters refused_;
  RequestRate rate_;
  AnswerRoom answers_{&refused_, options_.answers};
  ConnectionTable connections_;
  std::optional<ListenAddress> address_;
  std::optional<ListenAddress> http_address_;  // As asked for.
  // In the order of their lives: each uses those above.
  std::unique_ptr<Store> store_;
  std::unique_ptr<Ingest> ingest_;
  std::unique_ptr<Keeper> keeper_;
  std::unique_ptr<HealthWatch> health_;
  std::unique_ptr<RemoteWriter> remote_writer_;
  std::unique_ptr<QueryBackend> backend_;
  std::unique_ptr<QueryService> query_;
  std::unique_ptr<UpkeepService> upkeep_;
  std::unique_ptr<Methods> methods_;
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials_;
  std::unique_ptr<GrpcListener> listener_;  // Null: a socket alone.
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<KeepingThread> keeping_thread_;
  std::vector<std::unique_ptr<AlertSender>> senders_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_COLLECTOR_H_
