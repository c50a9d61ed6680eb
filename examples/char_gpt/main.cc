// Trains a small GPT on the characters of a text, with the agent linked, and
// prints a sample of what it has learned.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "examples/char_gpt/model.h"
#include "examples/char_gpt/text.h"
#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

constexpr int kSampleCharacters = 240;

struct Batch {
  torch::Tensor input;   // batch x context.
  torch::Tensor target;  // The same, one character on.
};

Batch RandomBatch(const torch::Tensor& content, std::int64_t batch,
                  std::int64_t context, std::mt19937_64* random) {
  std::vector<torch::Tensor> inputs, targets;
  const auto starts = static_cast<std::uint64_t>(content.size(0) - context);
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto start = static_cast<std::int64_t>((*random)() % starts);
    inputs.push_back(content.narrow(0, start, context));
    targets.push_back(content.narrow(0, start + 1, context));
  }
  return {torch::stack(inputs), torch::stack(targets)};
}

// The text's beginning, and how the model would go on.
std::string Sample(Gpt& model, const Text& text) {
  torch::NoGradGuard no_grad;
  const std::int64_t context = model->options.context;
  std::vector<std::int64_t> symbols(text.content.begin(),
                                    text.content.begin() + context / 2);
  for (int i = 0; i < kSampleCharacters; ++i) {
    const auto count = std::min<std::int64_t>(
        context, static_cast<std::int64_t>(symbols.size()));
    const std::vector<std::int64_t> window(symbols.end() - count,
                                           symbols.end());
    const torch::Tensor logits =
        model
            ->forward(torch::tensor(window, torch::kLong)
                          .unsqueeze(0)
                          .to(model->mask.device()))
            .select(1, count - 1);
    symbols.push_back(
        torch::softmax(logits / 0.8, -1).multinomial(1).item<std::int64_t>());
  }
  std::string sample;
  for (const std::int64_t symbol : symbols) {
    const char c = text.symbols[static_cast<std::size_t>(symbol)];
    // Any file may be the text: what a terminal would act on is left out.
    const bool control = (c >= 0 && c < ' ' && c != '\n' && c != '\t') ||
                         c == 0x7f || static_cast<unsigned char>(c) >= 0x80;
    sample += control ? '?' : c;
  }
  return sample;
}

void Train(const TrainOptions& options, const torch::Device& device) {
  torch::manual_seed(options.seed);
  if (options.threads > 0) torch::set_num_threads(options.threads);
  GptOptions gpt;
  const Text text =
      ReadText(options.data, static_cast<std::size_t>(gpt.context + 1));
  const torch::Tensor content =
      torch::tensor(text.content, torch::kLong).to(device);
  gpt.vocabulary = static_cast<std::int64_t>(text.symbols.size());
  std::mt19937_64 random(options.seed);

  Gpt model(gpt);
  model->to(device);
  torch::optim::AdamW optimizer(UniqueParameters(*model),
                                torch::optim::AdamWOptions(1e-3));

  gradtap::AgentOptions tap_options;                       // gradtap
  tap_options.run = options.run;                           // gradtap
  auto tap = gradtap::Agent::Attach(*model, tap_options);  // gradtap

  ProgressOptions progress_options;
  progress_options.steps = options.steps;
  progress_options.quiet = options.quiet;
  Progress progress(progress_options);
  for (std::int64_t step = 0; step < options.steps && !Interrupted(); ++step) {
    const Batch batch =
        RandomBatch(content, options.batch, gpt.context, &random);
    optimizer.zero_grad();
    const torch::Tensor logits = model->forward(batch.input);
    const torch::Tensor loss = F::cross_entropy(
        logits.view({-1, gpt.vocabulary}), batch.target.view({-1}));
    loss.backward();
    tap->Step(optimizer, {{"loss", loss}});  // gradtap
    progress.Step(loss.item<double>(), std::nullopt, *tap);
  }
  progress.Finish(*tap);
  if (Interrupted()) {
    std::printf("interrupted\n");
  } else {
    std::printf("\n%s\n", Sample(model, text).c_str());
  }
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  examples::TrainOptions options;
  options.steps = 300;
  options.batch = 8;
  options.data = "/usr/share/common-licenses/GPL-3";
  options.run = "char-gpt";
  examples::Usage usage;
  usage.description =
      "Trains a small GPT on the characters of a text and streams the "
      "statistics of every parameter at every step to a gradtap collector.";
  usage.data_help = "Any text file";
  usage.data_is_positional = true;
  usage.example = "char_gpt README.md --steps 1000";
  std::string device = "cpu";
  usage.add_options = [&device](CLI::App& app) {
    app.add_option("--device", device,
                   "Where to train: cpu, cuda, cuda:1, ...");
  };
  if (const auto exit_code =
          examples::ParseTrainOptions(argc, argv, usage, &options)) {
    return *exit_code;
  }
  examples::CatchInterrupts();
  try {
    examples::Train(options, torch::Device(device));
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "char_gpt: %s\n", error.what_without_backtrace());
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "char_gpt: %s\n", error.what());
    return 1;
  }
  return 0;
}
