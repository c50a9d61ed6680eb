// What stands in the training loop where the optimizer's step is: the optimizer
// alone, the agent in several states, a chain of ATen operations, a plain pass
// over the same memory.
//
// Layer: tests/bench.

#ifndef GRADTAP_TESTS_BENCH_STEP_OVERHEAD_MODES_H_
#define GRADTAP_TESTS_BENCH_STEP_OVERHEAD_MODES_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>

namespace gradtap::bench {

// [Threading] The training loop's thread.
class Mode {
 public:
  explicit Mode(std::string name) : name_(std::move(name)) {}
  virtual ~Mode() = default;

  const std::string& name() const { return name_; }

  virtual void Step(torch::optim::Optimizer& optimizer,
                    const torch::Tensor& loss) = 0;
  // Not timed: what the block has left behind must not run into the next one.
  virtual void EndBlock() {}
  // Time of its own on this thread, all steps together; 0 where there is none.
  virtual double OwnSeconds() const { return 0; }
  // Records of all steps together, in bytes.
  virtual double Bytes() const { return 0; }
  // Why it is not what it says, whatever its times are; empty: it is.
  virtual std::string Trouble() const { return ""; }
  // What makes its times worth less than they seem; empty: nothing.
  virtual std::string Remark() const { return ""; }

 private:
  const std::string name_;
};

std::unique_ptr<Mode> PlainMode();
std::unique_ptr<Mode> DisabledMode(const torch::nn::Module& module);
// A real collector at `collector`. Every step, all roles, no budget.
std::unique_ptr<Mode> AgentMode(const torch::nn::Module& module,
                                const std::string& collector,
                                const std::string& run,
                                std::uint64_t ring_bytes);
// The same, but nobody listens: records stay in a ring of `ring_bytes`.
std::unique_ptr<Mode> AwayMode(const torch::nn::Module& module,
                               std::uint64_t ring_bytes);
std::unique_ptr<Mode> AtenMode(const torch::nn::Module& module);
std::unique_ptr<Mode> PassMode(const torch::nn::Module& module);

// Nanoseconds that a call on a disabled agent takes, the least of several
// rounds.
struct DisabledCalls {
  double step = 0;              // Step(optimizer).
  double step_with_scalar = 0;  // Step(optimizer, {{"loss", loss}}).
  double pieces = 0;            // Before- and AfterOptimizerStep(), each.
};
DisabledCalls TimeDisabledCalls(std::int64_t calls);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_STEP_OVERHEAD_MODES_H_
