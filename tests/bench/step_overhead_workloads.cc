#include "bench/step_overhead_workloads.h"

#include <stdexcept>

#include "examples/char_gpt/model.h"
#include "examples/fashion_mnist/model.h"

namespace gradtap::bench {
namespace {

namespace F = torch::nn::functional;

class FashionMnist : public Workload {
 public:
  explicit FashionMnist(const torch::Device& device)
      : images_(torch::randint(256, {kExamples, 1, 28, 28}, torch::kByte)
                    .to(device)),
        labels_(torch::randint(10, {kExamples}, torch::kLong).to(device)) {
    net_->to(device);
  }
  torch::nn::Module& module() override { return *net_; }
  torch::optim::Optimizer& optimizer() override { return optimizer_; }

  torch::Tensor Backward() override {
    const torch::Tensor rows =
        torch::randint(kExamples, {kBatch}, labels_.options());
    const torch::Tensor images =
        (images_.index_select(0, rows).to(torch::kFloat) / 255 - 0.2860) /
        0.3530;
    optimizer_.zero_grad();
    const torch::Tensor loss =
        F::cross_entropy(net_->forward(images), labels_.index_select(0, rows));
    loss.backward();
    return loss;
  }

 private:
  static constexpr std::int64_t kExamples = 4096, kBatch = 64;
  const torch::Tensor images_, labels_;
  examples::Net net_;
  torch::optim::AdamW optimizer_{net_->parameters(),
                                 torch::optim::AdamWOptions(1e-3)};
};

class CharGpt : public Workload {
 public:
  CharGpt(const examples::GptOptions& options, const torch::Device& device)
      : options_(options),
        text_(torch::randint(options.vocabulary, {kText}, torch::kLong)
                  .to(device)) {
    model_->to(device);
  }
  torch::nn::Module& module() override { return *model_; }
  torch::optim::Optimizer& optimizer() override { return optimizer_; }

  torch::Tensor Backward() override {
    std::vector<torch::Tensor> inputs, targets;
    const torch::Tensor starts =
        torch::randint(kText - options_.context - 1, {kBatch}, torch::kLong);
    for (std::int64_t i = 0; i < kBatch; ++i) {
      const auto start = starts[i].item<std::int64_t>();
      inputs.push_back(text_.narrow(0, start, options_.context));
      targets.push_back(text_.narrow(0, start + 1, options_.context));
    }
    optimizer_.zero_grad();
    const torch::Tensor logits = model_->forward(torch::stack(inputs));
    const torch::Tensor loss =
        F::cross_entropy(logits.view({-1, options_.vocabulary}),
                         torch::stack(targets).view({-1}));
    loss.backward();
    return loss;
  }

 private:
  static constexpr std::int64_t kText = 30000, kBatch = 8;

  const examples::GptOptions options_;
  const torch::Tensor text_;
  examples::Gpt model_{options_};
  torch::optim::AdamW optimizer_{examples::UniqueParameters(*model_),
                                 torch::optim::AdamWOptions(1e-3)};
};

examples::GptOptions SmallGpt() {
  examples::GptOptions options;
  options.vocabulary = 76;  // As many as the GPL's text has.
  return options;
}

examples::GptOptions Gpt124m() {
  examples::GptOptions options;
  options.vocabulary = 50304;
  options.blocks = 12;
  options.width = 768;
  options.heads = 12;
  options.context = 256;
  return options;
}

// As little work around the parameters as autograd allows, and the cheapest
// optimizer: the harshest case for what looks at each of them.
class ManyNet : public torch::nn::Module {
 public:
  ManyNet() {
    for (int i = 0; i < 10000; ++i) {
      register_parameter("p" + std::to_string(i), torch::randn({64}) * 0.1);
    }
  }
};

class Many : public Workload {
 public:
  explicit Many(const torch::Device& device) { net_.to(device); }

  torch::nn::Module& module() override { return net_; }
  torch::optim::Optimizer& optimizer() override { return optimizer_; }

  torch::Tensor Backward() override {
    optimizer_.zero_grad();
    const torch::Tensor all = torch::cat(parameters_);
    const torch::Tensor loss = (all * torch::randn_like(all)).square().mean();
    loss.backward();
    return loss;
  }

 private:
  ManyNet net_;
  const std::vector<torch::Tensor> parameters_ = net_.parameters();
  torch::optim::SGD optimizer_{parameters_, torch::optim::SGDOptions(0.01)};
};

}  // namespace

std::vector<std::string> WorkloadNames() {
  return {"fashion_mnist", "char_gpt", "many", "gpt_124m"};
}

std::unique_ptr<Workload> MakeWorkload(const std::string& name,
                                       const torch::Device& device) {
  if (name == "fashion_mnist") return std::make_unique<FashionMnist>(device);
  if (name == "char_gpt") return std::make_unique<CharGpt>(SmallGpt(), device);
  if (name == "many") return std::make_unique<Many>(device);
  if (name == "gpt_124m") return std::make_unique<CharGpt>(Gpt124m(), device);
  throw std::invalid_argument(
      "no model '" + name +
      "'; there are fashion_mnist, char_gpt, many, gpt_124m");
}

}  // namespace gradtap::bench
