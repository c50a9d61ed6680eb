// The encoding of a step, beside a copy of its bytes.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>

#include "core/codec.h"
#include "core/step_data.h"

namespace gradtap {
namespace {

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

BENCHMARK(BM_EncodeStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_CopyEncodedStep)->Arg(8)->Arg(200)->Arg(10'000);
BENCHMARK(BM_ParseStep)->Arg(8)->Arg(200)->Arg(10'000);

}  // namespace
}  // namespace gradtap
