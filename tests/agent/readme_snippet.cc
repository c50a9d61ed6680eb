// The loop that the README shows, as C++17 without a warning, linked against
// the library and LibTorch alone. Run with no collector there: it trains and
// ends.

#include <gradtap/agent.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/sgd.h>

int main() {
  torch::nn::Linear model(3, 1);
  torch::optim::SGD optimizer(model->parameters(), 0.1);

  gradtap::AgentOptions options;
  options.run = "fashion-mnist";
  auto tap = gradtap::Agent::Attach(*model, options);
  for (int i = 0; i < 3; ++i) {
    optimizer.zero_grad();
    auto loss = model->forward(torch::ones({2, 3})).pow(2).mean();
    loss.backward();
    tap->Step(optimizer, {{"loss", loss}});  // instead of optimizer.step()
  }
}
