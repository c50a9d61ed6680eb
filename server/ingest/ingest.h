// The collector's door for records: what the query side may know of it.
//
// Layer: server/ingest. This file: std, core, auth, limits; no grpc.

#ifndef GRADTAP_SERVER_INGEST_INGEST_H_
#define GRADTAP_SERVER_INGEST_INGEST_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "core/clock.h"
#include "core/names.h"
#include "server/auth/gate.h"
#include "server/limits/guards.h"
#include "server/store/store.h"

namespace grpc {
class Service;
}  // namespace grpc

namespace gradtap::server {

struct IngestLimits {
  std::uint32_t max_parameters = 100'000;        // Of a schema.
  std::uint32_t max_name_bytes = kMaxNameBytes;  // Of a parameter.
  std::uint64_t max_schema_bytes = 32u << 20;    // Encoded.
  std::uint64_t max_step_bytes = 256u << 20;     // Encoded, joined from parts.
  std::uint32_t max_runs = 1'000;
  std::uint32_t max_streams = 100'000;  // Of all runs; each is in memory.
  // What they take of it, with tags and branches; one run a quarter. More by
  // 2,560 for each stream that may be stored beyond 100,000.
  std::uint64_t stream_bytes = 256u << 20;
  std::uint32_t max_sessions = 2'048;
  std::uint64_t credit_bytes = 8u << 20;  // Per session, unacknowledged.
  // Of all sessions: with more each has one batch at a time, with twice as much
  // none is read.
  std::uint64_t pending_bytes = 256u << 20;
  // Of a client's sessions: records that are joined from parts, until they are
  // durable. A quarter more of all.
  std::uint64_t join_bytes = 256u << 20;
  std::uint32_t max_batch_bytes = 2u << 20;
  // From a call's beginning to its Hello; between two messages: three
  // heartbeats.
  std::chrono::milliseconds hello_time{10'000};
  std::chrono::milliseconds idle_time{30'000};
  Guards guards;
};

// Owns the sessions and the thread that commits. Thread-safe.
class Ingest {
 public:
  // All three must outlive it. `gate`: who may write to which run.
  static std::unique_ptr<Ingest> Create(Store* store, const Clock* clock,
                                        IngestLimits limits = {},
                                        Gate* gate = Gate::Open());
  virtual ~Ingest() = default;

  // gradtap.v1.Telemetry, to be registered with a gRPC server.
  virtual grpc::Service* service() = 0;

  // True while the stream has a live session.
  virtual bool IsConnected(StreamId stream) const = 0;
  virtual std::uint32_t open_sessions() const = 0;
  // When the stream's live session last said anything, a heartbeat included;
  // empty without one: StreamEntry::last_seen_unix_ns holds then.
  virtual std::optional<std::int64_t> LastSeenUnixNanos(
      StreamId stream) const = 0;
  // Batches received since Create(), duplicates included. Only grows.
  virtual std::uint64_t batches() const = 0;

  // Refuses new sessions (Reject UNAVAILABLE), commits and acknowledges what
  // has been received, then ends the sessions. Returns when all have ended or
  // at the deadline. Call before grpc::Server::Shutdown().
  virtual void Drain(std::chrono::steady_clock::time_point deadline) = 0;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_INGEST_H_
