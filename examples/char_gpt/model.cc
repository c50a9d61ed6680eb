#include "examples/char_gpt/model.h"

#include <cmath>
#include <limits>
#include <unordered_set>

namespace examples {

BlockImpl::BlockImpl(const GptOptions& o)
    : heads(o.heads),
      norm1(torch::nn::LayerNormOptions({o.width})),
      norm2(torch::nn::LayerNormOptions({o.width})),
      qkv(o.width, 3 * o.width),
      proj(o.width, o.width),
      up(o.width, 4 * o.width),
      down(4 * o.width, o.width) {
  register_module("norm1", norm1);
  register_module("qkv", qkv);
  register_module("proj", proj);
  register_module("norm2", norm2);
  register_module("up", up);
  register_module("down", down);
}

torch::Tensor BlockImpl::forward(const torch::Tensor& x,
                                 const torch::Tensor& mask) {
  const std::int64_t batch = x.size(0), time = x.size(1), width = x.size(2);
  const auto parts = qkv(norm1(x)).chunk(3, -1);
  const auto split = [&](const torch::Tensor& t) {
    return t.view({batch, time, heads, width / heads}).transpose(1, 2);
  };
  const torch::Tensor q = split(parts[0]);
  const torch::Tensor k = split(parts[1]);
  const torch::Tensor v = split(parts[2]);
  const double scale = 1 / std::sqrt(static_cast<double>(width / heads));
  const torch::Tensor attention =
      torch::softmax(torch::matmul(q, k.transpose(-2, -1)) * scale + mask, -1);
  const torch::Tensor mixed =
      torch::matmul(attention, v).transpose(1, 2).reshape({batch, time, width});
  const torch::Tensor y = x + proj(mixed);
  return y + down(torch::gelu(up(norm2(y))));
}

GptImpl::GptImpl(const GptOptions& o)
    : options(o),
      tokens(o.vocabulary, o.width),
      positions(o.context, o.width),
      norm(torch::nn::LayerNormOptions({o.width})) {
  register_module("tokens", tokens);
  register_module("positions", positions);
  for (std::int64_t i = 0; i < o.blocks; ++i) blocks->push_back(Block(o));
  register_module("blocks", blocks);
  register_module("norm", norm);
  {
    torch::NoGradGuard no_grad;
    for (auto& weight : {tokens->weight, positions->weight}) {
      torch::nn::init::normal_(weight, 0, 0.02);
    }
  }
  head = register_module("head", TiedHead(tokens->weight));
  mask = register_buffer("mask",
                         torch::full({o.context, o.context},
                                     -std::numeric_limits<float>::infinity())
                             .triu(1));
}

torch::Tensor GptImpl::forward(const torch::Tensor& index) {
  const std::int64_t time = index.size(1);
  torch::Tensor x =
      tokens(index) + positions(torch::arange(time, index.options()));
  const torch::Tensor window = mask.narrow(0, 0, time).narrow(1, 0, time);
  for (const auto& block : *blocks) {
    x = block->as<Block>()->forward(x, window);
  }
  return head(norm(x));
}

std::vector<torch::Tensor> UniqueParameters(const torch::nn::Module& module) {
  std::vector<torch::Tensor> unique;
  std::unordered_set<const void*> seen;
  for (const torch::Tensor& parameter : module.parameters()) {
    if (seen.insert(parameter.unsafeGetTensorImpl()).second) {
      unique.push_back(parameter);
    }
  }
  return unique;
}

}  // namespace examples
