// The encoding of a step, beside a copy of its bytes.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "bench/usual_step.h"
#include "core/codec.h"
#include "core/step_data.h"

namespace gradtap {
namespace {

using bench::UsualStep;

void BM_EncodeStep(benchmark::State& state) {
  const StepData step = UsualStep(static_cast<std::size_t>(state.range(0)));
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
  const StepData step = UsualStep(static_cast<std::size_t>(state.range(0)));
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
  const StepData step = UsualStep(static_cast<std::size_t>(state.range(0)));
  std::string bytes(EncodedStepSize(step), '\0');
  EncodeStep(step, {bytes.data(), bytes.size()});
  const std::string_view body = ParseRecord(bytes)->body;
  for (auto _ : state) benchmark::DoNotOptimize(StepView::Parse(body).ok());
  state.SetBytesProcessed(state.iterations() *
                          static_cast<std::int64_t>(bytes.size()));
}

BENCHMARK(BM_EncodeStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_CopyEncodedStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_ParseStep)->Arg(8)->Arg(200)->Arg(10'000);

}  // namespace
}  // namespace gradtap
