// The one unit that includes torch/optim/optimizer.h.

#include <torch/optim/optimizer.h>

#include <utility>

#include "agent/capture/capture.h"

namespace gradtap::agent {

void CallOptimizerStep(torch::optim::Optimizer& optimizer) { optimizer.step(); }

void CallOptimizerStep(torch::optim::Optimizer& optimizer,
                       const std::function<at::Tensor()>& closure,
                       const std::function<void()>& evaluated,
                       at::Tensor* loss) {
  bool first = true;
  *loss = optimizer.step([&] {
    at::Tensor value = closure();
    if (std::exchange(first, false)) evaluated();
    return value;
  });
}

const std::type_info& TypeOf(const torch::optim::Optimizer& optimizer) {
  return typeid(optimizer);
}

void VisitParameters(const torch::optim::Optimizer& optimizer,
                     const std::function<void(const void* impl)>& visit) {
  for (const torch::optim::OptimizerParamGroup& group :
       optimizer.param_groups()) {
    for (const at::Tensor& parameter : group.params()) {
      if (parameter.defined()) visit(parameter.unsafeGetTensorImpl());
    }
  }
}

bool AddLearningRates(const torch::optim::Optimizer& optimizer,
                      std::vector<double>* rates) noexcept {
  try {
    for (const torch::optim::OptimizerParamGroup& group :
         optimizer.param_groups()) {
      if (rates->size() == rates->capacity()) break;
      if (!group.has_options()) return false;
      rates->push_back(group.options().get_lr());
    }
    return true;
  } catch (...) {  // OptimizerOptions::get_lr() that nobody has overridden.
    return false;
  }
}

}  // namespace gradtap::agent
