// From the training thread to the collector: admission, ring, session, network.
//
// The training thread hands over one step at a time. It is encoded into a
// bounded ring and given its seq there; when there is no room the step is
// refused and counted, and a gap record tells of it as soon as there is room.
// A thread of delivery's own sends what stands in the ring, connects again for
// ever, and frees a record when the collector has acknowledged it.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_DELIVERY_H_
#define GRADTAP_AGENT_DELIVERY_DELIVERY_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Plain data, checked and completed by the caller (agent.cc).
struct DeliveryOptions {
  // "HOST:PORT" or "unix:/PATH". Offline, it is noted in the spool; empty: any.
  std::string collector;
  std::string run;
  std::string launch;  // Empty: the process nonce, in hex.
  std::uint32_t rank = 0;
  std::uint32_t world_size = 1;
  std::map<std::string, std::string> tags;
  std::string torch_version;
  std::uint64_t ring_bytes = 64u << 20;
  // Where the ring's file is made, which survives the process (ring_folder.h).
  // Empty, or where none can be made: the ring is memory; the latter is said
  // with the first step.
  std::string ring_folder;
  // The folder below which each process has its spool, made when it is needed.
  // Empty: none; what has no place in the ring is lost, and what is at hand
  // when the process ends is too.
  std::string spool_folder;
  std::uint64_t spool_bytes = std::uint64_t{1} << 30;
  // Dials nobody: everything goes to the spool. Needs spool_folder.
  bool offline = false;
  bool tls = false;
  std::string tls_ca_file, tls_cert_file, tls_key_file;
  std::string token;
  // Read again for each connection, instead of `token`; empty: that stays.
  std::string token_file;
  bool use_proxy = false;
  // Set: SIGTERM ends the stream as STOPPED, which is delivered for at most so
  // long (stop_signal.h). A thread waits for it, from Create() on.
  std::optional<std::chrono::milliseconds> sigterm_deadline;
  // One line for a person; each distinct problem once. [Threading] delivery's
  // thread or the caller's, not after the destructor has returned (which waits
  // 1 s for a call under way). [Locking] none held. [Exceptions] must not
  // throw.
  std::function<void(const std::string& message)> log;
  // The same for what is no problem: how long the collector may be away.
  std::function<void(const std::string& message)> note;
};

// seen = recorded + skipped + lost, at every moment. Each counter only grows,
// but for steps_recorded: a record that the collector refuses for good moves
// from there to steps_lost (kRejected).
struct DeliveryCounters {
  std::uint64_t steps_seen = 0;
  std::uint64_t steps_recorded = 0;  // Admitted to the ring with statistics.
  std::uint64_t steps_skipped = 0;
  std::uint64_t steps_lost = 0;
  std::uint64_t steps_acknowledged = 0;        // Of the recorded ones.
  std::map<GapCause, std::uint64_t> by_cause;  // Skipped and lost steps.
  std::uint64_t bytes_recorded = 0;
  std::uint64_t bytes_acknowledged = 0;
};

enum class DeliveryState {
  kIdle,
  kConnecting,
  kStreaming,
  kRefused,
  kStopped,
  kOffline,
};

struct FlushOutcome {
  bool delivered = false;
  std::uint64_t undelivered_steps = 0;
  std::uint64_t undelivered_bytes = 0;
  // After Shutdown(): they stand in the spool or the ring's file, for the next
  // agent or `gradtap drain` to deliver.
  bool kept = false;
};

// [Threading] Put*(), Rollback() and Shutdown(): one thread at a time (the
// training loop's). The rest: any thread. In a forked child all calls return
// at once and do nothing.
class Delivery {
 public:
  // Allocates the ring. Starts no thread and opens no socket: the first Put
  // does. kInvalidArgument names the option that is wrong (a token for another
  // machine without TLS,
  // an unreadable certificate, an address that cannot be one).
  static absl::StatusOr<std::unique_ptr<Delivery>> Create(
      DeliveryOptions options);

  virtual ~Delivery() = default;

  // The table that later steps refer to, by schema.schema_id. Copied. If the
  // ring has no room it is kept and admitted before the next step.
  virtual void PutSchema(const Schema& schema) noexcept = 0;

  // Encodes into the ring: no lock, no system call, no allocation for a step
  // that fits in one record. A step with `skipped` set counts as skipped. If
  // there is no room the step is LOST (ring full) and counted.
  virtual void PutStep(const StepData& step) noexcept = 0;

  // A step that has no record at all: counted, told to the collector by the
  // next gap record. Neighbouring steps with the same cause and detail join.
  virtual void PutGap(GapCause cause, std::int64_t step,
                      const std::string& detail) noexcept = 0;

  // The next step is `step`, which is not above the last one.
  virtual void Rollback(std::int64_t step) noexcept = 0;

  // Makes room for at least 16 steps of this size when options.ring_bytes was
  // the default. Only before the first PutStep. Allocates.
  virtual void ReserveForSteps(std::size_t step_bytes) noexcept = 0;

  virtual FlushOutcome Flush(std::chrono::milliseconds deadline) noexcept = 0;

  // Admits the End record, delivers until `deadline`, then stops the thread.
  // Returns in at most `deadline` + 0.5 s. The ring's file goes if
  // nothing is in it any more; else it stays, for others to deliver.
  // Idempotent.
  virtual FlushOutcome Shutdown(
      EndReason reason, std::chrono::milliseconds deadline) noexcept = 0;

  virtual DeliveryState state() const = 0;
  virtual DeliveryCounters counters() const = 0;
  // counters().bytes_recorded alone, for one load.
  virtual std::uint64_t bytes_recorded() const = 0;
  virtual std::uint64_t ring_bytes() const = 0;
  // For people: "PATH, survives the process" or "memory only: WHY".
  virtual std::string ring_place() const = 0;
  // The highest step that the run had before this attempt, once the collector
  // has said so; -1: it had none.
  virtual std::optional<std::int64_t> last_step_of_run() const = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_DELIVERY_H_
