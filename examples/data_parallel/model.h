// A multilayer perceptron for Fashion-MNIST: 28 x 28 grey pixels to 10 classes,
// 52,650 weights. Nothing in it depends on more than one image, so the mean of
// the gradients of equal parts of a batch is the gradient of the batch.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_DATA_PARALLEL_MODEL_H_
#define GRADTAP_EXAMPLES_DATA_PARALLEL_MODEL_H_

#include <torch/torch.h>

namespace examples {

struct MlpImpl : torch::nn::Module {
  MlpImpl() {
    register_module("fc1", fc1);
    register_module("fc2", fc2);
    register_module("fc3", fc3);
  }

  torch::Tensor forward(torch::Tensor x) {
    x = torch::relu(fc1(x.flatten(1)));
    return fc3(torch::relu(fc2(x)));
  }

  torch::nn::Linear fc1{28 * 28, 64}, fc2{64, 32}, fc3{32, 10};
};
TORCH_MODULE(Mlp);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_DATA_PARALLEL_MODEL_H_
