// The kernels by size and dtype, beside a read of the same bytes; the encoding
// of a step, beside a copy of its bytes.
//
// bytes_per_second counts what is read of the tensor (and of the previous
// weights); the probe's is what this machine can read in the same run.

#include <benchmark/benchmark.h>

#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/codec.h"
#include "core/kernel.h"
#include "core/record.h"
#include "core/step_data.h"

namespace gradtap {
namespace {

// Memory of `numel` elements about -1 to 1, all finite.
std::vector<char> MakeData(Dtype dtype, std::int64_t numel) {
  const std::size_t size = DtypeSize(dtype);
  std::vector<char> data(static_cast<std::size_t>(numel) * size);
  std::mt19937_64 random(1);
  for (std::size_t i = 0; i < static_cast<std::size_t>(numel); ++i) {
    const double x = static_cast<double>(random()) * 0x1p-63 - 1;
    char* to = data.data() + i * size;
    const auto put = [&](auto value) {
      std::memcpy(to, &value, sizeof(value));
    };
    switch (dtype) {
      case Dtype::kFloat32:
        put(static_cast<float>(x));
        break;
      case Dtype::kFloat64:
        put(x);
        break;
      case Dtype::kFloat16:  // Exponents below 15: less than 2.
        put(static_cast<std::uint16_t>(random() & 0xbfff));
        break;
      case Dtype::kBfloat16:
        put(static_cast<std::uint16_t>((random() & 0x80ff) | 0x3f00));
        break;
      case Dtype::kComplex64:
        put(std::complex<float>(static_cast<float>(x), 0.5f));
        break;
      case Dtype::kBool:
        put(static_cast<std::uint8_t>(random() & 1));
        break;
      default: {
        const std::uint64_t bits = random();
        std::memcpy(to, &bits, size);
      }
    }
  }
  return data;
}

struct Flat {
  explicit Flat(Dtype d, std::int64_t n)
      : dtype(d), numel(n), data(MakeData(d, n)) {}
  TensorView View() const { return {data.data(), dtype, 1, &numel, &stride}; }

  Dtype dtype;
  std::int64_t numel;
  std::int64_t stride = 1;
  std::vector<char> data;
};

// Adds up the words of the memory: as fast as this machine reads it.
void BM_ReadProbe(benchmark::State& state) {
  const Flat flat(Dtype::kFloat32, state.range(0));
  const std::size_t words = flat.data.size() / sizeof(std::uint64_t);
  for (auto _ : state) {
    std::uint64_t sum[8] = {};
    const char* p = flat.data.data();
    for (std::size_t i = 0; i + 8 <= words; i += 8) {
      std::uint64_t block[8];
      std::memcpy(block, p + i * sizeof(std::uint64_t), sizeof(block));
      for (int lane = 0; lane < 8; ++lane) sum[lane] += block[lane];
    }
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(flat.data.size()));
}

void BM_Reduce(benchmark::State& state, Dtype dtype) {
  const Flat flat(dtype, state.range(0));
  for (auto _ : state) benchmark::DoNotOptimize(Reduce(flat.View()));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(flat.data.size()));
}

void BM_ReduceTransposed(benchmark::State& state) {
  const Flat flat(Dtype::kFloat32, state.range(0) * state.range(0));
  const std::int64_t sizes[] = {state.range(0), state.range(0)};
  const std::int64_t strides[] = {1, state.range(0)};
  const TensorView view{flat.data.data(), flat.dtype, 2, sizes, strides};
  for (auto _ : state) benchmark::DoNotOptimize(Reduce(view));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(flat.data.size()));
}

// One NaN in every block: the slow way of each.
void BM_ReduceWithNan(benchmark::State& state) {
  Flat flat(Dtype::kFloat32, state.range(0));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (std::size_t i = 0; i < flat.data.size(); i += 1024 * sizeof(float)) {
    std::memcpy(flat.data.data() + i, &nan, sizeof(nan));
  }
  for (auto _ : state) benchmark::DoNotOptimize(Reduce(flat.View()));
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(flat.data.size()));
}

void BM_ReduceWeightAndUpdate(benchmark::State& state, Dtype dtype) {
  const Flat flat(dtype, state.range(0));
  std::vector<char> previous = flat.data;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        ReduceWeightAndUpdate(flat.View(), previous.data()));
  }
  state.SetBytesProcessed(2 * state.iterations() *
                          static_cast<std::int64_t>(flat.data.size()));
}

