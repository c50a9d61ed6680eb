// Trains a small GAN on eight clusters of points in a ring: two modules and two
// optimizers, one agent, one run.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <cmath>
#include <cstdio>
#include <exception>

#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

constexpr std::int64_t kNoise = 16;
constexpr std::int64_t kWidth = 64;

torch::nn::Sequential Network(std::int64_t in, std::int64_t out) {
  return torch::nn::Sequential(
      torch::nn::Linear(in, kWidth),
      torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(0.2)),
      torch::nn::Linear(kWidth, kWidth),
      torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(0.2)),
      torch::nn::Linear(kWidth, out));
}

// Points of the distribution that the generator is to learn.
torch::Tensor RealPoints(std::int64_t count) {
  constexpr double kRadius = 2;
  constexpr double kSpread = 0.1;
  const torch::Tensor angle =
      torch::randint(8, {count}).to(torch::kFloat) * (2 * M_PI / 8);
  return kRadius * torch::stack({angle.cos(), angle.sin()}, 1) +
         kSpread * torch::randn({count, 2});
}

// The energy distance of two samples: 0 if they are of one distribution.
double Distance(const torch::Tensor& a, const torch::Tensor& b) {
  const auto mean = [](const torch::Tensor& x, const torch::Tensor& y) {
    return torch::cdist(x, y).mean().item<double>();
  };
  return 2 * mean(a, b) - mean(a, a) - mean(b, b);
}

double DistanceToTarget(torch::nn::Sequential& generator) {
  const torch::NoGradGuard no_grad;
  constexpr std::int64_t kPoints = 1000;
  return Distance(generator->forward(torch::randn({kPoints, kNoise})),
                  RealPoints(kPoints));
}

torch::Tensor LossFor(const torch::Tensor& logits, float label) {
  return F::binary_cross_entropy_with_logits(logits,
                                             torch::full_like(logits, label));
}

void Train(const TrainOptions& options) {
  torch::manual_seed(options.seed);
  if (options.threads > 0) torch::set_num_threads(options.threads);
  torch::nn::Sequential generator = Network(kNoise, 2);
  torch::nn::Sequential discriminator = Network(2, 1);
  const auto adam = torch::optim::AdamOptions(1e-3).betas({0.5, 0.999});
  torch::optim::Adam g_optimizer(generator->parameters(), adam);
  torch::optim::Adam d_optimizer(discriminator->parameters(), adam);

  gradtap::AgentOptions tap_options;  // gradtap
  tap_options.run = options.run;      // gradtap
  auto tap = gradtap::Agent::Attach(  // gradtap
      {{"G", *generator}, {"D", *discriminator}}, tap_options);

  const double at_first = DistanceToTarget(generator);
  ProgressOptions progress_options;
  progress_options.steps = options.steps;
  progress_options.steps_per_line = 200;
  progress_options.quiet = options.quiet;
  Progress progress(progress_options);
  for (std::int64_t step = 0; step < options.steps && !Interrupted(); ++step) {
    const torch::Tensor real = RealPoints(options.batch);
    const torch::Tensor fake =
        generator->forward(torch::randn({options.batch, kNoise}));

    d_optimizer.zero_grad();
    const torch::Tensor on_real = discriminator->forward(real);
    const torch::Tensor on_fake = discriminator->forward(fake.detach());
    const torch::Tensor d_loss = LossFor(on_real, 1) + LossFor(on_fake, 0);
    d_loss.backward();
    tap->BeforeOptimizerStep(d_optimizer);  // gradtap
    d_optimizer.step();

    g_optimizer.zero_grad();
    const torch::Tensor g_loss = LossFor(discriminator->forward(fake), 1);
    g_loss.backward();  // The discriminator's gradients grow too: to no effect.
    tap->BeforeOptimizerStep(g_optimizer);  // gradtap
    g_optimizer.step();
    const double told_apart = (on_real.gt(0).to(torch::kFloat).mean() +
                               on_fake.lt(0).to(torch::kFloat).mean())
                                  .item<double>() /
                              2;
    tap->AfterOptimizerStep({{"g_loss", g_loss},            // gradtap
                             {"d_loss", d_loss},            // gradtap
                             {"told_apart", told_apart}});  // gradtap
    progress.Step(g_loss.item<double>(), told_apart, *tap);
  }
  progress.Finish(*tap);
  if (Interrupted()) std::printf("interrupted\n");
  std::printf("distance to the target %.3f at first, %.3f now\n", at_first,
              DistanceToTarget(generator));
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  examples::TrainOptions options;
  options.steps = 3000;
  options.batch = 128;
  options.run = "gan";
  examples::Usage usage;
  usage.description =
      "Trains a generator of points in the plane against a discriminator, and "
      "streams the statistics of all parameters of both at every step to a "
      "gradtap collector. The accuracy shown is the discriminator's.";
  usage.example = "gan --steps 5000 --run my-gan";
  if (const auto exit_code =
          examples::ParseTrainOptions(argc, argv, usage, &options)) {
    return *exit_code;
  }
  examples::CatchInterrupts();
  try {
    examples::Train(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gan: %s\n", error.what());
    return 1;
  }
  return 0;
}
