#include "bench/step_overhead_pass.h"

#include <cstddef>

#include "bench/bandwidth_probe.h"
#include "examples/char_gpt/model.h"

namespace gradtap::bench {
namespace {

constexpr int kWay = 1;  // The widest vectors, with prefetching.

char* Bytes(const torch::Tensor& tensor) {
  return static_cast<char*>(tensor.data_ptr());
}

std::size_t Lots(const torch::Tensor& tensor) {
  return tensor.nbytes() / 512 * 512;
}

}  // namespace

PlainPass::PlainPass(const torch::nn::Module& module)
    : parameters_(examples::UniqueParameters(module)),
      buffers_(module.buffers()) {
  torch::NoGradGuard no_grad;
  for (const torch::Tensor& weight : parameters_) {
    previous_.push_back(weight.detach().clone());
  }
}

void PlainPass::BeforeOptimizerStep() {
  for (const torch::Tensor& weight : parameters_) {
    const torch::Tensor& grad = weight.grad();
    if (grad.defined()) sum_ += ReadAll(kWay, Bytes(grad), Lots(grad));
  }
}

void PlainPass::AfterOptimizerStep() {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    sum_ += ReadBothWriteOne(kWay, Bytes(parameters_[i]), Bytes(previous_[i]),
                             Lots(parameters_[i]));
  }
  for (const torch::Tensor& buffer : buffers_) {
    sum_ += ReadAll(kWay, Bytes(buffer), Lots(buffer));
  }
}

}  // namespace gradtap::bench
