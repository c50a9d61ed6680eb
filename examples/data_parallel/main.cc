// Trains a small network on Fashion-MNIST in several processes, with the agent
// linked: each rank takes its part of every batch, and the loop averages the
// gradients. Started without RANK, the program starts its ranks by itself.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"
#include "examples/data_parallel/group.h"
#include "examples/data_parallel/model.h"
#include "examples/data_parallel/shards.h"
#include "examples/data_parallel/spawn.h"
#include "examples/fashion_mnist/dataset.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

struct Options {
  TrainOptions train;
  int spawn = 4;
  int rank = 0;
  int world_size = 1;
  std::string store;
  bool shard = false;
  int poison_rank = -1;  // -1: none.
  std::int64_t poison_step = 0;
};

struct Batch {
  torch::Tensor images;  // n x 1 x 28 x 28.
  torch::Tensor labels;  // n.
};

// Every rank draws the same batches, and takes its part.
class Batches {
 public:
  Batches(const ImageSet& set, const Options& options)
      : options_(options),
        images_(torch::tensor(set.pixels, torch::kByte)
                    .view({set.count, 1, set.rows, set.columns})),
        labels_(torch::tensor(set.labels, torch::kByte).to(torch::kLong)),
        random_(options.train.seed) {}

  Batch Next(std::int64_t step) {
    std::vector<std::int64_t> index;
    for (std::int64_t i = 0; i < options_.train.batch; ++i) {
      index.push_back(static_cast<std::int64_t>(
          random_() % static_cast<std::uint64_t>(labels_.size(0))));
    }
    const std::int64_t part = options_.train.batch / options_.world_size;
    const torch::Tensor rows = torch::tensor(index, torch::kLong)
                                   .narrow(0, options_.rank * part, part);
    const torch::Tensor images =
        (images_.index_select(0, rows).to(torch::kFloat) / 255 - 0.2860) /
        0.3530;
    if (options_.rank == options_.poison_rank && step == options_.poison_step) {
      images.view({-1})[0] = std::numeric_limits<float>::quiet_NaN();
    }
    return {images, labels_.index_select(0, rows)};
  }

 private:
  const Options options_;
  const torch::Tensor images_, labels_;
  std::mt19937_64 random_;
};

std::vector<torch::Tensor> Gradients(const torch::nn::Module& module) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& p : module.parameters()) {
    gradients.push_back(p.grad());
  }
  return gradients;
}

void Train(const Options& options) {
  torch::manual_seed(options.train.seed);
  if (options.train.threads > 0) torch::set_num_threads(options.train.threads);
  Batches batches(ReadImages(options.train.data, "train"), options);
  Group group(options.store, options.rank, options.world_size);

  Mlp net;
  std::optional<Shards> shards;
  if (options.shard) shards.emplace(*net, &group);
  torch::optim::SGD optimizer(shards ? shards->parameters() : net->parameters(),
                              torch::optim::SGDOptions(0.05).momentum(0.9));

  gradtap::AgentOptions tap_options;                                 // gradtap
  tap_options.run = options.train.run;                               // gradtap
  if (shards) tap_options.sharded = {"."};                           // gradtap
  auto tap =                                                         // gradtap
      shards ? gradtap::Agent::Attach(shards->named(), tap_options)  // gradtap
             : gradtap::Agent::Attach(*net, tap_options);            // gradtap

  ProgressOptions progress_options;
  progress_options.steps = options.train.steps;
  progress_options.quiet = options.train.quiet;
  std::unique_ptr<Progress> progress;  // The first rank speaks for all.
  if (group.rank() == 0)
    progress = std::make_unique<Progress>(progress_options);
  bool stop = false;
  for (std::int64_t step = 0; step < options.train.steps && !stop; ++step) {
    const Batch batch = batches.Next(step);
    net->zero_grad();
    const torch::Tensor loss =
        F::cross_entropy(net->forward(batch.images), batch.labels);
    loss.backward();
    if (shards) shards->TakeGradients();
    tap->AfterBackward();  // gradtap: this rank's own gradients
    std::vector<torch::Tensor> shared = Gradients(*net);
    const torch::Tensor mean_loss = loss.detach().clone();
    const torch::Tensor interrupted = torch::tensor(Interrupted() ? 1.f : 0.f);
    shared.insert(shared.end(), {mean_loss, interrupted});
    group.Average(shared);
    tap->Step(optimizer,
              {{"loss", loss}, {"mean_loss", mean_loss}});  // gradtap
    if (shards) shards->Gather();
    // All ranks end with the same step, whichever was told to.
    stop = interrupted.item<float>() > 0;
    if (progress) {
      progress->Step(mean_loss.item<double>(), std::nullopt, *tap);
    }
  }
  if (!progress) return;
  progress->Finish(*tap);
  if (stop) std::printf("interrupted\n");
}

