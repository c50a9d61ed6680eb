// The agent's side of gradtap.v1.Telemetry as a state machine.
//
//   kIdle --first record--> kConnecting --connected, Welcome--> kStreaming
//   any live state --call ended--> kBackoff --full jitter--> kConnecting
//   kConnecting --Reject without retry, or a stream that is not ours-->
//   kRefused kStreaming --drained, Bye, call ended--> kFinished
//
// It holds no thread, no socket and no clock of its own: the driver tells what
// happened, then performs what Next() asks for until it asks for nothing.
//
// Layer: agent/delivery. This file: std, absl, core, agent/spool, *.pb.h; no
// grpc.

#ifndef GRADTAP_AGENT_DELIVERY_SESSION_H_
#define GRADTAP_AGENT_DELIVERY_SESSION_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "agent/delivery/books.h"
#include "agent/delivery/freed_history.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/record_source.h"
#include "agent/spool/hole.h"
#include "agent/spool/kept_schema.h"
#include "agent/spool/segment.h"
#include "core/clock.h"
#include "gradtap/v1/telemetry.pb.h"

namespace gradtap::agent {

// Whose records these are, and how they are delivered. `collector` is the one
// that is dialled, for messages.
struct SessionOptions : SpoolIdentity {
  // The records are what a process has left that lives no more: the collector
  // may have more than is at hand here.
  bool leftovers = false;
  // The collector expects records that are older than those at hand. True:
  // nobody has them, and what is remembered of them, or nothing, goes in their
  // place. False: somebody else may have them, and the session is refused.
  bool fill_holes = true;
  // Where somebody else has them, as far as is known; for messages.
  std::string holes_in;
  // Nobody has them, nor is remembered what they were: what goes in their place
  // ends with what RecordOfHole() tells.
  bool declare_holes = false;
  // The newest before the records at hand: sent if the collector lacks it.
  KeptSchema schema;
  // Of leftovers. The collector has nothing of the process, and steps refer to
  // a schema that is not at hand. False: the session is refused. True: the
  // steps are given up, and each is told as a gap.
  bool without_schema = false;
  // False for a collector on this machine (StoreFrame()).
  bool compress = true;

