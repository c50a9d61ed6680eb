// Delivers one leftover over one transport, until the collector has all of it,
// refuses it, or gives no sign of life.
//
// A command waits in Run(); an agent, beside its own session, calls Poll() now
// and then.
//
// Layer: agent/delivery. This file: std, absl, core, *.pb.h; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_LEFTOVER_DRIVE_H_
#define GRADTAP_AGENT_DELIVERY_LEFTOVER_DRIVE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "agent/delivery/leftover.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/session.h"
#include "agent/delivery/transport.h"
#include "core/clock.h"

namespace gradtap::agent {

struct LeftoverDriveOptions {
  std::string collector;  // For messages.
  // Somebody waits: no lingering, short delays between tries.
  bool hurry = false;
  // Gives up when nothing has been acknowledged for so long.
  std::chrono::milliseconds patience{60'000};
  std::function<double()> uniform = nullptr;  // In [0, 1); null: at random.
};

struct LeftoverOutcome {
  // OK: the collector has all of it. kUnavailable: it is not there;
  // kDeadlineExceeded: it does not answer; kFailedPrecondition: it refuses, or
  // expects records that are not at hand; kResourceExhausted: it refuses for
  // now; kUnauthenticated and the like: as it says; kDataLoss, ...: the disk's;
  // kAborted: stopped.
  absl::Status status;
  std::uint32_t attempt = 0;        // 0: not welcomed.
  std::uint64_t records_there = 0;  // The collector had them before.
  std::uint64_t records_sent = 0;
  std::uint64_t steps_there = 0;  // With statistics.
  std::uint64_t steps_sent = 0;
  std::uint64_t steps_refused = 0;    // For good; not among those sent.
  std::uint64_t steps_given_up = 0;   // Of those refused: without a schema.
  std::vector<std::string> problems;  // For people; also when status is OK.
};

// [Threading] One thread.
class LeftoverDrive {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Pointers must outlive it.
  LeftoverDrive(Leftover* leftover, LeftoverDriveOptions options,
                std::unique_ptr<Transport> transport, const Clock* clock);
  ~LeftoverDrive();  // Ends what is open, within 0.1 s.
  LeftoverDrive(const LeftoverDrive&) = delete;
  LeftoverDrive& operator=(const LeftoverDrive&) = delete;

  // Does what can be done without waiting for the network, and not much of it.
  // False: it has ended.
  bool Poll();
  // Until it has ended or `stop`, asked several times a second, says so.
  void Run(const std::function<bool()>& stop);
  // Ends the call; Poll() does nothing any more.
  void Stop();

  bool ended() const { return ended_; }
  // Complete once it has ended.
  const LeftoverOutcome& outcome() const { return outcome_; }

 private:
  bool Step(TimePoint wait_until);
  void Note(const TransportEvent& event);
  void NoteMessage(const v1::CollectorMessage& message_untrusted);
  bool Over();
  void End(absl::Status status);
  absl::Status Unreadable(std::uint64_t seq);
  absl::Status NoProgress() const;

  Leftover* const leftover_;
  const LeftoverDriveOptions options_;
  const Clock* const clock_;
  const std::uint64_t first_seq_;
  std::unique_ptr<Transport> transport_;
  OnceLog silent_{nullptr};
  Session session_;
  LeftoverOutcome outcome_;
  bool ended_ = false;
  bool welcomed_ = false;
  bool told_rejection_ = false;
  std::uint64_t progress_seq_ = 0;
  TimePoint progress_at_;
  absl::Status closed_;      // Why the last call ended.
  std::string last_reason_;  // Why this side ended it, or refuses.
  bool rejected_ = false;    // In this call.
  bool refused_ = false;     // That was the last reason.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_LEFTOVER_DRIVE_H_
