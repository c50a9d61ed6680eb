// A training program that trains until it is killed, and tells how far it got.
//
//   doomed_trainer PROGRESS SEED
//
// PROGRESS is the file of progress.h. The agent's options come from its
// environment.

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <iostream>
#include <string>

#include "faults/progress.h"
#include "gradtap/agent.h"
#include "integration/models.h"

namespace gradtap::testing {
namespace {

float Largest(const torch::Tensor& tensor) {
  const float* const first = tensor.data_ptr<float>();
  return *std::max_element(first, first + tensor.numel());
}

void Train(const std::string& path, std::uint64_t seed) {
  torch::manual_seed(seed);
  const SharedProgress progress(path);
  TinyModel model;
  const auto by_name = model.named_parameters();
  std::array<torch::Tensor, kTrained.size()> trained;
  for (std::size_t i = 0; i < trained.size(); ++i) {
    trained[i] = by_name[kTrained[i]];
  }
  torch::optim::SGD optimizer(model.parameters(),
                              torch::optim::SGDOptions(0.05).momentum(0.5));
  progress->attaching.store(true, std::memory_order_release);
  const auto tap = Agent::Attach(model);
  for (std::size_t step = 0; step < Progress::kCapacity; ++step) {
    StepReport& report = progress->steps[step];
    optimizer.zero_grad();
    const torch::Tensor loss = model.Backward(static_cast<std::int64_t>(step));
    report.loss = loss.item<double>();
    for (std::size_t i = 0; i < trained.size(); ++i) {
      report.largest_grad[i] = Largest(trained[i].grad());
    }
    tap->Step(optimizer, {{"loss", loss}});
    for (std::size_t i = 0; i < trained.size(); ++i) {
      report.largest_weight[i] = Largest(trained[i]);
    }
    progress->returned.store(step + 1, std::memory_order_release);
  }
}

}  // namespace
}  // namespace gradtap::testing

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: doomed_trainer PROGRESS SEED\n";
    return 2;
  }
  try {
    gradtap::testing::Train(argv[1], std::stoull(argv[2]));
  } catch (const std::exception& error) {
    std::cerr << "doomed_trainer: " << error.what() << '\n';
  }
  return 1;  // Nobody has killed it.
}