// A step of `parameters` parameters with the usual roles, one count in 50.
StepData MakeStep(std::size_t parameters) {
  StepData step;
  step.step = 12'345;
  step.wall_time_unix_ns = 1'700'000'000'000'000'000;
  step.schema_id = 1;
  std::mt19937_64 random(2);
  const auto number = [&] { return static_cast<float>(random()) * 1e-19f; };
  for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
    RoleColumns& columns = step.roles.emplace_back();
    columns.role = role;
    columns.Resize(parameters);
    for (std::size_t i = 0; i < parameters; ++i) {
      columns.Set(i, {number(), number(), number(), number(), number(),
                      random() % 50 == 0 ? random() % 100'000 : 0, 0, 0, 0});
    }
  }
  step.scalars.push_back({"loss", 0.25});
  return step;
}

void BM_EncodeStep(benchmark::State& state) {
  const StepData step = MakeStep(static_cast<std::size_t>(state.range(0)));
  std::string out(EncodedStepSize(step), '\0');
  for (auto _ : state) {
    const std::size_t size = EncodedStepSize(step);
    EncodeStep(step, {out.data(), size});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(out.size()));
}

void BM_CopyEncodedStep(benchmark::State& state) {
  const StepData step = MakeStep(static_cast<std::size_t>(state.range(0)));
  std::string from(EncodedStepSize(step), '\0');
  std::string out(from.size(), '\0');
  EncodeStep(step, {from.data(), from.size()});
  for (auto _ : state) {
    std::memcpy(out.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(out.size()));
}

void BM_ParseStep(benchmark::State& state) {
  const StepData step = MakeStep(static_cast<std::size_t>(state.range(0)));
  std::string bytes(EncodedStepSize(step), '\0');
  EncodeStep(step, {bytes.data(), bytes.size()});
  const std::string_view body = ParseRecord(bytes)->body;
  for (auto _ : state) benchmark::DoNotOptimize(StepView::Parse(body).ok());
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(bytes.size()));
}

// 4 KiB to 256 MiB of float32.
constexpr std::int64_t kSmall = 1 << 10;
constexpr std::int64_t kLarge = 1 << 26;

#define GRADTAP_SIZES RangeMultiplier(64)->Range(kSmall, kLarge)
BENCHMARK(BM_ReadProbe)->GRADTAP_SIZES;
BENCHMARK_CAPTURE(BM_Reduce, float32, Dtype::kFloat32)->GRADTAP_SIZES;
BENCHMARK_CAPTURE(BM_Reduce, bfloat16, Dtype::kBfloat16)->GRADTAP_SIZES;
BENCHMARK_CAPTURE(BM_Reduce, float16, Dtype::kFloat16)->GRADTAP_SIZES;
BENCHMARK_CAPTURE(BM_Reduce, float64, Dtype::kFloat64)
    ->Arg(kSmall)
    ->Arg(1 << 22);
BENCHMARK_CAPTURE(BM_Reduce, int64, Dtype::kInt64)->Arg(kSmall)->Arg(1 << 22);
BENCHMARK_CAPTURE(BM_Reduce, bool, Dtype::kBool)->Arg(kSmall)->Arg(1 << 22);
BENCHMARK_CAPTURE(BM_Reduce, complex64, Dtype::kComplex64)
    ->Arg(kSmall)
    ->Arg(1 << 22);
// A bias: what a call costs.
BENCHMARK_CAPTURE(BM_Reduce, float32_small, Dtype::kFloat32)->Arg(1)->Arg(64);
BENCHMARK(BM_ReduceTransposed)->Arg(1 << 5)->Arg(1 << 10)->Arg(1 << 12);
BENCHMARK(BM_ReduceWithNan)->Arg(kSmall)->Arg(1 << 22);
BENCHMARK_CAPTURE(BM_ReduceWeightAndUpdate, float32, Dtype::kFloat32)
    ->GRADTAP_SIZES;
BENCHMARK_CAPTURE(BM_ReduceWeightAndUpdate, bfloat16, Dtype::kBfloat16)
    ->Arg(kSmall)
    ->Arg(1 << 22);
BENCHMARK_CAPTURE(BM_ReduceWeightAndUpdate, float64, Dtype::kFloat64)
    ->Arg(kSmall)
    ->Arg(1 << 22);
BENCHMARK(BM_EncodeStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_CopyEncodedStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_ParseStep)->Arg(8)->Arg(200)->Arg(10'000);
#undef GRADTAP_SIZES

}  // namespace
}  // namespace gradtap

BENCHMARK_MAIN();
