// The public class. Wires nothing itself: agent_impl.cc does.

#include "agent/include/gradtap/agent.h"

#include <utility>

#include "agent/agent_impl.h"
#include "agent/capture/capture.h"
#include "agent/process_guard.h"

namespace gradtap {

Agent::Agent(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Agent::~Agent() {
  // A forked child must not touch what it inherited: its threads are not here.
  if (agent::IsForkedChild()) static_cast<void>(impl_.release());
}

std::unique_ptr<Agent> Agent::Attach(const torch::nn::Module& model,
                                     AgentOptions options) noexcept {
  return Attach({NamedModule("", model)}, std::move(options));
}

std::unique_ptr<Agent> Agent::Attach(std::vector<NamedModule> modules,
                                     AgentOptions options) noexcept {
  return std::unique_ptr<Agent>(new Agent(Impl::Create(
      [&](agent::CaptureOptions capture) {
        return agent::Capture::OfModules(std::move(modules),
                                         std::move(capture));
      },
      std::move(options))));
}

std::unique_ptr<Agent> Agent::Attach(std::vector<NamedTensor> tensors,
                                     AgentOptions options) noexcept {
  return std::unique_ptr<Agent>(new Agent(Impl::Create(
      [&](agent::CaptureOptions capture) {
        return agent::Capture::OfTensors(tensors, std::move(capture));
      },
      std::move(options))));
}

void Agent::Step(torch::optim::Optimizer& optimizer,
                 std::initializer_list<Scalar> scalars) {
  impl_->Step(optimizer, scalars);
}

void Agent::Step(torch::optim::Optimizer& optimizer,
                 const std::vector<Scalar>& scalars) {
  impl_->Step(optimizer, scalars);
}

void Agent::BeforeOptimizerStep() noexcept { impl_->Before(nullptr, nullptr); }

void Agent::BeforeOptimizerStep(torch::optim::Optimizer& optimizer) noexcept {
  impl_->Before(&optimizer, &optimizer);
}

void Agent::AfterOptimizerStep(std::initializer_list<Scalar> scalars) noexcept {
  impl_->After(scalars);
}

void Agent::AfterOptimizerStep(const std::vector<Scalar>& scalars) noexcept {
  impl_->After(scalars);
}

void Agent::StepSkipped(const std::string& reason,
                        std::initializer_list<Scalar> scalars) noexcept {
  impl_->Skipped(reason, scalars);
}

void Agent::SetLossScale(double scale) noexcept { impl_->SetLossScale(scale); }

void Agent::AfterBackward() noexcept { impl_->AfterBackward(nullptr); }

void Agent::AfterBackward(torch::optim::Optimizer& optimizer) noexcept {
  impl_->AfterBackward(&optimizer);
}

void Agent::SetStep(std::int64_t n) noexcept { impl_->SetStep(n); }

void Agent::Refresh() noexcept { impl_->Refresh(); }

FlushResult Agent::Flush(std::chrono::milliseconds deadline) noexcept {
  return impl_->Flush(deadline);
}

AgentStatus Agent::status() const { return impl_->status(); }

}  // namespace gradtap
