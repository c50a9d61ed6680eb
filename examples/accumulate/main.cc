// Trains a small network on batches that are taken in pieces: several backward
// passes add up to one gradient, which is clipped and then used once.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <vector>

#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

constexpr double kMaxNorm = 1;

struct Points {
  torch::Tensor x;  // count x 1.
  torch::Tensor y;
};

Points SinePoints(std::int64_t count) {
  const torch::Tensor x = torch::rand({count, 1}) * 4 - 2;
  return {x, (3 * x).sin()};
}

double TestLoss(torch::nn::Sequential& model) {
  const torch::NoGradGuard no_grad;
  const Points test = SinePoints(2000);
  return F::mse_loss(model->forward(test.x), test.y).item<double>();
}

void Train(const TrainOptions& options, std::int64_t pieces) {
  torch::manual_seed(options.seed);
  if (options.threads > 0) torch::set_num_threads(options.threads);
  torch::nn::Sequential model(torch::nn::Linear(1, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 1));
  const std::vector<torch::Tensor> parameters = model->parameters();
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(5e-3));

  gradtap::AgentOptions tap_options;                       // gradtap
  tap_options.run = options.run;                           // gradtap
  auto tap = gradtap::Agent::Attach(*model, tap_options);  // gradtap

  const double at_first = TestLoss(model);
  ProgressOptions progress_options;
  progress_options.steps = options.steps;
  progress_options.steps_per_line = 100;
  progress_options.quiet = options.quiet;
  Progress progress(progress_options);
  for (std::int64_t step = 0; step < options.steps && !Interrupted(); ++step) {
    const Points batch = SinePoints(options.batch);
    const std::int64_t size = options.batch / pieces;
    optimizer.zero_grad();
    double loss = 0;
    for (std::int64_t piece = 0; piece < pieces; ++piece) {
      const torch::Tensor predicted =
          model->forward(batch.x.narrow(0, piece * size, size));
      const torch::Tensor part =
          F::mse_loss(predicted, batch.y.narrow(0, piece * size, size)) /
          static_cast<double>(pieces);
      part.backward();  // Adds to the gradients; nothing is recorded yet.
      loss += part.item<double>();
    }
    const double norm = torch::nn::utils::clip_grad_norm_(parameters, kMaxNorm);
    // One step: the gradient of all pieces, clipped, as Adam is to get it.
    tap->Step(optimizer, {{"loss", loss}, {"grad_norm", norm}});  // gradtap
    progress.Step(loss, std::nullopt, *tap);
  }
  progress.Finish(*tap);
  if (Interrupted()) std::printf("interrupted\n");
  std::printf("test loss %.3f at first, %.3f now\n", at_first, TestLoss(model));
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  examples::TrainOptions options;
  options.steps = 600;
  options.batch = 128;
  options.run = "accumulate";
  std::int64_t pieces = 4;
  examples::Usage usage;
  usage.description =
      "Trains a network on a sine, each batch in several pieces whose "
      "gradients "
      "add up, and streams the statistics of every parameter at every step to "
      "a gradtap collector.";
  usage.example = "accumulate --batch 256 --pieces 8 --run my-sine";
  usage.add_options = [&pieces](CLI::App& app) {
    app.add_option("--pieces", pieces, "Backward passes of a step")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{65536}));
  };
  if (const auto exit_code =
          examples::ParseTrainOptions(argc, argv, usage, &options)) {
    return *exit_code;
  }
  if (options.batch % pieces != 0) {
    std::fprintf(
        stderr, "accumulate: --batch %lld cannot be divided into %lld pieces\n",
        static_cast<long long>(options.batch), static_cast<long long>(pieces));
    return 2;
  }
  examples::CatchInterrupts();
  try {
    examples::Train(options, pieces);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "accumulate: %s\n", error.what());
    return 1;
  }
  return 0;
}
