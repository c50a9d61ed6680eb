#include "bench/step_overhead_chain.h"

#include <tuple>

#include "examples/char_gpt/model.h"

namespace gradtap::bench {

AtenChain::AtenChain(const torch::nn::Module& module)
    : parameters_(examples::UniqueParameters(module)),
      buffers_(module.buffers()) {
  torch::NoGradGuard no_grad;
  for (const torch::Tensor& weight : parameters_) {
    previous_.push_back(weight.detach().clone());
  }
}

void AtenChain::BeforeOptimizerStep() {
  torch::NoGradGuard no_grad;
  numbers_.clear();
  for (const torch::Tensor& weight : parameters_) {
    if (weight.grad().defined()) Record(weight.grad());
  }
}

void AtenChain::AfterOptimizerStep() {
  torch::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Record(parameters_[i]);
    Record(parameters_[i] - previous_[i]);
    previous_[i].copy_(parameters_[i]);
  }
  for (const torch::Tensor& buffer : buffers_) Record(buffer);
}

void AtenChain::Record(const torch::Tensor& tensor) {
  const torch::Tensor x =
      tensor.is_floating_point() ? tensor : tensor.to(torch::kDouble);
  const auto [deviation, mean] = torch::std_mean(x, /*unbiased=*/false);
  const auto [least, largest] = torch::aminmax(x);
  const torch::Tensor absolute = x.abs().mean();
  for (const torch::Tensor& number :
       {deviation, mean, least, largest, absolute}) {
    numbers_.push_back(number.item<double>());
  }
  for (const torch::Tensor& which :
       {x.eq(0), x.isnan(), x.isposinf(), x.isneginf()}) {
    numbers_.push_back(which.sum().item<double>());
  }
}

}  // namespace gradtap::bench
