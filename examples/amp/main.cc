// Trains a small network with gradients in float16 and a dynamic loss scaler.
//
// On the CPU LibTorch computes in float32 here; the gradients are rounded to
// float16, so that they overflow and vanish as they do on hardware that
// computes in it. The scaler starts far too high: its first steps are skipped.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <cmath>
#include <cstdio>
#include <exception>

#include "examples/amp/loss_scaler.h"
#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

struct Points {
  torch::Tensor places;  // count x 2.
  torch::Tensor arms;    // count, int64: 0 or 1.
};

// Two arms of a spiral.
Points SpiralPoints(std::int64_t count) {
  const torch::Tensor arms = torch::randint(2, {count}, torch::kLong);
  const torch::Tensor along = torch::rand({count}).sqrt();
  const torch::Tensor angle = along * 2.5 * M_PI + arms * M_PI;
  Points points;
  points.places =
      (2 * along).unsqueeze(1) * torch::stack({angle.cos(), angle.sin()}, 1) +
      0.03 * torch::randn({count, 2});
  points.arms = arms;
  return points;
}

double Accuracy(const torch::Tensor& logits, const torch::Tensor& arms) {
  return logits.argmax(1).eq(arms).to(torch::kFloat).mean().item<double>();
}

void RoundToHalf(const std::vector<torch::Tensor>& parameters) {
  const torch::NoGradGuard no_grad;
  for (const torch::Tensor& parameter : parameters) {
    torch::Tensor gradient = parameter.grad();
    gradient.copy_(gradient.to(torch::kHalf));
  }
}

void Train(const TrainOptions& options) {
  torch::manual_seed(options.seed);
  if (options.threads > 0) torch::set_num_threads(options.threads);
  torch::nn::Sequential model(torch::nn::Linear(2, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 2));
  const std::vector<torch::Tensor> parameters = model->parameters();
  torch::optim::Adam optimizer(parameters, torch::optim::AdamOptions(5e-3));
  LossScaler scaler(std::pow(2, 24));

  gradtap::AgentOptions tap_options;                       // gradtap
  tap_options.run = options.run;                           // gradtap
  auto tap = gradtap::Agent::Attach(*model, tap_options);  // gradtap

  ProgressOptions progress_options;
  progress_options.steps = options.steps;
  progress_options.steps_per_line = 100;
  progress_options.quiet = options.quiet;
  Progress progress(progress_options);
  std::int64_t skipped = 0;
  for (std::int64_t step = 0; step < options.steps && !Interrupted(); ++step) {
    const Points batch = SpiralPoints(options.batch);
    optimizer.zero_grad();
    const torch::Tensor logits = model->forward(batch.places);
    const torch::Tensor loss = F::cross_entropy(logits, batch.arms);
    (loss * scaler.scale()).backward();
    RoundToHalf(parameters);

    tap->SetLossScale(scaler.scale());  // gradtap
    tap->BeforeOptimizerStep();         // gradtap: records gradient / scale.
    if (scaler.Unscale(parameters)) {
      optimizer.step();
      tap->AfterOptimizerStep({{"loss", loss}});  // gradtap
    } else {
      tap->StepSkipped("a gradient overflowed", {{"loss", loss}});  // gradtap
      ++skipped;
    }
    scaler.Update();
    progress.Step(loss.item<double>(), Accuracy(logits, batch.arms), *tap);
  }
  progress.Finish(*tap);
  std::printf(
      "%lld steps skipped by the loss scaler, whose scale is 2^%.0f now\n",
      static_cast<long long>(skipped), std::log2(scaler.scale()));
  if (Interrupted()) {
    std::printf("interrupted\n");
    return;
  }
  const torch::NoGradGuard no_grad;
  const Points test = SpiralPoints(2000);
  std::printf("test accuracy %.2f%%\n",
              100 * Accuracy(model->forward(test.places), test.arms));
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  examples::TrainOptions options;
  options.steps = 1500;
  options.batch = 128;
  options.run = "amp";
  examples::Usage usage;
  usage.description =
      "Trains a network to tell the arms of a spiral apart, with float16 "
      "gradients and a loss scaler, and streams the statistics of every "
      "parameter at every step to a gradtap collector. Steps that the scaler "
      "skips are there as skipped ones.";
  usage.example = "amp --steps 3000 --run my-amp";
  if (const auto exit_code =
          examples::ParseTrainOptions(argc, argv, usage, &options)) {
    return *exit_code;
  }
  examples::CatchInterrupts();
  try {
    examples::Train(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "amp: %s\n", error.what());
    return 1;
  }
  return 0;
}
