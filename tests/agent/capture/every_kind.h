// A network with one parameter of each kind that capture must know.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_EVERY_KIND_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_EVERY_KIND_H_

#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace gradtap::testing {

struct EveryKind : torch::nn::Module {
  EveryKind() {
    using torch::nn::EmbeddingOptions;
    linear = register_module("linear", torch::nn::Linear(8, 5));
    conv = register_module(
        "conv", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 2, 3)));
    norm = register_module("norm", torch::nn::BatchNorm1d(5));
    embedding = register_module("embedding", torch::nn::Embedding(20, 8));
    sparse = register_module(
        "sparse", torch::nn::Embedding(EmbeddingOptions(30, 8).sparse(true)));
    frozen = register_module("frozen", torch::nn::Linear(5, 5));
    frozen->weight.set_requires_grad(false);
    frozen->bias.set_requires_grad(false);
    tied = register_parameter("tied", embedding->weight);
    transposed = register_parameter("transposed", torch::randn({4, 6}).t());
    expanded =
        register_parameter("strided", torch::randn({9, 10}).slice(1, 0, 10, 3));
    half = register_parameter("half", torch::randn({7}).to(torch::kFloat16));
    bfloat =
        register_parameter("bfloat", torch::randn({7}).to(torch::kBFloat16));
    doubles = register_parameter("double", torch::randn({6}, torch::kFloat64));
    complex =
        register_parameter("complex", torch::randn({3}, torch::kComplexFloat));
    empty = register_parameter("empty", torch::zeros({0, 3}));
    scalar = register_parameter("scalar", torch::tensor(0.5f));
    unused = register_parameter("unused", torch::ones({3}));
    nonfinite = register_parameter("nonfinite", torch::ones({4}));
    counts = register_parameter("counts", torch::arange(5, torch::kInt64),
                                /*requires_grad=*/false);
    ticks = register_buffer("ticks", torch::zeros({}, torch::kInt32));
    flags = register_buffer("flags", torch::tensor({true, false, true}));
    poisoned = register_buffer(
        "poisoned", torch::tensor({0.0, 1.0 / 0.0, -1.0 / 0.0, 0.0 / 0.0}));
  }

  // Uses each parameter but `unused`, wherever they are. Deterministic in
  // `step`.
  torch::Tensor Loss(std::int64_t step) {
    const torch::Device device = scalar.device();
    const torch::Tensor places =
        torch::tensor(
            std::vector<std::int64_t>{1, 2, 2, step % 20, (step * 7) % 20, 19})
            .to(device);
    torch::Tensor x = embedding->forward(places) + sparse->forward(places);
    x = norm->forward(linear->forward(x));
    torch::Tensor loss = frozen->forward(x).pow(2).mean();
    loss = loss + conv->forward(torch::ones({1, 1, 5, 5}, device)).pow(2).sum();
    loss = loss + (transposed * (step + 1)).sin().sum();
    loss = loss + expanded.pow(3).sum() + empty.sum() + scalar * scalar;
    loss = loss + half.to(torch::kFloat32).pow(2).sum();
    loss = loss + bfloat.to(torch::kFloat32).pow(2).sum();
    loss = loss + doubles.pow(2).sum().to(torch::kFloat32);
    loss = loss + complex.abs().pow(2).sum();
    // Gradients of +Inf, -Inf and NaN from the second step on.
    const float inf = step < 1 ? 1.0f : 1.0f / 0.0f;
    const torch::Tensor factors =
        torch::tensor({1.0f, inf, -inf, 0.0f * inf}).to(device);
    loss = loss + (nonfinite * factors).sum();
    const torch::NoGradGuard no_grad;
    ticks.add_(1);
    return loss;
  }

  torch::nn::Linear linear{nullptr}, frozen{nullptr};
  torch::nn::Conv2d conv{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Embedding embedding{nullptr}, sparse{nullptr};
  torch::Tensor tied, transposed, expanded, half, bfloat, doubles, complex,
      empty, scalar, unused, nonfinite, counts, ticks, flags, poisoned;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_EVERY_KIND_H_
