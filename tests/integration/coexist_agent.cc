#include "integration/coexist_agent.h"

#include <gradtap/agent.h>
#include <torch/torch.h>

#include "integration/models.h"

namespace gradtap::testing {

namespace {

class Handwritten : public torch::optim::SGD {
 public:
  using SGD::SGD;
  torch::Tensor step(LossClosure closure = nullptr) override {
    before(next++);
    return SGD::step(std::move(closure));
  }

  std::function<void(std::int64_t step)> before;
  std::int64_t next = 0;
};

}  // namespace

TrainedRun TrainWithAgent(
    const std::string& collector, const std::string& run, std::int64_t steps,
    const std::function<void()>& each_step,
    const std::function<void(std::int64_t step)>& in_optimizer) {
  torch::manual_seed(1);
  TinyModel model;
  const torch::optim::SGDOptions rate(0.05);
  torch::optim::SGD plain(model.parameters(), rate);
  Handwritten own(model.parameters(), rate);
  own.before = in_optimizer;
  torch::optim::Optimizer& optimizer =
      in_optimizer ? static_cast<torch::optim::Optimizer&>(own) : plain;
  AgentOptions options;
  options.collector = collector;
  options.run = run;
  options.overhead_budget = 0;  // Each step is looked at.
  options.shutdown_deadline = std::chrono::seconds(40);
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
