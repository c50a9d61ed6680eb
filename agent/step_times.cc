#include "agent/step_times.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {
namespace {

double Seconds(std::chrono::nanoseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

void StepTimes::BeginCall() noexcept { call_start_ = clock_->Steady(); }

void StepTimes::EndCall() noexcept {
  const TimePoint now = clock_->Steady();
  own_.store(OwnAt(now).count(), std::memory_order_relaxed);
  if (capture_start_.has_value()) capture_ += now - *capture_start_;
  capture_start_.reset();
}

// The call's own few instructions before it are capture's too.
void StepTimes::BeginCapture() noexcept {
  if (!capture_start_.has_value()) capture_start_ = call_start_;
}

void StepTimes::BeginWait() noexcept { wait_start_ = clock_->Steady(); }

void StepTimes::EndWait() noexcept {
  const Nanos waited = clock_->Steady() - wait_start_;
  call_start_ += waited;
  if (capture_start_.has_value()) *capture_start_ += waited;
}

StepTimes::Measured StepTimes::Measure() noexcept {
  const TimePoint now = clock_->Steady();
  const Nanos own = OwnAt(now);
  const std::int64_t cpu = thread_cpu_nanos_();
  const std::thread::id thread = std::this_thread::get_id();
  Measured m;
  m.capture_seconds = Seconds(own - measured_own_);
  if (measured_at_.has_value()) {
    m.step_seconds = Seconds(now - *measured_at_);
    if (thread == measured_by_) {
      m.thread_cpu_seconds = Seconds(Nanos(cpu - measured_cpu_));
    }
  }
  measured_at_ = now;
  measured_own_ = own;
  measured_cpu_ = cpu;
  measured_by_ = thread;
  return m;
}

std::optional<StepCost> StepTimes::EndStep() noexcept {
  const TimePoint now = clock_->Steady();
  const Nanos own = OwnAt(now);
  StepCost cost;
  cost.device = std::exchange(device_, Nanos(0));
  cost.capture = capture_;
  if (capture_start_.has_value()) {
    cost.capture += now - *capture_start_;
    capture_start_ = now;
  }
  capture_ = Nanos(0);
  const Nanos own_step = own - ended_own_;
  ended_own_ = own;
  own_last_step_.store(own_step.count(), std::memory_order_relaxed);
  const std::optional<TimePoint> before = ended_at_;
  ended_at_ = now;
  if (!before.has_value()) return std::nullopt;
  cost.wall = now - *before;
  NoteOverhead({own_step, cost.device, cost.wall});
  return cost;
}

void StepTimes::NoteOverhead(const Step& step) {
  Step& oldest = newest_[next_];
  sum_.own += step.own - oldest.own;
  sum_.device += step.device - oldest.device;
  sum_.wall += step.wall - oldest.wall;
  oldest = step;
  next_ = (next_ + 1) % kNewestSteps;
  if (sum_.wall.count() <= 0) return;
  overhead_.store(static_cast<double>(std::max(sum_.own, sum_.device).count()) /
                      static_cast<double>(sum_.wall.count()),
                  std::memory_order_relaxed);
}

}  // namespace gradtap::agent
