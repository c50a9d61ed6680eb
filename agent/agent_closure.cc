// The methods that return a tensor: the one unit here that sees what one is.

#include <ATen/core/Tensor.h>

#include "agent/agent_impl.h"
#include "agent/include/gradtap/agent.h"

namespace gradtap {

at::Tensor Agent::Step(torch::optim::Optimizer& optimizer,
                       const std::function<at::Tensor()>& closure,
                       std::initializer_list<Scalar> scalars) {
  at::Tensor loss;
  impl_->Step(optimizer, closure, scalars, &loss);
  return loss;
}

at::Tensor Agent::Step(torch::optim::Optimizer& optimizer,
                       const std::function<at::Tensor()>& closure,
                       const std::vector<Scalar>& scalars) {
  at::Tensor loss;
  impl_->Step(optimizer, closure, scalars, &loss);
  return loss;
}

}  // namespace gradtap
