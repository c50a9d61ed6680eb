// What the agent's capture moves, moved without a statistic: the least that any
// record of every parameter costs a step.
//
// Layer: tests/bench.

#ifndef GRADTAP_TESTS_BENCH_STEP_OVERHEAD_PASS_H_
#define GRADTAP_TESTS_BENCH_STEP_OVERHEAD_PASS_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace gradtap::bench {

// The bandwidth probe (bandwidth_probe.h) over each gradient before the step,
// and over each weight and its copy, which is refreshed, and each buffer after
// it; in whole lots of 512 bytes. One thread: the training loop's. CPU tensors,
// contiguous, at addresses that are a multiple of 64.
class PlainPass {
 public:
  explicit PlainPass(const torch::nn::Module& module);

  void BeforeOptimizerStep();
  void AfterOptimizerStep();

  // What was read, added up: of use only so that it is read.
  std::uint64_t sum() const { return sum_; }

 private:
  std::vector<torch::Tensor> parameters_;  // Tied ones once.
  std::vector<torch::Tensor> previous_;
  std::vector<torch::Tensor> buffers_;
  std::uint64_t sum_ = 0;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_STEP_OVERHEAD_PASS_H_
