// What users compute with ATen today, raced against the kernels: the chain that
// gives the same record (std_mean, aminmax, abs().mean(), four counts), and the
// cheapest one that anyone uses (aminmax, norm, mean). One thread.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cstdint>
#include <limits>
#include <tuple>

#include "bench/race.h"
#include "core/kernel.h"
#include "core/record.h"

namespace gradtap::bench {
namespace {

at::Tensor Float32(const Memory& memory, std::int64_t numel) {
  return at::from_blob(memory.data(), {numel}, at::kFloat);
}

Record RecordByChain(const at::Tensor& x) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  Record record;
  const auto [std, mean] = at::std_mean(x, /*unbiased=*/false);
  const auto [min, max] = at::aminmax(x);
  const auto count = [](const at::Tensor& which) {
    return static_cast<std::uint64_t>(which.sum().item<std::int64_t>());
  };
  record.mean = mean.item<float>();
  record.std = std.item<float>();
  record.abs_mean = x.abs().mean().item<float>();
  record.min = min.item<float>();
  record.max = max.item<float>();
  record.zero = count(x == 0);
  record.nan = count(x.isnan());
  record.pos_inf = count(x == kInf);
  record.neg_inf = count(x == -kInf);
  return record;
}

std::tuple<float, float, float, float> CheapChain(const at::Tensor& x) {
  const auto [min, max] = at::aminmax(x);
  return {min.item<float>(), max.item<float>(), x.norm().item<float>(),
          x.mean().item<float>()};
}

void BM_AgainstAten(benchmark::State& state) {
  at::set_num_threads(1);
  const std::int64_t numel = state.range(0);
  const Memory memory(Dtype::kFloat32, numel, 1);
  const at::Tensor tensor = Float32(memory, numel);
  Race(
      state, Clock::kThread,
      [&] { benchmark::DoNotOptimize(ToRecord(Reduce(memory.View()))); },
      {{"of_chain", [&] { benchmark::DoNotOptimize(RecordByChain(tensor)); }},
       {"of_cheap", [&] { benchmark::DoNotOptimize(CheapChain(tensor)); }}},
      std::max<std::int64_t>(1, LotOf(numel) / 16), /*settle=*/true);
  state.SetBytesProcessed(state.iterations() * numel * 4);
}
BENCHMARK(BM_AgainstAten)
    ->Arg(1 << 10)
    ->Arg(1 << 13)
    ->Arg(1 << 16)
    ->Iterations(15)
    ->UseManualTime();
BENCHMARK(BM_AgainstAten)  // The chain takes a second or two.
    ->Arg(1 << 20)
    ->Arg(1 << 24)
    ->Arg(1 << 26)
    ->Iterations(3)
    ->UseManualTime();

}  // namespace
}  // namespace gradtap::bench
