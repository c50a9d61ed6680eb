// One step's statistics of the tensors of a table.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_
#define GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/capture/capture.h"
#include "agent/capture/module_walk.h"
#include "agent/capture/sparse_reduce.h"
#include "agent/capture/tensor_view.h"
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
  void SetGradientMultiplier(double multiplier) noexcept override {
    gradient_multiplier_ = multiplier;
  }
  absl::Status ReduceWeights() noexcept override;
  bool deferred() const override { return false; }
  absl::Status FinishStep() noexcept override { return absl::OkStatus(); }
  bool LaterScalar(const at::Tensor&, std::size_t) noexcept override {
    return false;
  }
  void AbandonStep() noexcept override { begun_ = false; }
  void KeepWeights() noexcept override;
  void ForgetWeights() noexcept override;
  void Refresh() noexcept override { refresh_ = true; }
  const Schema& schema() const override { return schema_; }
  bool TakeNewSchema() noexcept override;
  StepData& step() override { return step_; }
  std::uint64_t weight_copy_bytes() const override { return copy_bytes_; }
  std::uint64_t sparse_scratch_bytes() const override {
    return sparse_.scratch_bytes();
  }

 private:
  // One entry of the schema, at the same index.
  struct Entry {
    at::Tensor tensor;
    TensorFingerprint print;
    std::uint64_t numel = 0;
    std::uint64_t bytes = 0;
    // Place in the role's columns; -1: no such role.
    std::array<std::int32_t, kRoleCount> place{};
    // The elements after the last step, densely; null until there is one.
    std::unique_ptr<std::byte[]> previous;
    bool previous_valid = false;

    std::int32_t place_of(Role role) const {
      return place[static_cast<std::size_t>(role)];
    }
  };

  bool Changed() const;
  void WalkAgain(std::int64_t step);
  void TakeTable(std::vector<Parameter> parameters,
                 std::vector<at::Tensor> tensors);
  void LayOutColumns();
  RoleColumns* Columns(Role role);
  Moments Reduce(const at::Tensor& tensor);
  // False if a gradient cannot be recorded: its parameter lost the role, the
  // table is another, and the columns are to be filled again.
  bool FillGradients(Role role);
  void CheckWeight(std::size_t i) const;
  void ReduceWeight(std::size_t i);
  void AllocateCopy(Entry* e);

  const Walk walk_;
  CaptureOptions options_;
  bool grad_local_ = false;  // The loop asked for it once.
  bool grad_local_filled_ = false;
  double gradient_multiplier_ = 1;
  bool refresh_ = false;
  bool begun_ = false;
  bool schema_taken_ = false;
  std::int64_t last_walk_ = 0;
  std::map<std::string, std::string> without_gradients_;  // Name, reason.
  Schema schema_;
  std::vector<Entry> entries_;
  StepData step_;
  SparseReducer sparse_;
  std::uint64_t copy_bytes_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_STEP_CAPTURE_H_
