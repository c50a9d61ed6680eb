// What the delivery thread does, turn by turn: a session over a transport, the
// ring relieved into the spool, and beside it what dead processes have left.
//
// It has no thread; time, network, disk and randomness come from outside. Each
// turn is
//
//   transport->Wait(drive.Act())  ->  drive.Take(event)
//
// Layer: agent/delivery. This file: std, absl, core, *.pb.h; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_DRIVE_H_
#define GRADTAP_AGENT_DELIVERY_DRIVE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/delivery/adopter.h"
#include "agent/delivery/backlog.h"
#include "agent/delivery/books.h"
#include "agent/delivery/holding.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/session.h"
#include "agent/delivery/spiller.h"
#include "agent/delivery/transport.h"
#include "agent/spool/syscalls.h"
#include "core/clock.h"

namespace gradtap::agent {

// What the training thread and the delivery thread share. Held by both: if a
// thread has to be left behind, what it touches stays.
struct DeliveryShared {
  explicit DeliveryShared(OnceLog::Sink sink, OnceLog::Sink a_note = nullptr)
      : log(std::move(sink)), note(std::move(a_note)) {}

  // Neither is replaced once the thread runs.
  std::unique_ptr<RingFile> ring_file;  // Null: the ring is memory.
  std::unique_ptr<Ring> ring;           // Goes before its file.
  Books books;
  OnceLog log;
  OnceLog note;  // What is no problem.
  // The spool or the ring's file has what the collector had not taken in the
  // end.
  std::atomic<bool> left_in_file{false};
};

struct WorkerOptions {
  SessionOptions session;
  TransportFactory make_transport;      // Not called if offline.
  MakeSpool make_spool;                 // Null: what does not fit is not kept.
  std::uint64_t spool_bytes = 0;        // What it may take.
  Syscalls* syscalls = RealSyscalls();  // For what others have left.
  std::function<double()> uniform = nullptr;  // In [0, 1); null: at random.
  bool offline = false;                       // Everything goes to the spool.
  // What dead processes have left there is delivered too, once the session
  // streams. Empty: nothing is.
  std::string leftovers_root;
  std::string leftovers_ring_folder;  // And there; may be empty.
  std::chrono::milliseconds leftovers_interval = std::chrono::minutes(5);
  // The ring is looked at this often.
  std::chrono::milliseconds poll{50};
  // How long the job is looked at before it is said how long the ring lasts.
  std::chrono::milliseconds note_after = HoldingWatch::kSoon;
};

// Where the records are that nobody has taken: in the spool `path`, else in the
// ring's file.
void SayWhatIsLeft(DeliveryShared* shared, const std::string& collector,
                   bool spooled, const std::string& path);

// What becomes of steps that the ring has no room for, once it happens.
void SayIfRingIsFull(DeliveryShared* shared);

// [Threading] One thread, the ring's consumer. Waits for the disk, not for the
// network.
class Drive {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // Pointers must outlive it.
  Drive(DeliveryShared* shared, const WorkerOptions& options,
        Transport* transport, const Clock* clock);

  // Does what there is to do now. Returns until when an event may be waited
  // for.
  TimePoint Act();
  // What came, if anything did.
  void Take(const std::optional<TransportEvent>& event);
  // Somebody waits for acknowledgements.
  void SetHurry(bool hurry) { session_.SetHurry(hurry); }

  // The end has come: to be asked at the beginning of each turn from now on.
  // True once nothing is left to do, or no time to do it: then there are no
  // more turns. If there is a spool or a ring's file, that has what is left,
  // and gets it once nothing was acknowledged for as long as `patience`.
  bool Parted(TimePoint stop_at, std::chrono::nanoseconds patience);

  SessionState state() const { return session_.state(); }
  const Session& session() const { return session_; }
  const Backlog& backlog() const { return backlog_; }
  // All up to it is acknowledged.
  std::uint64_t acknowledged_seq() const { return backlog_.first_seq() - 1; }

 private:
  void NoteHolding();
  void SayIfUnreadable();
  bool Left(TimePoint now, TimePoint stop_at);

  DeliveryShared* const shared_;
  const std::chrono::milliseconds poll_;
  const std::uint64_t spool_bytes_;
  const std::string collector_;
  Transport* const transport_;
  const Clock* const clock_;
  Backlog backlog_;
  Spiller spiller_;
  Adopter adopter_;
  Session session_;
  HoldingWatch holding_;
  std::optional<TimePoint> leaving_since_;
  TimePoint progress_at_;
  std::uint64_t progress_seq_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_DRIVE_H_
