// What a person would write with LibTorch alone to have the agent's record of
// every parameter at every step.
//
// Layer: tests/bench.

#ifndef GRADTAP_TESTS_BENCH_STEP_OVERHEAD_CHAIN_H_
#define GRADTAP_TESTS_BENCH_STEP_OVERHEAD_CHAIN_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace gradtap::bench {

// std_mean, aminmax, abs().mean() and four counts, read back to numbers, of
// each gradient before the step, and of each weight, update and buffer after
// it. One thread: the training loop's.
class AtenChain {
 public:
  explicit AtenChain(const torch::nn::Module& module);

  void BeforeOptimizerStep();
  void AfterOptimizerStep();

  // Records that one step makes.
  std::uint64_t records() const {
    return 3 * parameters_.size() + buffers_.size();
  }
  // Of the newest step, nine numbers a record.
  const std::vector<double>& numbers() const { return numbers_; }

 private:
  void Record(const torch::Tensor& tensor);

  std::vector<torch::Tensor> parameters_;  // Tied ones once.
  std::vector<torch::Tensor> previous_;
  std::vector<torch::Tensor> buffers_;
  std::vector<double> numbers_;
};

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_STEP_OVERHEAD_CHAIN_H_
