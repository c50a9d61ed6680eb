// What capture costs a step: everything between the loop's calls and the
// columns, per record, beside a plain pass over the same bytes.
//
// ./capture_benchmark; names end in the number of threads and, with 1, in
// caches that hold something else when the step begins.

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <torch/types.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/capture.h"

namespace gradtap::agent {
namespace {

using Clock = std::chrono::steady_clock;
using Shapes = std::vector<std::vector<std::int64_t>>;

Shapes Many() { return Shapes(10'000, {64}); }

Shapes Few() { return Shapes(20, {64}); }

// A transformer of six layers, 10.7 million parameters.
Shapes Gpt() {
  constexpr std::int64_t d = 384;
  Shapes shapes{{96, d}, {256, d}};
  for (int layer = 0; layer < 6; ++layer) {
    const Shapes block{{d}, {d}, {3 * d, d}, {3 * d}, {d, d},     {d},
                       {d}, {d}, {4 * d, d}, {4 * d}, {d, 4 * d}, {d}};
    shapes.insert(shapes.end(), block.begin(), block.end());
  }
  return shapes;
}

struct Workload {
  explicit Workload(const Shapes& shapes, std::int64_t histogram_interval = 0) {
    torch::manual_seed(1);
    for (const auto& shape : shapes) {
      weights.push_back(torch::randn(shape).requires_grad_());
      weights.back().mutable_grad() = torch::randn(shape);
      before.push_back(torch::randn(shape));
    }
    std::vector<NamedTensor> named;  // These point at the tensors.
    for (const torch::Tensor& weight : weights) {
      named.emplace_back("p" + std::to_string(named.size()), weight);
    }
    CaptureOptions options;
    options.histogram_interval_steps = histogram_interval;
    options.report = [](const std::string&) {};
    capture = Capture::OfTensors(named, std::move(options));
    records = 3 * shapes.size();
  }

  std::vector<torch::Tensor> weights;
  std::vector<torch::Tensor> before;
  std::unique_ptr<Capture> capture;
  std::size_t records = 0;
};

// Fills the caches with something else.
void Evict() {
  static std::vector<std::uint64_t> other(12 << 20);
  for (std::uint64_t& word : other) ++word;
  benchmark::ClobberMemory();
}

double Seconds(const std::function<void()>& f) {
  const auto start = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void BM_Step(benchmark::State& state, const Shapes& shapes,
             std::int64_t histogram_interval) {
  at::set_num_threads(static_cast<int>(state.range(0)));
  Workload work(shapes, histogram_interval);
  std::int64_t step = 0;
  double begin = 0;
  double gradients = 0;
  double weights = 0;
  bool ok = true;
  const auto run = [&] {
    begin += Seconds([&] { ok &= work.capture->BeginStep(step++).ok(); });
    gradients +=
        Seconds([&] { ok &= work.capture->ReduceGradients(Role::kGrad).ok(); });
    weights += Seconds([&] { ok &= work.capture->ReduceWeights().ok(); });
  };
  run();
  run();
  begin = gradients = weights = 0;
  for (auto _ : state) {
    if (state.range(1) != 0) Evict();
    if (step % 255 == 0) step = 1;  // No walk in between.
    state.SetIterationTime(Seconds(run));
  }
  if (!ok || work.capture->schema().parameters.size() != shapes.size()) {
    state.SkipWithError("capture failed");
  }
  const auto per_record = [&](double seconds) {
    return seconds / static_cast<double>(state.iterations()) /
           static_cast<double>(work.records) * 1e9;
  };
  state.counters["ns/record"] = per_record(begin + gradients + weights);
  state.counters["begin"] = per_record(begin);
  state.counters["gradients"] = per_record(gradients);
  state.counters["weights"] = per_record(weights);
}

// Reads weight, gradient and copy, and writes the copy: no statistics.
void BM_PlainPass(benchmark::State& state, const Shapes& shapes) {
  Workload work(shapes);
  const auto run = [&] {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < work.weights.size(); ++i) {
      const torch::Tensor& weight = work.weights[i];
      const auto n = static_cast<std::size_t>(weight.numel()) / 2;
      const auto words = [](const torch::Tensor& t) {
        return static_cast<std::uint64_t*>(t.data_ptr());
      };
      const std::uint64_t* const w = words(weight);
      const std::uint64_t* const g = words(weight.grad());
      std::uint64_t* const before = words(work.before[i]);
      for (std::size_t k = 0; k < n; ++k) {
        sum += g[k] + (w[k] ^ before[k]);
        before[k] = w[k];
      }
    }
    benchmark::DoNotOptimize(sum);
  };
  for (auto _ : state) {
    if (state.range(1) != 0) Evict();
    state.SetIterationTime(Seconds(run));
  }
  state.counters["ns/record"] =
      benchmark::Counter(static_cast<double>(work.records) * 1e-9,
                         benchmark::Counter::kIsIterationInvariantRate |
                             benchmark::Counter::kInvert);
}

// Filling the caches takes long, so these have few iterations.
void Warm(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->ArgsProduct({{1, 2}, {0}});
}
void Cold(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Iterations(30)->ArgsProduct({{1, 2}, {1}});
}
void OneThread(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Args({1, 0});
}
void OneThreadCold(benchmark::internal::Benchmark* b) {
  b->UseManualTime()->Iterations(30)->Args({1, 1});
}

BENCHMARK_CAPTURE(BM_Step, few_20x64, Few(), 0)->Apply(Warm);
BENCHMARK_CAPTURE(BM_PlainPass, many_10000x64, Many())->Apply(OneThread);
BENCHMARK_CAPTURE(BM_PlainPass, many_10000x64, Many())->Apply(OneThreadCold);
BENCHMARK_CAPTURE(BM_Step, many_10000x64, Many(), 0)->Apply(Warm);
BENCHMARK_CAPTURE(BM_Step, many_10000x64, Many(), 0)->Apply(Cold);
BENCHMARK_CAPTURE(BM_Step, many_10000x64_histograms, Many(), 1)->Apply(Warm);
BENCHMARK_CAPTURE(BM_PlainPass, gpt, Gpt())->Apply(OneThread);
BENCHMARK_CAPTURE(BM_Step, gpt, Gpt(), 0)->Apply(Warm);
BENCHMARK_CAPTURE(BM_Step, gpt_histograms, Gpt(), 1)->Apply(Warm);

}  // namespace
}  // namespace gradtap::agent

BENCHMARK_MAIN();
