// One call of Telemetry.Session without its gRPC: the session, its place in the
// table of live ones, what waits to be sent, and what to do next.
//
// Its driver tells what happened, then does what Next() says. Answers of the
// committer come back through the driver, too, which decides on which thread.
//
// A peer may leave its window shut, and then no write ever ends, nor the call
// behind it. So a write has a time, and who is sent away while one has not left
// is cut off: nobody keeps a place that way.
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
#include <string>
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

  // `live` and `clock` must outlive it. `client`: whose call it is; empty: not
  // known.
  CallState(const IngestLimits& limits, LiveSessions* live, const Clock* clock,
            OpenFn open, CommitFn commit, std::string client = "");

  // ---- From the peer; each but the last two is one message read. A batch that
  // ends a record in parts waits for the room to join it, until a tick finds
  // it; where too much waits, the call ends UNAVAILABLE.
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
  void OnTick();  // Also of a call that ends.
  void OnDrain();
  // The peer may not write, or may no more: the call ends with that. What has
  // been read is committed.
  void OnForbidden(const absl::Status& why);

  // What to start now, all of it. At most one read and one write are under way
  // at a time; after `finish`, nothing.
  struct Operations {
    // The call ends, and counts no more: said once, however long what is still
    // to be sent takes (LiveSessions::EndCall()).
    bool ends = false;
    // The peer does not take what is being written: the call is to be
    // cancelled, so that OnWritten() comes. Said once, before `finish`.
    bool cancel = false;
    std::optional<SessionOut> write;
    bool read = false;
    std::optional<absl::Status> finish;
  };
  Operations Next();

 private:
  using TimePoint = IngestSession::TimePoint;

  struct WaitingBatch {
    std::uint64_t first_seq = 0;
    std::uint32_t record_count = 0;
    std::string frame_untrusted;
    std::unique_ptr<JoinRoom::Place> place;
  };

  TimePoint Received();  // Of one message; now.
  void Take(std::uint64_t first_seq, std::uint32_t record_count,
            std::string_view frame_untrusted,
            std::unique_ptr<JoinRoom::Place> place);
  void TakeWaiting();
  // Its client's sessions have more waiting than is held for them: the call
  // ends, and the agent comes again with what is not durable.
  void TooManyWait();
  void Perform(SessionActions actions);
  // Of a call that ends for its peer's sake.
  void CutOff(SessionActions end);
  // What has been written for too long never leaves.
  void CheckWrite();
  void Open(StreamHello hello);
  void RefuseOneMore(const char* what, std::uint32_t most);
  void Queue(SessionOut out);
  // True while a peer that does not read its Acks is not to be read either.
  bool OutboxIsLong() const;
  // True while all sessions together hold too much: then this one is not read
  // before its own batches are durable, and with twice that not even if it has
  // none, until a tick finds less (sessions come and go, their batches stay).
  bool WaitsForOthers() const;

  const IngestLimits limits_;
  LiveSessions* const live_sessions_;
  const Clock* const clock_;
  const OpenFn open_;
  const CommitFn commit_;
  const std::string client_;

  IngestSession session_;
  std::shared_ptr<LiveStream> live_;  // Null before admission.
  std::optional<WaitingBatch> waiting_;
  std::deque<SessionOut> outbox_;
  std::optional<absl::Status> finish_;
  bool reading_ = false;
  bool writing_ = false;
  TimePoint writing_since_;
  bool gone_ = false;
  bool ends_told_ = false;
  bool stuck_ = false;        // The call is to be cancelled,
  bool cancel_told_ = false;  // and has been.
  bool finish_started_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_CALL_STATE_H_
