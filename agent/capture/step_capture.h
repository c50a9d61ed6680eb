// One step's statistics of the tensors of a table.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_
#define GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/capture/device_step.h"
#include "agent/capture/histogram_slots.h"
#include "agent/capture/known_tensor.h"
#include "agent/capture/module_walk.h"
#include "agent/capture/optimizer_types.h"
#include "agent/capture/sparse_reduce.h"
#include "agent/capture/tensor_view.h"
#include "agent/capture/work_list.h"
#include "core/record.h"

namespace gradtap::agent {

// See Capture. `walk` gives all tensors as they are now.
class StepCapture : public Capture {
 public:
  using Walk = std::function<std::vector<FoundTensor>()>;

  static constexpr std::int64_t kStepsBetweenWalks = 256;

  StepCapture(Walk walk, CaptureOptions options);

  absl::Status BeginStep(std::int64_t step) noexcept override;
  absl::Status ReduceGradients(Role role) noexcept override;
  absl::Status ReduceGradientsOf(
      Role role, const torch::optim::Optimizer& optimizer) noexcept override;
  void NoteOptimizer(
      const torch::optim::Optimizer& optimizer) noexcept override;
  void SetGradientMultiplier(double multiplier) noexcept override {
    gradient_multiplier_ = multiplier;
  }
  absl::Status ReduceWeights() noexcept override;
  bool deferred() const override {
    return device_ != nullptr && device_->pending();
  }
  absl::Status FinishStep() noexcept override;
  bool LaterScalar(const at::Tensor& tensor,
                   std::size_t index) noexcept override;
  void BeginSkipped() noexcept override;
  absl::Status EndSkipped() noexcept override;
  absl::Status FinishSkipped(StepData* step) noexcept override;
  absl::Status AwaitResults() noexcept override;
  std::chrono::nanoseconds TakeDeviceTime() noexcept override;
  void AbandonStep() noexcept override { begun_ = false; }
  void KeepWeights() noexcept override;
  void ForgetWeights() noexcept override;
  void Refresh() noexcept override { refresh_ = true; }
  const Schema& schema() const override { return schema_; }
  bool TakeNewSchema() noexcept override;
  StepData& step() override { return step_; }
  std::uint64_t weight_copy_bytes() const override {
    return copy_bytes_ + device_copy_bytes_;
  }
  std::uint64_t sparse_scratch_bytes() const override {
    return sparse_.scratch_bytes();
  }

 private:
  // What a gradient was when it was last looked at: an equal one can be read.
  struct GradientKind {
    c10::DispatchKeySet keys;
    caffe2::TypeMeta type;
    Dtype dtype = Dtype::kUnsupported;  // kUnsupported: look at it.
  };
  // Copies begin with a cache line: vectors that straddle two cost twice.
  static constexpr std::align_val_t kLine{64};
  struct FreeAligned {
    void operator()(std::byte* p) const { ::operator delete(p, kLine); }
  };
  // One entry of the schema, at the same index.
  struct Entry {
    KnownTensor known;
    std::uint64_t numel = 0;
    // Place in the role's columns; -1: no such role.
    std::array<std::int32_t, kRoleCount> place{};
    // The elements after the last step, in the order that the kernels keep for
    // `known`; null until there is one.
    std::unique_ptr<std::byte[], FreeAligned> previous;
    bool previous_valid = false;
    // Of one that is not on the CPU.
    std::unique_ptr<DeviceCopy> device_copy;
    GradientKind gradient;
    std::uint64_t bytes = 0;

    std::int32_t place_of(Role role) const {
      return place[static_cast<std::size_t>(role)];
    }
  };
  static constexpr std::size_t kGroup = 32;  // See AddGradients().
  enum class Filled { kYes, kTableIsAnother };

  // step_capture.cc: the table.
  bool Changed() const;
  void WalkAgain(std::int64_t step);
  void TakeTable(std::vector<Parameter> parameters,
                 std::vector<at::Tensor> tensors);
  void TakeSameTable(std::vector<at::Tensor> tensors);
  void LayOutColumns();
  void TakeNextSchemaId();

