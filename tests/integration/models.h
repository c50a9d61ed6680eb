// Models that tests train: small, and odd in every way that the agent must
// bear.

#ifndef GRADTAP_TESTS_INTEGRATION_MODELS_H_
#define GRADTAP_TESTS_INTEGRATION_MODELS_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gradtap::testing {

class Model : public torch::nn::Module {
 public:
  // The loss of a batch drawn from torch's generator, with its gradients made.
  virtual torch::Tensor Backward(std::int64_t step) = 0;

  // Each parameter once, whatever it is tied to.
  std::vector<torch::Tensor> UniqueParameters() const;
};

// fc1 (4 to 8), norm (batch norm), fc2 (8 to 2).
class TinyModel : public Model {
 public:
  TinyModel();
  torch::Tensor Backward(std::int64_t step) override;

 private:
  torch::nn::Linear fc1_{4, 8}, fc2_{8, 2};
  torch::nn::BatchNorm1d norm_{8};
};

// A convolution, a batch norm, an embedding, a linear, a frozen linear, the
// embedding's weight again as "head.weight", and parameters of their own:
// "transposed" (not contiguous), "half", "bfloat", "wide" (float64), "empty",
// "scale" (0-dim), "late" (used from step 7 on, so without a gradient before),
// "never". Buffers besides the batch norm's: "flags" (bool).
class MixedModel : public Model {
 public:
  MixedModel();
  torch::Tensor Backward(std::int64_t step) override;

 private:
  torch::nn::Conv2d conv_{torch::nn::Conv2dOptions(1, 4, 3)};
  torch::nn::BatchNorm2d norm_{4};
  torch::nn::Embedding embed_{11, 6};
  torch::nn::Linear linear_{64, 6};
  torch::nn::Linear frozen_{6, 6};
  std::shared_ptr<torch::nn::Module> head_;
  torch::Tensor transposed_, half_, bfloat_, wide_, empty_, scale_, late_,
      never_, flags_;
};

// `layers` small linear layers in nested modules: 2 * layers parameters. Its
// gradients are random numbers.
class ManyModel : public Model {
 public:
  explicit ManyModel(std::int64_t layers);
  torch::Tensor Backward(std::int64_t step) override;
};

// "tiny", "mixed" or "many:LAYERS". Throws std::invalid_argument.
std::shared_ptr<Model> MakeModel(const std::string& what);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_MODELS_H_