// An integer of the environment; nothing if it is not there, or none.
std::optional<int> Variable(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0 || value > 65535) return std::nullopt;
  return static_cast<int>(value);
}

std::optional<int> ParseOptions(int argc, char** argv, Options* options) {
  options->train.steps = 300;
  options->train.batch = 64;
  options->train.threads = 1;
  options->train.data = kFashionMnistFolder;
  options->train.run = "data-parallel";
  Usage usage;
  usage.description =
      "Trains a small network on Fashion-MNIST in several processes, whose "
      "gradients the loop averages, and streams the statistics of every "
      "parameter of every rank to a gradtap collector.";
  usage.data_help = "Folder with the four idx files, gzipped";
  usage.example = "data_parallel --poison-rank 2 --poison-step 100";
  usage.add_options = [options](CLI::App& app) {
    app.add_option("--spawn", options->spawn,
                   "Ranks to start; where RANK is set, this process is one")
        ->check(CLI::Range(1, 64));
    app.add_option("--store", options->store,
                   "File at which ranks meet that were started by hand")
        ->take_last();
    app.add_flag("--shard", options->shard,
                 "Each rank owns some rows of every parameter");
    app.add_option("--poison-rank", options->poison_rank,
                   "A NaN gets into this rank's batch (-1: none)")
        ->check(CLI::Range(-1, 65535));
    app.add_option("--poison-step", options->poison_step, "... at this step")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  };
  return ParseTrainOptions(argc, argv, usage, &options->train);
}

// What is wrong with them; empty: nothing.
std::string Check(const Options& options, int world_size, bool is_rank) {
  if (options.train.batch % world_size != 0) {
    return "--batch " + std::to_string(options.train.batch) +
           " cannot be divided among " + std::to_string(world_size) + " ranks";
  }
  if (options.poison_rank >= world_size) {
    return "--poison-rank " + std::to_string(options.poison_rank) +
           ": there are " + std::to_string(world_size) +
           " ranks, the first is 0";
  }
  if (is_rank && options.rank >= world_size) {
    return "RANK is " + std::to_string(options.rank) + ", WORLD_SIZE " +
           std::to_string(world_size);
  }
  if (is_rank && world_size > 1 && options.store.empty()) {
    return "RANK is set, so this is one of several processes: --store FILE "
           "says where they meet";
  }
  return "";
}

int Run(int argc, char** argv) {
  Options options;
  if (const auto exit_code = ParseOptions(argc, argv, &options)) {
    return *exit_code;
  }
  const std::optional<int> rank = Variable("RANK");
  options.rank = rank.value_or(0);
  options.world_size = rank ? Variable("WORLD_SIZE").value_or(1) : 1;
  const int ranks = rank ? options.world_size : options.spawn;
  const std::string wrong = Check(options, ranks, rank.has_value());
  if (!wrong.empty()) {
    std::fprintf(stderr, "data_parallel: %s\n", wrong.c_str());
    return 2;
  }
  CatchInterrupts();
  try {
    if (rank || ranks == 1) {
      Train(options);
      return 0;
    }
    ReadImages(options.train.data, "train");  // What is wrong, is said once.
    return Spawn(ranks, argv);
  } catch (const std::exception& error) {
    const std::string who = rank ? " rank " + std::to_string(*rank) + ":" : "";
    std::fprintf(stderr, "data_parallel:%s %s\n", who.c_str(), error.what());
    return 1;
  }
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) { return examples::Run(argc, argv); }
