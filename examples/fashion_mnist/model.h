// A small convolutional network for Fashion-MNIST.
//
// Layer: examples.

#ifndef GRADTAP_EXAMPLES_FASHION_MNIST_MODEL_H_
#define GRADTAP_EXAMPLES_FASHION_MNIST_MODEL_H_

#include <torch/torch.h>

namespace examples {

// 28 x 28 grey pixels to 10 classes; 206,346 weights.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    for (auto* norm : {&norm1, &norm2, &norm3}) (*norm)->train();
    register_module("conv1", conv1);
    register_module("norm1", norm1);
    register_module("conv2", conv2);
    register_module("norm2", norm2);
    register_module("conv3", conv3);
    register_module("norm3", norm3);
    register_module("fc1", fc1);
    register_module("fc2", fc2);
  }

  torch::Tensor forward(torch::Tensor x) {
    x = torch::max_pool2d(torch::relu(norm1(conv1(x))), 2);
    x = torch::max_pool2d(torch::relu(norm2(conv2(x))), 2);
    x = torch::max_pool2d(torch::relu(norm3(conv3(x))), 2);
    return fc2(torch::relu(fc1(x.flatten(1))));
  }

  torch::nn::Conv2d conv1{torch::nn::Conv2dOptions(1, 32, 3).padding(1)};
  torch::nn::Conv2d conv2{torch::nn::Conv2dOptions(32, 64, 3).padding(1)};
  torch::nn::Conv2d conv3{torch::nn::Conv2dOptions(64, 64, 3).padding(1)};
  torch::nn::BatchNorm2d norm1{32}, norm2{64}, norm3{64};
  torch::nn::Linear fc1{64 * 3 * 3, 256}, fc2{256, 10};
};
TORCH_MODULE(Net);

}  // namespace examples

#endif  // GRADTAP_EXAMPLES_FASHION_MNIST_MODEL_H_
