// What a step took, and what the budget makes of it.

#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "agent/agent_impl.h"

namespace gradtap {

void Agent::Impl::EndStep() noexcept {
  if (!measured_) static_cast<void>(times_->Measure());
  std::optional<agent::StepCost> cost = times_->EndStep();
  if (cost.has_value()) {
    bool changed = false;
    if (unobserved_.has_value()) {
      // The step before was held: the device's time is its.
      unobserved_->device += std::exchange(cost->device, {});
      changed = budget_->Observe(*std::exchange(unobserved_, std::nullopt));
    }
    cost->captured = captured_;
    cost->histograms = histograms_;
    if (held_.has_value()) {
      unobserved_ = cost;
    } else {
      changed = budget_->Observe(*cost) || changed;
    }
    if (changed) ReportInterval();
  }
  if (began_unasked_) TellIfRunHasSteps();
  before_called_ = captured_ = histograms_ = measured_ = false;
  rates_.clear();
  fault_ = absl::OkStatus();
  weight_copy_bytes_.store(capture_->weight_copy_bytes(),
                           std::memory_order_relaxed);
  training_thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
}

// Each interval is told once: it may come and go for as long as a run takes.
void Agent::Impl::ReportInterval() noexcept {
  const std::int64_t interval = budget_->interval_steps();
  interval_.store(interval, std::memory_order_relaxed);
  const std::uint64_t bit = std::uint64_t{1} << budget_->power();
  if ((announced_ & bit) != 0) return;
  announced_ |= bit;
  try {
    char budget[32];
    std::snprintf(budget, sizeof(budget), "%.3g",
                  100 * settings_.options.overhead_budget);
    Report("statistics every " + std::to_string(interval) +
           " steps from step " + std::to_string(next_step_) +
           " on, to stay within " + budget +
           " % of step time (GRADTAP_BUDGET)");
  } catch (...) {  // No memory to say it.
  }
}

}  // namespace gradtap
