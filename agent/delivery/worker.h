// The delivery thread: drives a session over a transport until told to stop.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_WORKER_H_
#define GRADTAP_AGENT_DELIVERY_WORKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "agent/delivery/books.h"
#include "agent/delivery/delivery.h"
#include "agent/delivery/holding.h"
#include "agent/delivery/once_log.h"
#include "agent/delivery/ring.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/session.h"
#include "agent/delivery/spiller.h"
#include "agent/delivery/transport.h"
#include "core/clock.h"
#include "core/sync.h"

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
  const OnceLog::Sink note;  // What is no problem. May be null.
};

struct WorkerOptions {
  SessionOptions session;
  TransportFactory make_transport;  // Not called if offline.
  MakeSpool make_spool;             // Null: what does not fit is not kept.
  std::uint64_t spool_bytes = 0;    // What it may take.
  bool offline = false;             // Everything goes to the spool.
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

// [Threading] Any thread, but Start() and Join() one at a time.
class Worker {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  Worker(std::shared_ptr<DeliveryShared> shared, WorkerOptions options);
  // Leaves a thread that still runs behind (see Stop()).
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Starts the thread, with all signals blocked. False if the system refuses.
  bool Start();

  // Waits until all up to `seq` is acknowledged, at most until `deadline`, and
  // not if that cannot happen any more. True if it is.
  bool WaitAcknowledged(std::uint64_t seq, TimePoint deadline);

  // Delivers what is at hand until `deadline`, then ends the call and the
  // thread. If there is a spool it gets what is left, and does so once the
  // collector has taken nothing for as long as `patience`. Returns at
  // `deadline` plus 0.4 s at the latest; a thread that has not ended by then is
  // left behind, with what it uses. Idempotent.
  void Stop(TimePoint deadline,
            std::chrono::milliseconds patience = std::chrono::seconds(2));

  DeliveryState state() const;

 private:
  struct Control;
  class Drive;

  static void Run(std::shared_ptr<DeliveryShared> shared,
                  std::shared_ptr<Control> control, WorkerOptions options);
  static void RunOnline(DeliveryShared* shared, Control* control,
                        const WorkerOptions& options);
  static void RunOffline(DeliveryShared* shared, Control* control,
                         const WorkerOptions& options);

  const std::shared_ptr<DeliveryShared> shared_;
  const WorkerOptions options_;
  const std::shared_ptr<Control> control_;
  std::thread thread_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_WORKER_H_
