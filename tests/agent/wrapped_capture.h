// Captures that do what the real one does, and something besides.

#ifndef GRADTAP_TESTS_AGENT_WRAPPED_CAPTURE_H_
#define GRADTAP_TESTS_AGENT_WRAPPED_CAPTURE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/fake_world.h"

namespace gradtap::testing {

class WrappedCapture : public agent::Capture {
 public:
  explicit WrappedCapture(std::unique_ptr<Capture> real)
      : real_(std::move(real)) {}

  absl::Status BeginStep(std::int64_t step) noexcept override {
    return real_->BeginStep(step);
  }
  absl::Status ReduceGradients(Role role) noexcept override {
    return real_->ReduceGradients(role);
  }
  absl::Status ReduceGradientsOf(
      Role role, const torch::optim::Optimizer& o) noexcept override {
    return real_->ReduceGradientsOf(role, o);
  }
  void NoteOptimizer(const torch::optim::Optimizer& o) noexcept override {
    real_->NoteOptimizer(o);
  }
  void SetGradientMultiplier(double multiplier) noexcept override {
    real_->SetGradientMultiplier(multiplier);
  }
  absl::Status ReduceWeights() noexcept override {
    return real_->ReduceWeights();
  }
  bool deferred() const override { return real_->deferred(); }
  absl::Status FinishStep() noexcept override { return real_->FinishStep(); }
  bool LaterScalar(const at::Tensor& t, std::size_t i) noexcept override {
    return real_->LaterScalar(t, i);
  }
  void BeginSkipped() noexcept override { real_->BeginSkipped(); }
  absl::Status EndSkipped() noexcept override { return real_->EndSkipped(); }
  absl::Status FinishSkipped(StepData* step) noexcept override {
    return real_->FinishSkipped(step);
  }
  absl::Status AwaitResults() noexcept override {
    return real_->AwaitResults();
  }
  std::chrono::nanoseconds TakeDeviceTime() noexcept override {
    return real_->TakeDeviceTime();
  }
  void AbandonStep() noexcept override { real_->AbandonStep(); }
  void KeepWeights() noexcept override { real_->KeepWeights(); }
  void ForgetWeights() noexcept override { real_->ForgetWeights(); }
  void Refresh() noexcept override { real_->Refresh(); }
  const Schema& schema() const override { return real_->schema(); }
  bool TakeNewSchema() noexcept override { return real_->TakeNewSchema(); }
  StepData& step() override { return real_->step(); }
  std::uint64_t weight_copy_bytes() const override {
    return real_->weight_copy_bytes();
  }
  std::uint64_t sparse_scratch_bytes() const override {
    return real_->sparse_scratch_bytes();
  }

 protected:
  const std::unique_ptr<Capture> real_;
};

// What captures cost, by the world's clock, and how often they were called.
struct CaptureCosts {
  std::chrono::microseconds gradients{0};
  std::chrono::microseconds weights{0};
  std::chrono::microseconds keep{0};
  int gradient_calls = 0;
  int weight_calls = 0;
  int keep_calls = 0;
};

class SlowCapture : public WrappedCapture {
 public:
  // `costs` must outlive it.
  SlowCapture(std::unique_ptr<Capture> real, CaptureCosts* costs)
      : WrappedCapture(std::move(real)), costs_(*costs) {}

  absl::Status ReduceGradients(Role role) noexcept override {
    ++costs_.gradient_calls;
    World().clock.Advance(costs_.gradients);
    return WrappedCapture::ReduceGradients(role);
  }
  absl::Status ReduceWeights() noexcept override {
    ++costs_.weight_calls;
    World().clock.Advance(costs_.weights);
    return WrappedCapture::ReduceWeights();
  }
  void KeepWeights() noexcept override {
    ++costs_.keep_calls;
    World().clock.Advance(costs_.keep);
    WrappedCapture::KeepWeights();
  }

 private:
  CaptureCosts& costs_;
};

// Its columns are wrong until FinishStep(), and tensors among the scalars come
// then too: like those of another device.
class LateCapture : public WrappedCapture {
 public:
  struct Script {
    absl::Status finish;  // What FinishStep() and FinishSkipped() say,
    absl::Status send;    // and EndSkipped().
    int finished = 0;
    std::chrono::microseconds wait{0};    // By the world's clock, for each
    std::chrono::microseconds device{0};  // step; the device's, for captures.
  };
  // `script` must outlive it.
  LateCapture(std::unique_ptr<Capture> real, Script* script)
      : WrappedCapture(std::move(real)), script_(*script) {}

  absl::Status ReduceWeights() noexcept override {
    const absl::Status status = WrappedCapture::ReduceWeights();
    if (!status.ok()) return status;
    roles_ = step().roles;
    for (RoleColumns& columns : step().roles) {
      for (float& mean : columns.mean) mean = -77;
    }
    deferred_ = true;
    device_time_ += script_.device;
    return status;
  }
  absl::Status AwaitResults() noexcept override {
    World().clock.Advance(script_.wait);
    arrived_ = true;
    return absl::OkStatus();
  }
  std::chrono::nanoseconds TakeDeviceTime() noexcept override {
    if (!arrived_) return {};
    arrived_ = false;
    return std::exchange(device_time_, std::chrono::microseconds(0));
  }
  bool deferred() const override { return deferred_; }
  absl::Status FinishStep() noexcept override {
    if (!deferred_) return absl::OkStatus();
    deferred_ = false;
    ++script_.finished;
    step().roles = roles_;
    WriteScalars(&step());
    return script_.finish;
  }
  void BeginSkipped() noexcept override {
    WrappedCapture::BeginSkipped();
    scalars_.clear();
  }
  absl::Status EndSkipped() noexcept override {
    deferred_ = script_.send.ok() && !scalars_.empty();
    return script_.send;
  }
  absl::Status FinishSkipped(StepData* step) noexcept override {
    deferred_ = false;
    ++script_.finished;
    if (script_.finish.ok()) WriteScalars(step);
    return script_.finish;
  }
  bool LaterScalar(const at::Tensor& t, std::size_t i) noexcept override {
    const absl::StatusOr<double> value = agent::ReadScalar(t);
    if (value.ok()) scalars_.emplace_back(i, *value);
    return value.ok();
  }

 private:
  void WriteScalars(StepData* step) {
    for (const auto& [index, value] : scalars_) {
      step->scalars.at(index).value = value;
    }
    scalars_.clear();
  }

  Script& script_;
  bool deferred_ = false;
  bool arrived_ = false;
  std::chrono::microseconds device_time_{0};  // Not taken yet.
  std::vector<RoleColumns> roles_;
  std::vector<std::pair<std::size_t, double>> scalars_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_WRAPPED_CAPTURE_H_
