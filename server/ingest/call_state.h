// One call of Telemetry.Session without its gRPC: the session, its place in the
// table of live ones, what waits to be sent, and what to do next.
//
// Its driver tells what happened, then does what Next() says. Answers of the
// committer come back through the driver, too, which decides on which thread.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_CALL_STATE_H_
#define GRADTAP_SERVER_INGEST_CALL_STATE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/clock.h"
#include "server/ingest/hello.h"
#include "server/ingest/ingest_session.h"
#include "server/ingest/live_sessions.h"

namespace gradtap::server {

// [Threading] One thread at a time. No call waits.
class CallState {
 public:
  // Begins the work that the committer does; its answer is OnOpened() or
  // OnCommitted(), not from within.
  using OpenFn = std::function<void(StreamHello)>;
  using CommitFn = std::function<void(std::unique_ptr<ValidatedBatch>)>;

  // `live` and `clock` must outlive it.
  CallState(const IngestLimits& limits, LiveSessions* live, const Clock* clock,
            OpenFn open, CommitFn commit);

  // ---- From the peer; each but the last two is one message read.
  void OnHello(const HelloUntrusted& hello_untrusted);
  void OnBatch(std::uint64_t first_seq, std::uint32_t record_count,
               std::string_view frame_untrusted);
  void OnHeartbeat();
  void OnBye();
  void OnUnknownMessage();
  void OnHalfClose();
  void OnGone();  // Cancelled or lost: nothing can be sent.

  // ---- From the collector.
  void OnWritten(bool ok);  // The write that Next() asked for.
  void OnOpened(const absl::StatusOr<OpenedStream>& opened);
  void OnCommitted(std::uint64_t last_seq, std::size_t bytes,
                   std::vector<RejectedRecord> rejected,
                   const absl::Status& status);
  void OnTick();
  void OnDrain();
  // The peer may not write, or may no more: the call ends with that. What has
  // been read is committed.
  void OnForbidden(const absl::Status& why);

  // What to start now, all of it. At most one read and one write are under way
  // at a time; after `finish`, nothing.
  struct Operations {
    std::optional<SessionOut> write;
    bool read = false;
    std::optional<absl::Status> finish;
  };
  Operations Next();

 private:
  using TimePoint = IngestSession::TimePoint;

  TimePoint Received();  // Of one message; now.
  void Perform(SessionActions actions);
  void Open(StreamHello hello);
  void Queue(SessionOut out);
  // True while a peer that does not read its Acks is not to be read either.
  bool OutboxIsLong() const;
  // True while all sessions together hold too much: then this one is not read
  // before its own batches are durable.
  bool WaitsForOthers() const;

  const IngestLimits limits_;
  LiveSessions* const live_sessions_;
  const Clock* const clock_;
  const OpenFn open_;
  const CommitFn commit_;

  IngestSession session_;
  std::shared_ptr<LiveStream> live_;  // Null before admission.
  std::deque<SessionOut> outbox_;
  std::optional<absl::Status> finish_;
  bool reading_ = false;
  bool writing_ = false;
  bool gone_ = false;
  bool finish_started_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_CALL_STATE_H_
