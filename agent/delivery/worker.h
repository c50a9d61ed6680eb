// The delivery thread: takes turns of a Drive until told to stop.
//
// Layer: agent/delivery. This file: std, absl, core; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_WORKER_H_
#define GRADTAP_AGENT_DELIVERY_WORKER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <thread>

#include "agent/delivery/delivery.h"
#include "agent/delivery/drive.h"
#include "core/sync.h"

namespace gradtap::agent {

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
