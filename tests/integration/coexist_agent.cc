#include "integration/coexist_agent.h"

#include <gradtap/agent.h>
#include <torch/torch.h>

#include "integration/models.h"

namespace gradtap::testing {

namespace {

class Handwritten : public torch::optim::SGD {
  using SGD::SGD;
};

}  // namespace

TrainedRun TrainWithAgent(const std::string& collector, const std::string& run,
                          std::int64_t steps,
                          const std::function<void()>& each_step,
                          bool handwritten) {
  torch::manual_seed(1);
  TinyModel model;
  const torch::optim::SGDOptions rate(0.05);
  torch::optim::SGD plain(model.parameters(), rate);
  Handwritten own(model.parameters(), rate);
  torch::optim::Optimizer& optimizer =
      handwritten ? static_cast<torch::optim::Optimizer&>(own) : plain;
  AgentOptions options;
  options.collector = collector;
  options.run = run;
  options.overhead_budget = 0;  // Each step is looked at.
  auto tap = Agent::Attach(model, options);
  for (std::int64_t step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    const torch::Tensor loss = model.Backward(step);
    tap->Step(optimizer, {{"loss", loss}});
    if (each_step) each_step();
  }
  TrainedRun trained;
  trained.delivered = tap->Flush(std::chrono::seconds(40)).delivered;
  const AgentStatus status = tap->status();
  trained.seen = status.steps_seen;
  trained.recorded = status.steps_recorded;
  trained.skipped = status.steps_skipped;
  trained.lost = status.steps_lost;
  trained.acknowledged = status.steps_acknowledged;
  return trained;
}

}  // namespace gradtap::testing
