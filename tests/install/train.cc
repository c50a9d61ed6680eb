// The three lines, in somebody else's program. With no collector it trains on.

#include <gradtap/agent.h>
#include <torch/torch.h>

#include <iostream>

int main() {
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(4, 8), torch::nn::ReLU(),
                              torch::nn::Linear(8, 1));
  torch::optim::SGD optimizer(model->parameters(), 0.1);

  gradtap::AgentOptions options;
  options.run = "installed";
  options.collector = "127.0.0.1:1";
  options.shutdown_deadline = std::chrono::milliseconds(50);
  auto tap = gradtap::Agent::Attach(*model, options);
  for (int step = 0; step < 5; ++step) {
    optimizer.zero_grad();
    auto loss = model->forward(torch::ones({2, 4})).pow(2).mean();
    loss.backward();
    tap->Step(optimizer, {{"loss", loss}});
  }

  const gradtap::AgentStatus status = tap->status();
  std::cout << gradtap::DescribeParameters(*model) << status.steps_recorded
            << " steps recorded\n";
  return status.steps_recorded == 5 ? 0 : 1;
}
