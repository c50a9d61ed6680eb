// The kernels by size and dtype, raced against what memory allows.
//
// bytes_per_second counts what is read of the tensor (with an update: both
// arrays, and the copy that is written). Counters are ratios of speed:
//   of_probe    bytes per second, ours over the bandwidth probe's
//   of_float32  elements per second, ours over those of our float32
//   of_chain, of_cheap  how many times faster than ATen (kernel_aten.cc)
// One thread is timed by its own clock; several by the wall's.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bench/bandwidth_probe.h"
#include "bench/race.h"
#include "core/kernel.h"
#include "core/record.h"

namespace gradtap::bench {
namespace {

std::vector<Rival> ReadProbes(const Memory& memory) {
  std::vector<Rival> rivals;
  for (int way = 0; way < kProbeWays; ++way) {
    rivals.push_back({"of_probe", [&memory, way] {
                        benchmark::DoNotOptimize(
                            ReadAll(way, memory.data(), memory.bytes()));
                      }});
  }
  return rivals;
}

void SetBytes(benchmark::State& state, double bytes_each) {
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(static_cast<std::int64_t>(
      static_cast<double>(state.iterations()) *
      static_cast<double>(state.range(0)) * bytes_each));
}

void BM_Reduce(benchmark::State& state, Dtype dtype) {
  const std::int64_t numel = state.range(0);
  const Memory memory(dtype, numel, 1);
  std::vector<Rival> rivals = ReadProbes(memory);
  std::unique_ptr<Memory> wide;
  if (DtypeSize(dtype) == 2) {
    wide = std::make_unique<Memory>(Dtype::kFloat32, numel, 1);
    rivals.push_back({"of_float32", [&wide] {
                        benchmark::DoNotOptimize(Reduce(wide->View()));
                      }});
  }
  Race(
      state, Clock::kThread,
      [&memory] { benchmark::DoNotOptimize(Reduce(memory.View())); }, rivals,
      LotOf(numel));
  SetBytes(state, static_cast<double>(DtypeSize(dtype)));
}

// Record and histogram.
void BM_ReduceWithBins(benchmark::State& state, Dtype dtype) {
  const std::int64_t numel = state.range(0);
  const Memory memory(dtype, numel, 1);
  BinCounts bins{};
  Race(
      state, Clock::kThread,
      [&] {
        const Reduction reduction{.view = memory.View()};
        for (std::uint64_t i = 0; i < ChunkCount(reduction.view); ++i) {
          benchmark::DoNotOptimize(ReduceChunk(reduction, i, &bins));
        }
      },
      ReadProbes(memory), LotOf(numel));
  SetBytes(state, static_cast<double>(DtypeSize(dtype)));
}

// Both records and the refreshed copy.
void BM_WeightAndUpdate(benchmark::State& state, Dtype dtype) {
  const std::int64_t numel = state.range(0);
  const Memory weight(dtype, numel, 1);
  const Memory previous(dtype, numel, 2);
  const Memory copy(dtype, numel, 2);
  std::vector<Rival> rivals;
  for (int way = 0; way < kProbeWays; ++way) {
    rivals.push_back({"of_probe", [&, way] {
                        benchmark::DoNotOptimize(ReadBothWriteOne(
                            way, weight.data(), copy.data(), weight.bytes()));
                      }});
  }
  // Weights as an optimizer leaves them: after the first round the update would
  // be all zeros, which costs the same.
  Race(
      state, Clock::kThread,
      [&] {
        benchmark::DoNotOptimize(
            ReduceWeightAndUpdate(weight.View(), previous.data()));
      },
      rivals, LotOf(numel));
  SetBytes(state, 3.0 * static_cast<double>(DtypeSize(dtype)));
}

// Two threads, each with its half of the chunks.
void BM_ReduceOnTwoThreads(benchmark::State& state, Dtype dtype) {
  const std::int64_t numel = state.range(0);
  const Memory memory(dtype, numel, 1);
  const TensorView view = memory.View();
  std::vector<WeightAndUpdate> parts(ChunkCount(view));
  std::vector<Rival> rivals;
  for (int way = 0; way < kProbeWays; ++way) {
    rivals.push_back({"of_probe", [&memory, way] {
                        OnThreads(2, [&](int thread) {
                          const std::size_t half = memory.bytes() / 2;
                          benchmark::DoNotOptimize(ReadAll(
                              way, memory.data() + (thread ? half : 0), half));
                        });
                      }});
  }
  Race(
      state, Clock::kWall,
      [&] {
        OnThreads(2, [&](int thread) {
          const std::size_t half = parts.size() / 2;
          const std::size_t end = thread ? parts.size() : half;
          for (std::size_t i = thread ? half : 0; i < end; ++i) {
            parts[i] = ReduceChunk({.view = view}, i);
          }
        });
        benchmark::DoNotOptimize(JoinChunks(parts));
      },
      rivals, 1);
  SetBytes(state, static_cast<double>(DtypeSize(dtype)));
}

// A square matrix, read by columns: as it lies.
void BM_ReduceTransposed(benchmark::State& state) {
  const std::int64_t side = state.range(0);
  const Memory memory(Dtype::kFloat32, side * side, 1);
  const std::int64_t sizes[] = {side, side};
  const std::int64_t strides[] = {1, side};
  const TensorView view{memory.data(), Dtype::kFloat32, 2, sizes, strides};
  for (auto _ : state) benchmark::DoNotOptimize(Reduce(view));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(memory.bytes()));
}

// Rows of 768 out of 1,024.
void BM_ReduceSliced(benchmark::State& state) {
  const std::int64_t rows = state.range(0);
  const Memory memory(Dtype::kFloat32, rows * 1024, 1);
  const std::int64_t sizes[] = {rows, 768};
  const std::int64_t strides[] = {1024, 1};
  const TensorView view{memory.data(), Dtype::kFloat32, 2, sizes, strides};
  for (auto _ : state) benchmark::DoNotOptimize(Reduce(view));
  state.SetBytesProcessed(state.iterations() * rows * 768 * 4);
}

// What sends every unit the slow way: its time over that of ordinary values.
void BM_ReduceSlowly(benchmark::State& state, float odd, std::size_t every) {
  const std::int64_t numel = state.range(0);
  const Memory ordinary(Dtype::kFloat32, numel, 1);
  const Memory memory(Dtype::kFloat32, numel, 1);
  for (std::size_t i = 0; i < static_cast<std::size_t>(numel); i += every) {
    std::memcpy(memory.data() + i * sizeof(odd), &odd, sizeof(odd));
  }
  Race(
      state, Clock::kThread,
      [&memory] { benchmark::DoNotOptimize(Reduce(memory.View())); },
      {{"of_ordinary",
        [&ordinary] { benchmark::DoNotOptimize(Reduce(ordinary.View())); }}},
      LotOf(numel));
  SetBytes(state, 4);
}

// Parameters of 64 elements, three roles: time is that of one record.
void BM_RecordOfSmallParameter(benchmark::State& state) {
  const auto parameters = static_cast<std::size_t>(state.range(0));
  constexpr std::int64_t kNumel = 64;
  const auto all = static_cast<std::int64_t>(parameters) * kNumel;
  const Memory weight(Dtype::kFloat32, all, 1);
  const Memory grad(Dtype::kFloat32, all, 2);
  const Memory previous(Dtype::kFloat32, all, 3);
  std::vector<Record> records(3 * parameters);
  const std::int64_t stride = 1;
  const auto view = [&](const Memory& memory, std::size_t i) {
    return TensorView{memory.data() + i * kNumel * 4, Dtype::kFloat32, 1,
                      &kNumel, &stride};
  };
  for (auto _ : state) {
    for (std::size_t i = 0; i < parameters; ++i) {
      records[3 * i] = ToRecord(Reduce(view(grad, i)));
      const WeightAndUpdate both = ReduceWeightAndUpdate(
          view(weight, i), previous.data() + i * kNumel * 4);
      records[3 * i + 1] = ToRecord(both.weight);
      records[3 * i + 2] = ToRecord(both.update);
    }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() *
                          static_cast<std::int64_t>(records.size()));
  state.counters["per_record"] =
      benchmark::Counter(static_cast<double>(records.size()),
                         benchmark::Counter::kIsIterationInvariantRate |
                             benchmark::Counter::kInvert);
}

// Of each race: every rival runs twice in a round.
constexpr int kRounds = 15;

// 4 KiB to 1 GiB of float32.
void AllSizes(benchmark::internal::Benchmark* b) {
  for (const int k : {10, 13, 16, 20, 24, 26, 28}) b->Arg(std::int64_t{1} << k);
  b->Iterations(kRounds)->UseManualTime();
}
void SomeSizes(benchmark::internal::Benchmark* b) {
  for (const int k : {10, 16, 24, 26}) b->Arg(std::int64_t{1} << k);
  b->Iterations(kRounds)->UseManualTime();
}
void TwoSizes(benchmark::internal::Benchmark* b) {
  b->Arg(1 << 10)->Arg(1 << 22)->Iterations(kRounds)->UseManualTime();
}

BENCHMARK_CAPTURE(BM_Reduce, float32, Dtype::kFloat32)->Apply(AllSizes);
BENCHMARK_CAPTURE(BM_Reduce, bfloat16, Dtype::kBfloat16)->Apply(AllSizes);
BENCHMARK_CAPTURE(BM_Reduce, float16, Dtype::kFloat16)->Apply(AllSizes);
BENCHMARK_CAPTURE(BM_Reduce, float64, Dtype::kFloat64)->Apply(SomeSizes);
BENCHMARK_CAPTURE(BM_Reduce, int64, Dtype::kInt64)->Apply(TwoSizes);
BENCHMARK_CAPTURE(BM_Reduce, int8, Dtype::kInt8)->Apply(TwoSizes);
BENCHMARK_CAPTURE(BM_Reduce, bool, Dtype::kBool)->Apply(TwoSizes);
BENCHMARK_CAPTURE(BM_Reduce, complex64, Dtype::kComplex64)->Apply(TwoSizes);
// A bias: what a call costs.
BENCHMARK_CAPTURE(BM_Reduce, float32_small, Dtype::kFloat32)
    ->Arg(1)
    ->Arg(8)
    ->Arg(64)
    ->Iterations(kRounds)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_ReduceWithBins, float32, Dtype::kFloat32)->Apply(AllSizes);
