// The collector's side of gradtap.v1.Telemetry as a state machine.
//
//   kHello --Hello--> kOpening --opened--> kStreaming --half-close--> kEnding
//   kEnding --all that was received is committed--> kFinished
//   kHello, kOpening --refused--> kFinished
//   kStreaming --collector drains--> kEnding
//   any --peer gone, a call that is out of order, a failed commit--> kFinished
//
// It holds no thread, no lock, no clock and no socket: its driver tells what
// happened and does what the returned actions ask for, in their order.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_INGEST_SESSION_H_
#define GRADTAP_SERVER_INGEST_INGEST_SESSION_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/ingest/hello.h"
#include "server/ingest/ingest.h"
#include "server/ingest/validate.h"

namespace gradtap::server {

// Values are the wire's (gradtap.v1.Reject.Code).
enum class RejectCode : std::uint8_t {
  kInvalid = 1,
  kVersion = 2,
  kDuplicate = 4,
  kLimit = 5,
  kUnavailable = 6,
};

struct WelcomeOut {
  std::uint32_t attempt = 0;
  std::uint64_t next_seq = 0;
  std::int64_t last_step_of_run = -1;
};
struct RejectOut {
  RejectCode code = RejectCode::kInvalid;
  bool retry = false;
  std::string detail;
};
struct AckOut {
  std::uint64_t durable_seq = 0;
  std::vector<RejectedRecord> rejected;
};
using SessionOut = std::variant<WelcomeOut, RejectOut, AckOut>;

// What the driver is to do.
struct SessionActions {
  // Find or create the stream, then call OnOpened() or OnRefused().
  std::optional<StreamHello> open;
  // Commit, then call OnCommitted() with its commit's last_seq.
  std::unique_ptr<ValidatedBatch> commit;
  // Send these.
  std::vector<SessionOut> send;
  // Then end the call with this status. Nothing comes after it.
  std::optional<absl::Status> finish;
};

class IngestSession {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  IngestSession(const IngestLimits& limits, TimePoint now);

  // ---- From the peer.
  SessionActions OnHello(const HelloUntrusted& hello_untrusted, TimePoint now);
  // The frame is borrowed for the call.
  SessionActions OnBatch(std::uint64_t first_seq, std::uint32_t record_count,
                         std::string_view frame_untrusted,
                         std::int64_t now_unix_ns, TimePoint now);
  SessionActions OnHeartbeat(TimePoint now);
  SessionActions OnBye(TimePoint now);
  SessionActions OnUnknownMessage(TimePoint now);
  SessionActions OnHalfClose();
  // The connection is lost, or the call cancelled: nothing can be sent.
  SessionActions OnGone();

  // ---- From the collector.
  SessionActions OnOpened(const OpenedStream& opened, TimePoint now);
  SessionActions OnRefused(RejectCode code, std::string detail);
  SessionActions OnCommitted(std::uint64_t last_seq, std::size_t bytes,
                             std::vector<RejectedRecord> rejected,
                             const absl::Status& status, TimePoint now);
  SessionActions OnDrain();
  // At any time; ends the session that has been silent for too long. One that
  // waits for the store is not.
  SessionActions OnTick(TimePoint now);

  // True while the next message is to be read. It is not while what has been
  // received and is not durable yet exceeds the credit: the peer then waits for
  // the window of its connection.
  bool wants_read() const;

  // What a batch of so many records makes of an unfinished record, at most: it
  // is joined if they end it. 0: they do not.
  std::uint64_t BytesIfEndsWithin(std::uint64_t records) const;

  bool finished() const { return phase_ == Phase::kFinished; }
  std::uint64_t durable_seq() const { return durable_seq_; }
  std::size_t pending_bytes() const { return pending_bytes_; }

 private:
  enum class Phase { kHello, kOpening, kStreaming, kEnding, kFinished };

  SessionActions Finish(absl::Status status);
  SessionActions Refuse(RejectCode code, std::string detail);
  SessionActions OutOfOrder(std::string_view what);

  const IngestLimits limits_;
  Phase phase_ = Phase::kHello;
  TimePoint last_activity_;
  std::optional<StreamValidator> validator_;
  std::uint64_t durable_seq_ = 0;
  std::size_t pending_batches_ = 0;
  std::size_t pending_bytes_ = 0;
  absl::Status ending_status_;  // With which kEnding ends.
};

// What a batch counts for against the credit: all that it takes until it is
// durable, decoded, and the keys that the store writes for it.
std::size_t BytesHeld(const ValidatedBatch& batch);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_INGEST_SESSION_H_
