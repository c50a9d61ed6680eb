// What the agent sees of LibTorch: a table of parameters, and one step's
// statistics.
//
// Nothing here changes a tensor, calls an ATen operation, or touches autograd
// or the random number generators: tensors are read where they lie.
//
// Layer: agent/capture. This file: std, absl, core; torch types by forward
// declaration.

#ifndef GRADTAP_AGENT_CAPTURE_CAPTURE_H_
#define GRADTAP_AGENT_CAPTURE_CAPTURE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <typeinfo>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/include/gradtap/agent.h"
#include "core/name_filter.h"
#include "core/schema.h"
#include "core/step_data.h"

namespace gradtap::agent {

// Plain data.
struct CaptureOptions {
  RoleOptions roles;
  // Which names are recorded, and which of them each rank holds a part of.
  NameFilter filter;
  NameFilter sharded;
  bool any_sharded = false;
  // Histograms of every record at steps divisible by it; 0: none.
  std::int64_t histogram_interval_steps = 0;
  // Reduce tensors on the CPU as those on other devices are: for tests.
  bool force_device_path = false;
  // One line for a person. [Threading] the caller's. [Locking] none.
  // [Exceptions] must not throw.
  std::function<void(const std::string& message)> report;
};

// [Threading] One thread at a time: the training loop's.
//
// A step goes: BeginStep(), ReduceGradients(kGradLocal) if the loop asks for
// it, ReduceGradients(kGrad), the optimizer, ReduceWeights(). Then step() holds
// its columns until the next BeginStep(). Nothing is allocated by a step unless
// the model changed, or a gradient is sparse.
//
// What LibTorch throws is caught here and becomes kInternal with its first
// line; then step()'s columns are not to be used.
class Capture {
 public:
  // The modules must outlive the object. Nothing is walked yet.
  static std::unique_ptr<Capture> OfModules(std::vector<NamedModule> modules,
                                            CaptureOptions options);
  // Keeps the tensors alive.
  static std::unique_ptr<Capture> OfTensors(
      const std::vector<NamedTensor>& tensors, CaptureOptions options);

  virtual ~Capture() = default;

  // Compares what it holds with what the tensors are now, and walks the modules
  // again if one differs, if 256 steps have passed since the last walk, after
  // Refresh() and the first time. If the table is another then, schema() has
  // the next schema_id, from 1. Does nothing if the step has begun already.
  virtual absl::Status BeginStep(std::int64_t step) noexcept = 0;

  // Fills the columns of kGrad or kGradLocal; after BeginStep(). The first
  // kGradLocal adds the role to the schema; at the next step only, if gradients
  // of this one are in its columns already.
  virtual absl::Status ReduceGradients(Role role) noexcept = 0;

  // The same for that optimizer's parameters alone. The others' columns stay as
  // earlier calls of this step left them; absent if there was none.
  virtual absl::Status ReduceGradientsOf(
      Role role, const torch::optim::Optimizer& optimizer) noexcept = 0;

  // One that the loop steps with. The first of its type comes into the schema,
  // which is a new one then, once TakeNewSchema() is asked.
  virtual void NoteOptimizer(
      const torch::optim::Optimizer& optimizer) noexcept = 0;

  // What is recorded of gradients from now on is multiplier * gradient: the
  // inverse of a loss scale that the loop leaves on them. Finite, not zero.
  virtual void SetGradientMultiplier(double multiplier) noexcept = 0;

  // Fills the columns of weights, updates and buffers, and keeps the weights;
  // after BeginStep(). Ends the step.
  virtual absl::Status ReduceWeights() noexcept = 0;

  // True after ReduceWeights() if columns (or scalars of LaterScalar()) come
  // from another device and are on their way: step() is complete after
  // FinishStep() only, which waits for the copy. It is to be called before the
  // next BeginStep(), and may be called by a thread that is not the training
  // loop's while that one makes no call. Does nothing otherwise.
  virtual bool deferred() const = 0;
  virtual absl::Status FinishStep() noexcept = 0;

