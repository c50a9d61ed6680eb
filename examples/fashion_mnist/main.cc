// Trains a small convolutional network on Fashion-MNIST, with the agent linked.
//
// The lines that gradtap needs are marked. Everything else is what a training
// program has anyway.

#include <gradtap/agent.h>  // gradtap
#include <torch/torch.h>

#include <cstdio>
#include <exception>
#include <numeric>
#include <random>
#include <vector>

#include "examples/common/interrupt.h"
#include "examples/common/progress.h"
#include "examples/common/train_options.h"
#include "examples/fashion_mnist/dataset.h"
#include "examples/fashion_mnist/model.h"

namespace examples {
namespace {

namespace F = torch::nn::functional;

struct Data {
  torch::Tensor images;  // count x 1 x 28 x 28, bytes.
  torch::Tensor labels;  // count, int64.
};

Data Load(const std::string& folder, const std::string& prefix) {
  const ImageSet set = ReadImages(folder, prefix);
  Data data;
  data.images = torch::tensor(set.pixels, torch::kByte)
                    .view({set.count, 1, set.rows, set.columns});
  data.labels = torch::tensor(set.labels, torch::kByte).to(torch::kLong);
  return data;
}

torch::Tensor Normalise(const torch::Tensor& bytes) {
  return (bytes.to(torch::kFloat) / 255 - 0.2860) / 0.3530;
}

// Batches of a shuffled set, shuffled anew each time it has been gone through.
class Batches {
 public:
  Batches(const Data& data, std::int64_t batch, std::uint64_t seed)
      : data_(data), batch_(batch), random_(seed), order_(data.labels.size(0)) {
    std::iota(order_.begin(), order_.end(), 0);
    next_ = order_.size();
  }

  Data Next() {
    std::vector<std::int64_t> index;
    for (std::int64_t i = 0; i < batch_; ++i) {
      if (next_ == order_.size()) {
        // Not std::shuffle: what that does is the library's own affair.
        for (std::size_t n = order_.size(); n > 1; --n) {
          std::swap(order_[n - 1], order_[random_() % n]);
        }
        next_ = 0;
      }
      index.push_back(order_[next_++]);
    }
    const torch::Tensor rows = torch::tensor(index, torch::kLong);
    return {data_.images.index_select(0, rows),
            data_.labels.index_select(0, rows)};
  }

 private:
  const Data data_;
  const std::int64_t batch_;
  std::mt19937_64 random_;
  std::vector<std::int64_t> order_;
  std::size_t next_;
};

double Accuracy(const torch::Tensor& logits, const torch::Tensor& labels) {
  return logits.argmax(1).eq(labels).to(torch::kFloat).mean().item<double>();
}

double TestAccuracy(Net& net, const Data& test) {
  torch::NoGradGuard no_grad;
  net->eval();
  constexpr std::int64_t kBatch = 500;
  const std::int64_t count = test.labels.size(0);
  double right = 0;
  for (std::int64_t i = 0; i < count; i += kBatch) {
    const std::int64_t n = std::min(kBatch, count - i);
    const torch::Tensor logits =
        net->forward(Normalise(test.images.narrow(0, i, n)));
    right +=
        static_cast<double>(n) * Accuracy(logits, test.labels.narrow(0, i, n));
  }
  net->train();
  return right / static_cast<double>(count);
}

void Train(const TrainOptions& options) {
  torch::manual_seed(options.seed);
  if (options.threads > 0) torch::set_num_threads(options.threads);
  const Data train = Load(options.data, "train");
  const Data test = Load(options.data, "t10k");
  Batches batches(train, options.batch, options.seed);

  Net net;
  torch::optim::AdamW optimizer(net->parameters(),
                                torch::optim::AdamWOptions(1e-3));

  gradtap::AgentOptions tap_options;                     // gradtap
  tap_options.run = options.run;                         // gradtap
  auto tap = gradtap::Agent::Attach(*net, tap_options);  // gradtap

  ProgressOptions progress_options;
  progress_options.steps = options.steps;
  progress_options.quiet = options.quiet;
  Progress progress(progress_options);
  for (std::int64_t step = 0; step < options.steps && !Interrupted(); ++step) {
    const Data batch = batches.Next();
    optimizer.zero_grad();
    const torch::Tensor logits = net->forward(Normalise(batch.images));
    const torch::Tensor loss = F::cross_entropy(logits, batch.labels);
    loss.backward();
    const double accuracy = Accuracy(logits.detach(), batch.labels);
    tap->Step(optimizer, {{"loss", loss}, {"accuracy", accuracy}});  // gradtap
    progress.Step(loss.item<double>(), accuracy, *tap);
  }
  progress.Finish(*tap);
  if (Interrupted()) {
    std::printf("interrupted\n");
  } else {
    std::printf("test accuracy %.2f%%\n", 100 * TestAccuracy(net, test));
  }
}

}  // namespace
}  // namespace examples

int main(int argc, char** argv) {
  examples::TrainOptions options;
  options.steps = 600;
  options.batch = 64;
  options.data = examples::kFashionMnistFolder;
  options.run = "fashion-mnist";
  examples::Usage usage;
  usage.description =
      "Trains a small convolutional network on Fashion-MNIST and streams the "
      "statistics of every parameter at every step to a gradtap collector.";
  usage.data_help = "Folder with the four idx files, gzipped";
  usage.example = "fashion_mnist --steps 938 --run my-first";
  if (const auto exit_code =
          examples::ParseTrainOptions(argc, argv, usage, &options)) {
    return *exit_code;
  }
  examples::CatchInterrupts();
  try {
    examples::Train(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fashion_mnist: %s\n", error.what());
    return 1;
  }
  return 0;
}
