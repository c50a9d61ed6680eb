// Where the training thread's time goes: the agent's own, and all of it; and
// what another device spends for the agent.
//
// Layer: agent. This file: std, core.

#ifndef GRADTAP_AGENT_STEP_TIMES_H_
#define GRADTAP_AGENT_STEP_TIMES_H_

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <thread>

#include "agent/overhead_budget.h"
#include "core/clock.h"

namespace gradtap::agent {

// [Threading] One thread at a time: the training loop's; the accessors at the
// end: any thread. Never allocates.
//
// A call of the agent is between BeginCall() and EndCall(). Everything else
// happens inside one.
class StepTimes {
 public:
  // CPU time of the calling thread.
  using ThreadCpu = std::int64_t (*)();

  // `clock` must outlive it.
  StepTimes(const Clock* clock, ThreadCpu thread_cpu_nanos)
      : clock_(clock), thread_cpu_nanos_(thread_cpu_nanos) {}

  void BeginCall() noexcept;
  void EndCall() noexcept;
  // What this call does from here on would be saved if the step were not
  // captured.
  void BeginCapture() noexcept;
  // What passes between the two is not the agent's: the thread waits for what
  // another device does, for the loop or for the agent. In a call or outside.
  void BeginWait() noexcept;
  void EndWait() noexcept;
  // Another device has spent `time` on statistics: it has become known in this
  // step, and may be of the one before.
  void NoteDeviceTime(std::chrono::nanoseconds time) noexcept {
    device_ += time;
  }

  // Over the time since the Measure() before. Nothing: there is none, or
  // another thread made it (CPU time).
  struct Measured {
    double capture_seconds = 0;  // The agent's own.
    std::optional<double> step_seconds;
    std::optional<double> thread_cpu_seconds;
  };
  Measured Measure() noexcept;

  // The step ends in this call. What it took, but for the rest of this call,
  // which is the next step's; nothing at the first one, whose start is unknown.
  std::optional<StepCost> EndStep() noexcept;

  std::chrono::nanoseconds own() const { return Load(own_); }
  std::chrono::nanoseconds own_last_step() const {
    return Load(own_last_step_);
  }
  // Own time, or devices' time if that is more, over all time of the newest
  // kNewestSteps; NaN: none yet.
  static constexpr std::size_t kNewestSteps = 64;
  double overhead() const { return overhead_.load(std::memory_order_relaxed); }

 private:
  using Nanos = std::chrono::nanoseconds;
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Step {
    Nanos own{0};
    Nanos device{0};
    Nanos wall{0};
  };

  static Nanos Load(const std::atomic<std::int64_t>& nanos) {
    return Nanos(nanos.load(std::memory_order_relaxed));
  }
  // Own time up to `now`, which is in a call.
  Nanos OwnAt(TimePoint now) const { return own() + (now - call_start_); }
  void NoteOverhead(const Step& step);

  const Clock* const clock_;
  const ThreadCpu thread_cpu_nanos_;

  std::atomic<std::int64_t> own_{0};  // Of calls that have ended.
  std::atomic<std::int64_t> own_last_step_{0};
  std::atomic<double> overhead_{std::numeric_limits<double>::quiet_NaN()};

  TimePoint call_start_;  // Later by what was waited.
  TimePoint wait_start_;
  std::optional<TimePoint> capture_start_;  // In this call.
  Nanos capture_{0};                        // In this step, earlier calls.
  Nanos device_{0};                         // Known since the last step's end.

  // At the last Measure().
  std::optional<TimePoint> measured_at_;
  Nanos measured_own_{0};
  std::int64_t measured_cpu_ = 0;
  std::thread::id measured_by_;

  // At the last EndStep().
  std::optional<TimePoint> ended_at_;
  Nanos ended_own_{0};

  std::array<Step, kNewestSteps> newest_{};
  std::size_t next_ = 0;
  Step sum_;  // Of newest_.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_STEP_TIMES_H_