  // A scalar on another device: copied with the step's statistics, written to
  // step().scalars[index].value by FinishStep(). Before ReduceWeights().
  // False: the tensor is on the CPU, or is not one element: see ReadScalar().
  virtual bool LaterScalar(const at::Tensor& tensor,
                           std::size_t index) noexcept = 0;

  // A step without columns can have such scalars too: between these two
  // LaterScalar() takes them. EndSkipped() sends them on their way: deferred()
  // then, if there are any. FinishSkipped() waits for them, before the next
  // BeginStep() or BeginSkipped(), and writes them to step->scalars. If either
  // fails they are lost, and nothing was written. BeginSkipped() is an
  // AbandonStep().
  virtual void BeginSkipped() noexcept = 0;
  virtual absl::Status EndSkipped() noexcept = 0;
  virtual absl::Status FinishSkipped(StepData* step) noexcept = 0;

  // Returns when FinishStep() or FinishSkipped() would not wait. If it fails,
  // what was on its way is lost, and neither is to be called.
  virtual absl::Status AwaitResults() noexcept = 0;
  // The time that other devices have spent on columns and copies, as far as
  // AwaitResults() found it done and no earlier call said it; of several, the
  // longest. 0 where that cannot be measured: everywhere but on CUDA.
  virtual std::chrono::nanoseconds TakeDeviceTime() noexcept = 0;

  // Ends a step without columns.
  virtual void AbandonStep() noexcept = 0;

  // Keeps the weights as they are, for the next step's updates, if updates are
  // observed and a copy exists. One pass.
  virtual void KeepWeights() noexcept = 0;
  // The next step's updates are absent.
  virtual void ForgetWeights() noexcept = 0;

  // Walks at the next BeginStep().
  virtual void Refresh() noexcept = 0;

  // Valid after the first BeginStep() that succeeded.
  virtual const Schema& schema() const = 0;
  // True once for each table, when schema() is to be sent: before the first
  // step that refers to it, which may be the one in step(). A table that was
  // never asked for takes no id.
  virtual bool TakeNewSchema() noexcept = 0;
  // Its roles and schema_id are the capture's; the rest is the caller's.
  virtual StepData& step() = 0;

  // Bytes of the copy of the weights, and of the scratch for sparse gradients.
  virtual std::uint64_t weight_copy_bytes() const = 0;
  virtual std::uint64_t sparse_scratch_bytes() const = 0;
};

// The table of `model` that passes `filter`, without roles. Throws what
// LibTorch throws.
std::vector<Parameter> ListParameters(const torch::nn::Module& model,
                                      const NameFilter& filter);

// The value of a tensor of one element on the CPU, of any dtype; complex ones
// by magnitude. Waits for nothing. kInvalidArgument says what it is instead.
absl::StatusOr<double> ReadScalar(const at::Tensor& tensor) noexcept;

// optimizer.step(); throws what that throws.
void CallOptimizerStep(torch::optim::Optimizer& optimizer);
// *loss = optimizer.step(closure); `evaluated` is called once, after the first
// call of the closure, if that returns.
void CallOptimizerStep(torch::optim::Optimizer& optimizer,
                       const std::function<at::Tensor()>& closure,
                       const std::function<void()>& evaluated,
                       at::Tensor* loss);

// The most derived type.
const std::type_info& TypeOf(const torch::optim::Optimizer& optimizer);

// Calls `visit` with the TensorImpl of each of the optimizer's parameters.
void VisitParameters(const torch::optim::Optimizer& optimizer,
                     const std::function<void(const void* impl)>& visit);

// Adds the learning rates of the optimizer's parameter groups to `*rates`, in
// order, as long as that has capacity: allocates nothing. False: a group does
// not tell its own (a hand-written optimizer's options).
bool AddLearningRates(const torch::optim::Optimizer& optimizer,
                      std::vector<double>* rates) noexcept;

// "1.13.1".
std::string TorchVersion();

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_CAPTURE_H_
