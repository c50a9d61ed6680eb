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
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "agent/capture/capture.h"
#include "agent/delivery/delivery.h"
#include "agent/include/gradtap/agent.h"
#include "agent/options.h"
#include "agent/overhead_budget.h"
#include "agent/problem_log.h"
#include "agent/process_guard.h"
#include "agent/run_claim.h"
#include "agent/scalars.h"
#include "agent/step_times.h"
#include "agent/surroundings.h"
#include "core/clock.h"

namespace gradtap {

// Every step that the loop takes ends in exactly one PutStep() or PutGap(), so
// that delivery's books are the agent's. A step whose results are on another
// device still is held, and put before anything else is.
class __attribute__((visibility("hidden"))) Agent::Impl {
 public:
  using MakeCapture = std::function<std::unique_ptr<agent::Capture>(
      agent::CaptureOptions options)>;

  // Capture is switched off for good after that many faults of its own.
  static constexpr int kMaxFaults = 16;
  // Learning rates of a step that are recorded.
  static constexpr std::size_t kMaxRates = 16;

  // Never null. What is wrong is in status().
  static std::unique_ptr<Impl> Create(const MakeCapture& make_capture,
                                      AgentOptions options) noexcept;
  ~Impl();

  void Step(torch::optim::Optimizer& optimizer,
            std::span<const Scalar> scalars);
  // *loss is what the optimizer returned.
  void Step(torch::optim::Optimizer& optimizer,
            const std::function<at::Tensor()>& closure,
            std::span<const Scalar> scalars, at::Tensor* loss);
  // `only` null: all parameters' gradients, else that optimizer's. `stepping`
  // is the one whose step comes, if it is known.
  void Before(const torch::optim::Optimizer* only,
              const torch::optim::Optimizer* stepping) noexcept;
  void AfterBackward(const torch::optim::Optimizer* only) noexcept;
  void After(std::span<const Scalar> scalars) noexcept;
  void Skipped(const std::string& reason,
               std::span<const Scalar> scalars) noexcept;
  void SetLossScale(double scale) noexcept;
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

  // Why the step is to have no statistics; kUnspecified: it is due.
  GapCause NotDue(std::int64_t step) const;
  bool Due(std::int64_t step) const {
    return NotDue(step) == GapCause::kUnspecified;
  }
  void RecordGradients(Role role, const torch::optim::Optimizer* only) noexcept;
  void CaptureStep(std::int64_t step, std::span<const Scalar> scalars);
  void Threw(const std::string& what) noexcept;
  // The number of the step that ends now; tells delivery if it went back.
  std::int64_t TakeStepNumber() noexcept;
  void TellIfRunHasSteps() noexcept;  // Once.
  void ClaimRun() noexcept;           // At the first step.
  // A step without statistics: what becomes of the copy of the weights.
  void KeepOrForgetWeights(std::int64_t step, GapCause cause);

  // agent_pace.cc: what it took.
  void EndStep() noexcept;
  void ReportInterval() noexcept;

  // agent_put.cc: what is handed to delivery.
  void PutCaptured();
  void FinishHeldStep() noexcept;
  void PutSkipped(GapCause cause, std::int64_t step,
                  std::span<const Scalar> scalars, const std::string& detail);
  void FinishHeldSkipped(absl::Status fault) noexcept;
  void LeaveOutLateScalars(const absl::Status& why);
  void PutFault(std::int64_t step, const absl::Status& fault) noexcept;
  void PutSchemaIfNew();
  void FillScalars(std::span<const Scalar> scalars,
                   const agent::ScalarFiller::Later& later, StepData* data);
  void FillIn(std::int64_t step, StepData* data);
  void NoteRates(const torch::optim::Optimizer& optimizer) noexcept;
  void AppendRates(StepData* data);
  void ReserveRing(std::int64_t step) noexcept;
  void ReserveOnce();

  // Constant after Start().
  agent::Settings settings_;
  const Clock* clock_ = nullptr;
  std::shared_ptr<agent::ProblemLog> log_;
  std::unique_ptr<agent::Delivery> delivery_;  // Null: inert.
  std::unique_ptr<agent::Capture> capture_;

  std::optional<agent::RunClaim> claim_;

  // Read by status().
  std::optional<agent::StepTimes> times_;
  std::atomic<std::uint64_t> parameters_{0};
  std::atomic<std::uint32_t> schemas_{0};
  std::atomic<std::uint64_t> weight_copy_bytes_{0};
  std::atomic<std::int64_t> interval_{1};  // In force.
  // The one that took the newest step.
  std::atomic<std::thread::id> training_thread_{std::thread::id()};

  // The training thread's.
  std::optional<agent::OverheadBudget> budget_;
  std::uint64_t announced_ = 0;  // Powers of the interval, a bit each.
  std::int64_t next_step_ = 0;
  std::optional<std::int64_t> last_step_;
  bool step_set_ = false;       // By the loop.
  bool began_unasked_ = false;  // At step 0; whether the run has steps is open.
  bool in_call_ = false;
  bool before_called_ = false;  // In this step.
  bool captured_ = false;       // This step has statistics,
  bool histograms_ = false;     // and histograms.
  bool measured_ = false;       // Its times have been taken.
  absl::Status fault_;          // Of this step.
  int faults_ = 0;
  bool weights_current_ = false;  // The copy is of the newest step.
  // The step in capture_, or in skipped_, to be finished.
  std::optional<std::int64_t> held_;
  bool held_skipped_ = false;  // It is in skipped_.
  // Of the step that was held when it ended: the budget is told with the next,
  // when it is known what the device took.
  std::optional<agent::StepCost> unobserved_;
  double loss_scale_ = 1;
  bool bad_scale_told_ = false;
  // Of this step's optimizers, in the order in which they come.
  std::vector<double> rates_;
  bool rates_known_ = true;  // No optimizer has failed to tell them.
  bool reserved_ = false;
  std::uint64_t bytes_told_ = 0;  // Of delivery's bytes_recorded().
  agent::ScalarFiller scalars_;
  StepData skipped_;               // Reused.
  std::vector<std::size_t> late_;  // Its scalars that come from a device.
};

}  // namespace gradtap

#endif  // GRADTAP_AGENT_AGENT_IMPL_H_
