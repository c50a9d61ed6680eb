// A small GPT over characters, with the embedding's weight as the output's.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_CHAR_GPT_MODEL_H_
#define GRADTAP_EXAMPLES_CHAR_GPT_MODEL_H_

#include <torch/torch.h>

#include <cstdint>
#include <vector>

namespace examples {

struct GptOptions {
  std::int64_t vocabulary = 0;
  std::int64_t blocks = 6;
  std::int64_t width = 96;
  std::int64_t heads = 4;
  std::int64_t context = 64;
};

struct BlockImpl : torch::nn::Module {
  explicit BlockImpl(const GptOptions& options);
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& mask);

  const std::int64_t heads;
  torch::nn::LayerNorm norm1, norm2;
  torch::nn::Linear qkv, proj, up, down;
};
TORCH_MODULE(Block);

// Logits by a weight that belongs to another module.
struct TiedHeadImpl : torch::nn::Module {
  explicit TiedHeadImpl(const torch::Tensor& embedding)
      : weight(register_parameter("weight", embedding)) {}
  torch::Tensor forward(const torch::Tensor& x) {
    return torch::nn::functional::linear(x, weight);
  }
  torch::Tensor weight;
};
TORCH_MODULE(TiedHead);

struct GptImpl : torch::nn::Module {
  explicit GptImpl(const GptOptions& options);
  // batch x time of indices to batch x time x vocabulary.
  torch::Tensor forward(const torch::Tensor& index);

  const GptOptions options;
  torch::nn::Embedding tokens, positions;
  torch::nn::ModuleList blocks;
  torch::nn::LayerNorm norm;
  TiedHead head{nullptr};
  torch::Tensor mask;
};
TORCH_MODULE(Gpt);

// parameters() lists a tied tensor under each of its names; an optimizer that
// got it twice would move it twice.
std::vector<torch::Tensor> UniqueParameters(const torch::nn::Module& module);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_CHAR_GPT_MODEL_H_