  // step_reduce.cc: gradients.
  absl::Status Fill(Role role, const torch::optim::Optimizer* only) noexcept;
  Filled FillGradients(Role role, const torch::optim::Optimizer* only);
  Filled AddGradients(Role role, std::size_t begin, std::size_t end,
                      const torch::optim::Optimizer* only);
  void BeginPart(Role role, const torch::optim::Optimizer& optimizer);
  void Choose(const torch::optim::Optimizer& optimizer);
  // Returns why it cannot be read, or nothing.
  std::string AddGradient(Role role, std::size_t i, const at::Tensor& gradient);
  // A magnitude is never negative.
  double MultiplierOf(Dtype dtype) const {
    const bool complex =
        dtype == Dtype::kComplex64 || dtype == Dtype::kComplex128;
    return complex ? std::abs(gradient_multiplier_) : gradient_multiplier_;
  }
  Filled LoseGradient(Role role, std::size_t i, const std::string& reason);

  // step_device.cc.
  bool OnDevice(const c10::TensorImpl& impl) const;
  DeviceStep& Device(const at::Tensor& tensor);
  std::string AddDeviceGradient(Role role, std::size_t i,
                                const at::Tensor& gradient);
  void AddDeviceWeight(std::size_t i, bool only_keep);
  void LaunchWeightsOnDevice();

  // step_reduce.cc: weights, updates, buffers.
  void AllocateCopies();
  void GiveUpUpdates(const std::string& why);
  void SetAbsent(Role role, std::int32_t place) {
    columns_[static_cast<std::size_t>(role)]->SetAbsent(
        static_cast<std::size_t>(place));
  }
  void AddWeights(bool only_keep);
  void AddWeight(Entry* e, const TensorView& view);
  // False: the weight is lost.
  bool ViewOfWeight(std::size_t i, TensorView* view);
  bool SameSparse(std::size_t i);
  void LoseWeight(std::size_t i, const std::string& reason);
  void ReduceSparse(Role role, std::size_t i, const SparseValues& values);
  void MakeRoomForHistograms();

  const Walk walk_;
  CaptureOptions options_;
  bool grad_local_ = false;        // The loop asked for it once.
  bool gradients_filled_ = false;  // In this step, of either role.
  double gradient_multiplier_ = 1;
  bool refresh_ = false;
  bool begun_ = false;
  bool skipping_ = false;  // Between BeginSkipped() and EndSkipped().
  bool schema_taken_ = false;
  bool copies_missing_ = false;
  bool histogram_limit_reported_ = false;
  std::int64_t last_walk_ = 0;
  std::map<std::string, std::string> without_gradients_;  // Name, reason.
  std::set<std::string> without_weights_;                 // At a step; said.
  Schema schema_;
  OptimizerTypes optimizers_;
  std::vector<Entry> entries_;
  // For gradients of one optimizer, once asked for: which entry a TensorImpl
  // is, sorted (empty: not made yet); which entries are the optimizer's; and at
  // which of them a role's columns have been filled in this step.
  std::vector<std::pair<const void*, std::size_t>> entry_of_;
  std::vector<std::uint8_t> chosen_;
  std::array<std::vector<std::uint8_t>, kRoleCount> filled_;
  std::vector<std::uint8_t> places_;
  StepData step_;
  // Those of step_, by role; null: no such role.
  std::array<RoleColumns*, kRoleCount> columns_{};
  HistogramSlots histograms_{&step_.histograms};
  WorkList work_;
  SparseReducer sparse_;
  std::vector<std::size_t> sparse_entries_;  // Of the role that is filled.
  std::uint64_t copy_bytes_ = 0;
  std::unique_ptr<DeviceStep> device_;  // Null: no tensor needed it yet.
  std::uint64_t device_copy_bytes_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_