  std::chrono::milliseconds connect_timeout{20'000};  // Until the Welcome.
  std::chrono::milliseconds ack_timeout{30'000};
  std::chrono::milliseconds heartbeat{10'000};
  // Batches that are neither large nor in a hurry are at least so far apart:
  // each costs the machine, and thus the training, more than its bytes do.
  std::chrono::milliseconds linger{500};
  // The delay before try n is uniform in [0, min(max, base * 2^n)].
  std::chrono::milliseconds backoff_base{500};
  std::chrono::milliseconds backoff_max{30'000};
  // The same after a TLS handshake that failed: it will fail again until
  // somebody puts that right, and gRPC writes a line to the job's standard
  // error each time.
  std::chrono::milliseconds backoff_max_tls{120'000};
};

enum class SessionState {
  kIdle,
  kBackoff,
  kConnecting,
  kStreaming,
  kRefused,
  kFinished,
};

// [Threading] One thread: the source's.
class Session {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  struct Action {
    enum class Kind { kConnect, kSend, kHalfClose, kCancel };
    Kind kind = Kind::kConnect;
    v1::AgentMessage message;  // kSend.
    std::string reason;        // kCancel; for people.
  };

  // Pointers must outlive it. `uniform` gives numbers in [0, 1).
  Session(SessionOptions options, RecordSource* source, Books* books,
          const Clock* clock, OnceLog* log, std::function<double()> uniform);

  // ---- What happened. Anything may come at any time, from any peer.

  void OnConnected();
  void OnMessage(const v1::CollectorMessage& message_untrusted);
  void OnSent();  // The write that the last kSend or kHalfClose began is done.
  void OnClosed(const absl::Status& status);
  // Once all at hand is acknowledged, says Bye and ends the call. For good.
  void BeginDrain();
  // Somebody waits for acknowledgements: do not linger while that is so.
  void SetHurry(bool hurry) { hurry_ = hurry; }

  // ---- What to do.

  // The next thing to do now, or nothing. At most one write is in flight: no
  // kSend before OnSent().
  std::optional<Action> Next();
  // When Next() may have something to do though nothing happens.
  TimePoint NextDeadline() const;

  SessionState state() const { return state_; }
  bool finished() const {
    return state_ == SessionState::kFinished ||
           (draining_ && state_ == SessionState::kRefused && !call_open_);
  }
  // The record that is to be sent next, or tells what is, if it cannot be read:
  // nothing goes on until it can.
  std::optional<std::uint64_t> unreadable() const {
    if (!unreadable_) return std::nullopt;
    return unreadable_seq_;
  }
  // Of leftovers: how many are given up (SessionOptions::without_schema).
  std::uint64_t steps_without_schema() const { return steps_without_schema_; }
  // All that was admitted is acknowledged.
  bool drained() const { return source_->first_seq() > source_->last_seq(); }

 private:
  struct InFlight {
    std::uint64_t last_seq = 0;
    std::size_t bytes = 0;
  };

  void OnWelcome(const v1::Welcome& welcome_untrusted);
  void OnReject(const v1::Reject& reject_untrusted);
  void OnAck(const v1::Ack& ack_untrusted);
  void MarkRejections(const v1::Ack& ack_untrusted, std::uint64_t durable);
  void FreeThrough(std::uint64_t durable);
  void Progress();  // The peer is alive and takes what is sent.
  void Refuse(const std::string& key, const std::string& why);
  void BreakOff(const std::string& key, const std::string& why);
  void StartBackoff();
  const char* TriedAgain() const;

  std::optional<Action> NextWhileStreaming(TimePoint now);
  Action Send(v1::AgentMessage message, TimePoint now);
  v1::AgentMessage MakeHello() const;
  v1::AgentMessage MakeHeartbeat() const;
  // False while a batch had better grow.
  bool WorthSending(TimePoint now);
  // False if there is nothing to send, or no credit for it.
  bool MakeBatch(v1::AgentMessage* message);
  // Fills `content` from send_next_ on; returns the number of records.
  // `at_least_one`: the first one goes, however large it is.
  std::uint32_t FillContent(std::size_t max_bytes, bool at_least_one,
                            std::string* content);
  // Where the loop stood at known_from_. False: that cannot be read now.
  bool FindHoleNext();
  // Of the next record from there on, freed or at hand. True: no more is
  // needed.
  bool NoteHoleNext(const EntryMeta& meta);
  // What stands in the hole at `seq`, as far as that is known.
  std::string InHole(std::uint64_t seq) const;
  // Whether the first step at hand refers to options_.schema, if that can be
  // told: a newer one may not have been kept.
  bool SchemaFits();
  // How many steps at hand come before the first schema there, and where that
  // is. If they are not given up: whether there are any. False: the first
  // record at hand cannot be read now.
  bool FindSchema();
  // What goes in place of a step that is given up, or of a part of one.
  static std::string GivenUp(const EntryMeta& meta);
  void Say(const std::string& key, const std::string& what);

  const SessionOptions options_;
  RecordSource* const source_;
  Books* const books_;
  const Clock* const clock_;
  OnceLog* const log_;
  const std::function<double()> uniform_;
  // The first seq at hand when the session began: of those before it nothing is
  // remembered but the schema of the options.
  const std::uint64_t known_from_;

  SessionState state_ = SessionState::kIdle;
  FreedHistory history_;
  // The first seq of the hole before known_from_; 0: there is none.
  std::uint64_t hole_from_ = 0;
  bool hole_next_read_ = false;
  std::optional<LoopPlace> hole_next_;
  std::uint64_t sent_ = 0;        // Highest seq, in any call.
  std::uint64_t schema_seq_ = 0;  // Steps before it have none.
  std::uint64_t steps_without_schema_ = 0;
  int failures_ = 0;  // Calls in a row without progress.
  TimePoint dial_at_;
  bool draining_ = false;
  bool hurry_ = false;
  std::optional<TimePoint> last_batch_;  // Sent, in any call.

  // Of the call that is open.
  bool call_open_ = false;
  bool connected_ = false;
  bool hello_sent_ = false;
  bool bye_sent_ = false;
  bool half_closed_ = false;
  bool write_in_flight_ = false;
  bool cancel_wanted_ = false;
  bool said_away_ = false;    // And not yet that it is back.
  bool tls_failed_ = false;   // At the last try.
  bool run_deleted_ = false;  // And the collector is not past that yet.
  bool cancelled_ = false;
  std::string cancel_reason_;
  TimePoint connect_started_;
  TimePoint last_progress_;
  TimePoint streaming_since_;
  TimePoint half_closed_at_;
  TimePoint last_sent_;
  std::uint64_t credit_bytes_ = 0;
  std::size_t max_batch_bytes_ = 0;
  std::deque<InFlight> in_flight_;
  std::size_t in_flight_bytes_ = 0;
  std::uint64_t send_next_ = 0;     // Seq.
  std::uint64_t sent_in_call_ = 0;  // Highest seq.
  bool filled_in_call_ = false;     // A batch was made, or tried.
  bool unreadable_ = false;         // That of unreadable_seq_.
  std::uint64_t unreadable_seq_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_SESSION_H_
