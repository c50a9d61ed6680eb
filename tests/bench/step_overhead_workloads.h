// What step_overhead trains: the models of both examples, and one of very many
// small parameters.
//
// Layer: tests/bench.

#ifndef GRADTAP_TESTS_BENCH_STEP_OVERHEAD_WORKLOADS_H_
#define GRADTAP_TESTS_BENCH_STEP_OVERHEAD_WORKLOADS_H_

#include <torch/torch.h>

#include <memory>
#include <string>
#include <vector>

namespace gradtap::bench {

// One thread.
class Workload {
 public:
  virtual ~Workload() = default;

  virtual torch::nn::Module& module() = 0;
  virtual torch::optim::Optimizer& optimizer() = 0;
  // A step up to its gradients: zero_grad, batch, forward, backward. Returns
  // the loss.
  virtual torch::Tensor Backward() = 0;
};

// "fashion_mnist" (batch 64, AdamW), "char_gpt" (8 x 64, AdamW), "many" (10,000
// parameters of 64 elements, SGD), "gpt_124m" (12 blocks of width 768, 8 x 256,
// AdamW: for a GPU). Data are made up: what they are costs nothing, and none has
// to be installed.
std::vector<std::string> WorkloadNames();
// On `device`. Throws std::invalid_argument for another name.
std::unique_ptr<Workload> MakeWorkload(const std::string& name,
                                       const torch::Device& device);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_STEP_OVERHEAD_WORKLOADS_H_
