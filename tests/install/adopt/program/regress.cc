// A training program like any other, that has not heard of gradtap: it fits a
// sine with a small network.

#include <torch/torch.h>

#include <cstdio>

struct Net : torch::nn::Module {
  Net() {
    hidden = register_module("hidden", torch::nn::Linear(1, 32));
    output = register_module("output", torch::nn::Linear(32, 1));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    return output(torch::tanh(hidden(x)));
  }

  torch::nn::Linear hidden{nullptr}, output{nullptr};
};

int main() {
  torch::manual_seed(1);
  Net net;
  torch::optim::Adam optimizer(net.parameters(), 0.01);

  float last = 0;
  for (int step = 0; step < 200; ++step) {
    const torch::Tensor x = torch::rand({64, 1}) * 6.28;
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(net.forward(x), torch::sin(x));
    loss.backward();
    optimizer.step();
    last = loss.item<float>();
  }
  std::printf("loss after 200 steps: %.3f\n", last);
}
