// What becomes of a step that has ended: the record or the gap that delivery
// gets.

#include <cstddef>
#include <exception>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "agent/agent_impl.h"
#include "core/codec.h"
#include "core/names.h"

namespace gradtap {
namespace {

constexpr const char* kRateNames[] = {
    "agent.lr.0",  "agent.lr.1",  "agent.lr.2",  "agent.lr.3",
    "agent.lr.4",  "agent.lr.5",  "agent.lr.6",  "agent.lr.7",
    "agent.lr.8",  "agent.lr.9",  "agent.lr.10", "agent.lr.11",
    "agent.lr.12", "agent.lr.13", "agent.lr.14", "agent.lr.15"};

}  // namespace

void Agent::Impl::PutCaptured() {
  ReserveOnce();
  delivery_->PutStep(capture_->step());
}

// Waits for its results if they are not there yet: the optimizer, a forward and
// a backward pass have had their time meanwhile.
void Agent::Impl::FinishHeldStep() noexcept {
  if (!held_.has_value()) return;
  const std::int64_t step = *std::exchange(held_, std::nullopt);
  times_->BeginWait();
  absl::Status fault = capture_->AwaitResults();
  times_->EndWait();
  times_->NoteDeviceTime(capture_->TakeDeviceTime());
  if (std::exchange(held_skipped_, false)) {
    return FinishHeldSkipped(std::move(fault));
  }
  if (fault.ok()) fault = capture_->FinishStep();
  if (fault.ok()) {
    try {
      PutCaptured();
      return;
    } catch (...) {  // No memory.
      fault = absl::ResourceExhaustedError("out of memory");
    }
  }
  PutFault(step, fault);
}

void Agent::Impl::PutSkipped(GapCause cause, std::int64_t step,
                             std::span<const Scalar> scalars,
                             const std::string& detail) {
  ReserveRing(step);
  late_.clear();
  capture_->BeginSkipped();
  FillScalars(
      scalars,
      [this](const at::Tensor& tensor, std::size_t index) {
        late_.push_back(index);
        if (capture_->LaterScalar(tensor, index)) return true;
        late_.pop_back();
        return false;
      },
      &skipped_);
  FillIn(step, &skipped_);
  const absl::Status sent = capture_->EndSkipped();
  if (!sent.ok()) LeaveOutLateScalars(sent);
  skipped_.schema_id = capture_->schema().schema_id;
  skipped_.skipped = cause;
  skipped_.skipped_detail = detail;
  if (capture_->deferred()) {
    held_ = step;
    held_skipped_ = true;
  } else {
    delivery_->PutStep(skipped_);
  }
}

void Agent::Impl::FinishHeldSkipped(absl::Status fault) noexcept {
  try {
    if (fault.ok()) fault = capture_->FinishSkipped(&skipped_);
    if (!fault.ok()) LeaveOutLateScalars(fault);
    delivery_->PutStep(skipped_);
  } catch (...) {  // No memory.
    delivery_->PutGap(skipped_.skipped, skipped_.step, "");
  }
}

// They have no value: a NaN would be a diverged loss.
void Agent::Impl::LeaveOutLateScalars(const absl::Status& why) {
  for (auto it = late_.rbegin(); it != late_.rend(); ++it) {
    std::vector<ScalarValue>& scalars = skipped_.scalars;
    Report("scalar '" + scalars[*it].name +
           "' is left out: " + std::string(why.message()));
    scalars.erase(scalars.begin() + static_cast<std::ptrdiff_t>(*it));
  }
}

void Agent::Impl::PutFault(std::int64_t step,
                           const absl::Status& fault) noexcept {
  capture_->AbandonStep();
  capture_->ForgetWeights();
  weights_current_ = false;
  captured_ = false;
  ++faults_;
  std::string why;
  try {
    why = SafeName(std::string(fault.message()));
    Report("step " + std::to_string(step) + " was not captured: " + why);
    if (faults_ == kMaxFaults) {
      Report("capture is switched off after " + std::to_string(kMaxFaults) +
             " faults");
    }
  } catch (...) {  // No memory to say it.
  }
  delivery_->PutGap(GapCause::kCaptureError, step, why);
}

void Agent::Impl::PutSchemaIfNew() {
  if (!capture_->TakeNewSchema()) return;
  const Schema& schema = capture_->schema();
  if (schema.parameters.empty()) {
    Report(
        "there is no parameter to record: the model has none, or include "
        "and exclude leave none");
  }
  delivery_->PutSchema(schema);
  parameters_.store(schema.parameters.size(), std::memory_order_relaxed);
  schemas_.fetch_add(1, std::memory_order_relaxed);
}

void Agent::Impl::FillScalars(std::span<const Scalar> scalars,
                              const agent::ScalarFiller::Later& later,
                              StepData* data) {
  scalars_.Fill(
      scalars, [this](const std::string& m) { Report(m); }, later,
      &data->scalars);
  constexpr char kLossScale[] = "loss_scale";
  if (loss_scale_ != 1 && !scalars_.Has(kLossScale, data->scalars)) {
    scalars_.Append(kLossScale, loss_scale_, &data->scalars);
  }
}

// After FillScalars().
void Agent::Impl::FillIn(std::int64_t step, StepData* data) {
  data->step = step;
  data->wall_time_unix_ns = clock_->UnixNanos();
  data->interval_steps = static_cast<std::uint32_t>(budget_->interval_steps());
  const std::uint64_t bytes = delivery_->bytes_recorded();
  scalars_.Append(
      "agent.bytes",
      static_cast<double>(bytes - std::exchange(bytes_told_, bytes)),
      &data->scalars);
  const agent::StepTimes::Measured times = times_->Measure();
  measured_ = true;
  scalars_.Append("agent.capture_seconds", times.capture_seconds,
                  &data->scalars);
  if (times.step_seconds.has_value()) {
    scalars_.Append("agent.step_seconds", *times.step_seconds, &data->scalars);
  }
  if (times.thread_cpu_seconds.has_value()) {
    scalars_.Append("agent.thread_cpu_seconds", *times.thread_cpu_seconds,
                    &data->scalars);
  }
  AppendRates(data);
  scalars_.Finish(&data->scalars);
}

// What does not tell its rates once is not asked again: it throws.
void Agent::Impl::NoteRates(const torch::optim::Optimizer& optimizer) noexcept {
  if (!rates_known_) return;
  rates_known_ = agent::AddLearningRates(optimizer, &rates_);
  if (!rates_known_) rates_.clear();
}

void Agent::Impl::AppendRates(StepData* data) {
  static_assert(std::size(kRateNames) == kMaxRates);
  if (rates_.size() == 1) {
    scalars_.Append("agent.lr", rates_[0], &data->scalars);
    return;
  }
  for (std::size_t i = 0; i < rates_.size() && i < kMaxRates; ++i) {
    scalars_.Append(kRateNames[i], rates_[i], &data->scalars);
  }
}

// Before a step without statistics that may be the first record: that is to be
// a schema, and the ring's size needs one.
void Agent::Impl::ReserveRing(std::int64_t step) noexcept {
  if (reserved_) return;
  try {
    if (!capture_->BeginStep(step).ok()) return;
    capture_->AbandonStep();
    PutSchemaIfNew();
    ReserveOnce();
  } catch (...) {  // No memory: the ring stays as large as it is.
  }
}

// Only where the size was left to the agent. A quarter more than the first
// step takes: counts of zeros and of non-finite elements come and go.
void Agent::Impl::ReserveOnce() {
  if (reserved_) return;
  reserved_ = true;
  if (settings_.options.ring_bytes != 0) return;
  const std::size_t bytes = EncodedStepSize(capture_->step());
  delivery_->ReserveForSteps(bytes + bytes / 4 + 1024);
}

}  // namespace gradtap
