// The agent behind its public class: what is captured when, and what becomes of
// each step.
//
// Layer: agent. Sees capture and delivery by their interfaces only.

#ifndef GRADTAP_AGENT_AGENT_IMPL_H_
#define GRADTAP_AGENT_AGENT_IMPL_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "agent/capture/capture.h"
#include "agent/delivery/delivery.h"
#include "agent/include/gradtap/agent.h"
#include "agent/options.h"
#include "agent/problem_log.h"
#include "agent/process_guard.h"
#include "agent/scalars.h"
#include "agent/surroundings.h"
#include "core/clock.h"

namespace gradtap {

// Every step that the loop takes ends in exactly one PutStep() or PutGap(), so
// that delivery's books are the agent's.
class __attribute__((visibility("hidden"))) Agent::Impl {
 public:
  using MakeCapture = std::function<std::unique_ptr<agent::Capture>(
      agent::CaptureOptions options)>;

  // Capture is switched off for good after that many faults of its own.
  static constexpr int kMaxFaults = 16;

  // Never null. What is wrong is in status().
  static std::unique_ptr<Impl> Create(const MakeCapture& make_capture,
                                      AgentOptions options) noexcept;
  ~Impl();

  void Step(torch::optim::Optimizer& optimizer,
            std::span<const Scalar> scalars);
  void Before() noexcept;
  void After(std::span<const Scalar> scalars) noexcept;
  void Skipped(const std::string& reason,
               std::span<const Scalar> scalars) noexcept;
  void AfterBackward() noexcept;
  void SetStep(std::int64_t n) noexcept;
  void Refresh() noexcept;
  FlushResult Flush(std::chrono::milliseconds deadline) noexcept;
  AgentStatus status() const;

 private:
  // One call of a recording method: false if the agent does nothing (any more,
  // or here). Counts the time.
  class Call;

  Impl() = default;
  void Start(const MakeCapture& make_capture, AgentOptions options);
  void MakeLog();
  void Report(const std::string& message) const noexcept {
    log_->Report(message);
  }
  bool Inert() const { return delivery_ == nullptr || agent::IsForkedChild(); }

  bool Due(std::int64_t step) const {
    return step % settings_.options.interval_steps == 0;
  }
  // The number of the step that ends now; tells delivery if it went back.
  std::int64_t TakeStepNumber();
  void EndStep();
  void Threw(const std::string& what) noexcept;
  // A step without statistics: what becomes of the copy of the weights.
  void KeepOrForgetWeights(std::int64_t step);
  void PutCaptured(std::int64_t step, std::span<const Scalar> scalars);
  void PutSkipped(GapCause cause, std::int64_t step,
                  std::span<const Scalar> scalars, const std::string& detail);
  void PutFault(std::int64_t step) noexcept;
  void PutSchemaIfNew();
  void FillIn(std::int64_t step, std::span<const Scalar> scalars,
              StepData* data);
  void ReserveRing(std::int64_t step) noexcept;
  void ReserveOnce();

  // Constant after Start().
  agent::Settings settings_;
  const Clock* clock_ = nullptr;
  std::shared_ptr<agent::ProblemLog> log_;
  std::unique_ptr<agent::Delivery> delivery_;  // Null: inert.
  std::unique_ptr<agent::Capture> capture_;

  // Read by status().
  std::atomic<std::int64_t> own_time_ns_{0};
  std::atomic<std::int64_t> own_time_last_step_ns_{0};
  std::atomic<std::uint64_t> parameters_{0};
  std::atomic<std::uint32_t> schemas_{0};
  std::atomic<std::uint64_t> weight_copy_bytes_{0};

  // The training thread's.
  std::int64_t next_step_ = 0;
  std::optional<std::int64_t> last_step_;
  bool before_called_ = false;  // In this step.
  bool step_ended_ = false;     // In this call.
  absl::Status fault_;          // Of this step.
  int faults_ = 0;
  bool weights_current_ = false;  // The copy is of the newest step.
  bool reserved_ = false;
  std::chrono::nanoseconds step_time_{0};  // Own, in this step.
  std::chrono::steady_clock::time_point call_start_;
  std::optional<std::chrono::steady_clock::time_point> last_end_;
  agent::ScalarFiller scalars_;
  StepData skipped_;  // Reused.
};

}  // namespace gradtap

#endif  // GRADTAP_AGENT_AGENT_IMPL_H_