BENCHMARK_CAPTURE(BM_ReduceWithBins, bfloat16, Dtype::kBfloat16)
    ->Apply(SomeSizes);
BENCHMARK_CAPTURE(BM_WeightAndUpdate, float32, Dtype::kFloat32)
    ->Apply(AllSizes);
BENCHMARK_CAPTURE(BM_WeightAndUpdate, bfloat16, Dtype::kBfloat16)
    ->Apply(SomeSizes);
BENCHMARK_CAPTURE(BM_WeightAndUpdate, float64, Dtype::kFloat64)
    ->Apply(SomeSizes);
BENCHMARK_CAPTURE(BM_ReduceOnTwoThreads, float32, Dtype::kFloat32)
    ->Arg(1 << 20)
    ->Arg(1 << 24)
    ->Arg(1 << 26)
    ->Arg(1 << 28)
    ->Iterations(kRounds)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_ReduceOnTwoThreads, bfloat16, Dtype::kBfloat16)
    ->Arg(1 << 24)
    ->Arg(1 << 26)
    ->Iterations(kRounds)
    ->UseManualTime();
BENCHMARK(BM_ReduceTransposed)->Arg(1 << 5)->Arg(1 << 10)->Arg(1 << 12);
BENCHMARK(BM_ReduceSliced)->Arg(1 << 5)->Arg(1 << 10)->Arg(1 << 14);
BENCHMARK_CAPTURE(BM_ReduceSlowly, one_nan_of_1024,
                  std::numeric_limits<float>::quiet_NaN(), 1024)
    ->Apply(TwoSizes);
BENCHMARK_CAPTURE(BM_ReduceSlowly, all_nan,
                  std::numeric_limits<float>::quiet_NaN(), 1)
    ->Apply(TwoSizes);
BENCHMARK_CAPTURE(BM_ReduceSlowly, squares_overflow, 1e30f, 2)->Apply(TwoSizes);
BENCHMARK(BM_RecordOfSmallParameter)->Arg(8)->Arg(10'000);

}  // namespace
}  // namespace gradtap::bench

BENCHMARK_MAIN();
