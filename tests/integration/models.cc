#include "integration/models.h"

#include <cstdlib>
#include <stdexcept>
#include <unordered_set>

namespace gradtap::testing {
namespace {

// A module that registers a tensor of somebody else.
class Tied : public torch::nn::Module {
 public:
  explicit Tied(const torch::Tensor& weight) {
    register_parameter("weight", weight);
  }
};

}  // namespace

std::vector<torch::Tensor> Model::UniqueParameters() const {
  std::vector<torch::Tensor> unique;
  std::unordered_set<const void*> seen;
  for (const torch::Tensor& parameter : parameters()) {
    if (seen.insert(parameter.unsafeGetTensorImpl()).second) {
      unique.push_back(parameter);
    }
  }
  return unique;
}

TinyModel::TinyModel() {
  register_module("fc1", fc1_);
  register_module("norm", norm_);
  register_module("fc2", fc2_);
}

torch::Tensor TinyModel::Backward(std::int64_t) {
  const torch::Tensor x = torch::randn({16, 4});
  const torch::Tensor y = fc2_(torch::relu(norm_(fc1_(x))));
  const torch::Tensor loss = (y - x.narrow(1, 0, 2)).pow(2).mean();
  loss.backward();
  return loss;
}

MixedModel::MixedModel() {
  register_module("conv", conv_);
  register_module("norm", norm_);
  register_module("embed", embed_);
  register_module("linear", linear_);
  register_module("frozen", frozen_);
  for (torch::Tensor& p : frozen_->parameters()) p.set_requires_grad(false);
  head_ = register_module("head", std::make_shared<Tied>(embed_->weight));
  transposed_ = register_parameter("transposed", torch::randn({7, 5}).t());
  half_ = register_parameter("half", torch::randn({3, 4}).to(torch::kHalf));
  bfloat_ =
      register_parameter("bfloat", torch::randn({9}).to(torch::kBFloat16));
  wide_ = register_parameter("wide", torch::randn({2, 3}, torch::kDouble));
  empty_ = register_parameter("empty", torch::empty({0, 3}));
  scale_ = register_parameter("scale", torch::tensor(1.5f));
  late_ = register_parameter("late", torch::randn({4}));
  never_ = register_parameter("never", torch::randn({3}));
  flags_ = register_buffer("flags", torch::tensor({true, false, true}));
}

torch::Tensor MixedModel::Backward(std::int64_t step) {
  const std::int64_t batch = 8;
  const torch::Tensor tokens = torch::randint(11, {batch}, torch::kLong);
  const torch::Tensor targets = torch::randint(11, {batch}, torch::kLong);
  torch::Tensor x =
      torch::relu(norm_(conv_(torch::randn({batch, 1, 6, 6})))).flatten(1);
  x = (frozen_(torch::relu(linear_(x))) + embed_(tokens)) * scale_;
  const torch::Tensor logits =
      torch::matmul(x, head_->named_parameters()["weight"].t());
  torch::Tensor loss = torch::nn::functional::cross_entropy(logits, targets) +
                       0.1 * (transposed_ * torch::randn({5, 7})).sum().pow(2) +
                       0.01 * half_.to(torch::kFloat).pow(2).sum() +
                       0.01 * bfloat_.to(torch::kFloat).pow(3).sum() +
                       0.01 * wide_.pow(2).sum().to(torch::kFloat) +
                       empty_.sum();
  if (step >= 7) loss = loss + 0.1 * late_.abs().sum();
  loss.backward();
  return loss.detach();
}

ManyModel::ManyModel(std::int64_t layers) {
  std::shared_ptr<torch::nn::Module> group;
  for (std::int64_t i = 0; i < layers; ++i) {
    if (i % 50 == 0) {
      group = register_module("group" + std::to_string(i / 50),
                              std::make_shared<torch::nn::Module>());
    }
    group->register_module("layer" + std::to_string(i % 50),
                           torch::nn::Linear(2, 2));
  }
}

torch::Tensor ManyModel::Backward(std::int64_t) {
  for (torch::Tensor& p : parameters()) {
    p.mutable_grad() = torch::randn_like(p);
  }
  return torch::tensor(0.0f);
}

std::shared_ptr<Model> MakeModel(const std::string& what) {
  if (what == "tiny") return std::make_shared<TinyModel>();
  if (what == "mixed") return std::make_shared<MixedModel>();
  if (what.rfind("many:", 0) == 0) {
    return std::make_shared<ManyModel>(std::atoll(what.c_str() + 5));
  }
  throw std::invalid_argument("no model '" + what + "'");
}

}  // namespace gradtap::testing
