#include "examples/amp/loss_scaler.h"

#include <torch/torch.h>

namespace examples {

bool LossScaler::Unscale(const std::vector<torch::Tensor>& parameters) {
  const torch::NoGradGuard no_grad;
  bool finite = true;
  for (const torch::Tensor& parameter : parameters) {
    torch::Tensor gradient = parameter.grad();
    if (!gradient.defined()) continue;
    gradient.mul_(1 / scale_);
    finite = finite && gradient.isfinite().all().item<bool>();
  }
  overflowed_ = !finite;
  return finite;
}

void LossScaler::Update() {
  if (overflowed_) {
    scale_ /= 2;
    good_steps_ = 0;
  } else if (++good_steps_ == growth_interval_) {
    scale_ *= 2;
    good_steps_ = 0;
  }
}

}  // namespace examples
