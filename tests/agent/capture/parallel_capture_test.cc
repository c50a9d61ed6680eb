#include <ATen/Context.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture/allocation_counter.h"
#include "agent/capture/recorder.h"
#include "agent/capture/tensor_view.h"
#include "agent/capture/work_list.h"
#include "core/kernel.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::Recorder;
using ::gradtap::testing::Threads;

// Many small tensors of every layout, and some that are cut into chunks.
void AddModel(Recorder* recorder) {
  torch::manual_seed(7);
  const auto add = [&](const std::string& name, torch::Tensor weight,
                       torch::Tensor gradient) {
    recorder->Add(name, weight.set_requires_grad(weight.is_floating_point()))
        .mutable_grad() = gradient;
  };
  for (int i = 0; i < 400; ++i) {
    add("small" + std::to_string(i), torch::randn({64}), torch::randn({64}));
  }
  add("large", torch::randn({700, 1001}), torch::randn({700, 1001}));
  add("transposed", torch::randn({500, 601}).t(), torch::randn({500, 601}).t());
  add("sliced", torch::randn({300, 900}).slice(1, 3, 900, 2),
      torch::randn({300, 449}));
  add("permuted", torch::randn({9, 80, 300}).permute({2, 0, 1}),
      torch::randn({300, 9, 80}));
  add("expanded", torch::randn({1, 300}).expand({500, 300}),
      torch::randn({500, 1}).expand({500, 300}));
  add("half", torch::randn({300'000}).to(torch::kFloat16),
      torch::randn({300'000}).to(torch::kFloat16));
  add("bfloat", torch::randn({200'000}).to(torch::kBFloat16), {});
  add("double", torch::randn({100'000}, torch::kFloat64), {});
  add("six", torch::randn({3, 2, 4, 5, 6, 7}).permute({5, 3, 1, 0, 2, 4}), {});
  add("scalar", torch::tensor(2.5f), torch::tensor(-1.0f));
  add("empty", torch::zeros({0, 4}), torch::zeros({0, 4}));
  const torch::Tensor places =
      torch::randint(0, 20'000, {1, 3000}, torch::kInt64);
  add("embedding", torch::randn({20'000, 8}),
      torch::sparse_coo_tensor(places, torch::randn({3000, 8}), {20'000, 8}));
  add("coalesced", torch::randn({20'000, 8}),
      torch::sparse_coo_tensor(places, torch::randn({3000, 8}), {20'000, 8})
          .coalesce());
  torch::Tensor poisoned = torch::randn({200'000});
  poisoned[70'000] = 0.0f / 0.0f;
  poisoned[130'000] = 1.0f / 0.0f;
  add("poisoned", poisoned, poisoned * 1e-40);
  recorder->Add("ticks", torch::arange(300'000), /*buffer=*/true);
}

// Changes the weights in the same way whoever asks.
void Train(Recorder* recorder, std::int64_t step) {
  const torch::NoGradGuard no_grad;
  for (const char* name : {"large", "transposed", "half", "small7"}) {
    recorder->tensor(name).mul_(1.0 + 0.01 * static_cast<double>(step + 1));
  }
}

// Every byte that a step says.
std::vector<char> BytesOf(const StepData& step) {
  std::vector<char> bytes;
  const auto put = [&](const auto& column) {
    const auto* const begin = reinterpret_cast<const char*>(column.data());
    bytes.insert(bytes.end(), begin,
                 begin + column.size() * sizeof(column.front()));
  };
  for (const RoleColumns& c : step.roles) {
    for (const auto* column : {&c.mean, &c.std, &c.abs_mean, &c.min, &c.max}) {
      put(*column);
    }
    for (const auto* column : {&c.zero, &c.nan, &c.pos_inf, &c.neg_inf}) {
      put(*column);
    }
    put(c.absent);
  }
  for (const HistogramData& h : step.histograms) {
    put(std::vector<std::uint32_t>{static_cast<std::uint32_t>(h.role),
                                   h.place});
    put(h.bin);
    put(h.count);
  }
  return bytes;
}

std::vector<std::vector<char>> RunModel(int threads, std::int64_t interval) {
  const Threads pool(threads);
  CaptureOptions options;
  options.histogram_interval_steps = interval;
  Recorder recorder(std::move(options));
  AddModel(&recorder);
  std::vector<std::vector<char>> steps;
  for (std::int64_t step = 0; step < 4; ++step) {
    recorder.Step(step);
    steps.push_back(BytesOf(recorder.capture().step()));
    Train(&recorder, step);
  }
  EXPECT_EQ(at::get_num_threads(), threads);  // Nobody changed it.
  return steps;
}

TEST(ParallelCaptureTest, EveryStepIsTheSameBitsForAnyNumberOfThreads) {
  for (const std::int64_t interval : {0, 2}) {
    const auto one = RunModel(1, interval);
    for (const int threads : {2, 3, 8}) {
      EXPECT_EQ(RunModel(threads, interval), one)
          << threads << " threads, histograms every " << interval;
    }
  }
}

std::array<std::uint64_t, 9> BitsOf(const Record& r) {
  const auto bits = [](float f) {
    return std::uint64_t{std::bit_cast<std::uint32_t>(f)};
  };
  return {bits(r.mean), bits(r.std), bits(r.abs_mean), bits(r.min), bits(r.max),
          r.zero,       r.nan,       r.pos_inf,        r.neg_inf};
}

TEST(ParallelCaptureTest, RecordsAreThoseOfTheKernelsOnOneThread) {
  const Threads pool(2);
  Recorder recorder;
  AddModel(&recorder);
  recorder.Step(0);
  int compared = 0;
  for (const Parameter& p : recorder.capture().schema().parameters) {
    const torch::Tensor& tensor = recorder.tensor(p.name);
    const Role role = p.kind == Kind::kBuffer ? Role::kBuffer : Role::kWeight;
    // Of a parameter the elements are kept besides: in an expanded one they
    // are taken in another order.
    std::vector<std::byte> kept(tensor.numel() * tensor.element_size() + 1);
    const Record want = ToRecord(
        role == Role::kBuffer ? Reduce(ViewOf(tensor))
                              : ReduceAndCopy(ViewOf(tensor), kept.data()));
    const Record got = recorder.Get(p.name, role).value();
    EXPECT_EQ(BitsOf(got), BitsOf(want)) << p.name;
    ++compared;
  }
  EXPECT_EQ(compared, 415);
}

WorkItem ItemOf(const torch::Tensor& tensor, RoleColumns* columns,
                std::uint32_t place) {
  WorkItem item;
  item.reduction.view = ViewOf(tensor);
  item.columns = columns;
  item.place = place;
  return item;
}

TEST(WorkListTest, AListThatPaysIsRunByEveryThreadOfThePool) {
  const torch::Tensor large = torch::ones({1 << 20});
  RoleColumns columns;
  columns.Resize(1);
  WorkList work;
  for (const int threads : {1, 2, 4}) {
    const Threads pool(threads);
    work.Add(ItemOf(large, &columns, 0), 1 << 20);
    // 1 where the compiler's OpenMP is not LibTorch's: see CMakeLists.txt.
    const std::size_t usable = PoolThreads();
#ifndef __clang__
    EXPECT_EQ(usable, static_cast<std::size_t>(threads));
#endif
    work.Run();
    EXPECT_EQ(work.threads_of_last_run(), usable);
    EXPECT_EQ(columns.mean[0], 1);
  }
}

TEST(WorkListTest, AShortListStaysOnTheCallingThread) {
  const Threads pool(2);
  const torch::Tensor small = torch::ones({64});
  RoleColumns columns;
  columns.Resize(50);
  WorkList work;
  for (std::uint32_t i = 0; i < 50; ++i) {
    work.Add(ItemOf(small, &columns, i), 64);
  }
  work.Run();
  EXPECT_EQ(work.threads_of_last_run(), 1u);
  EXPECT_EQ(columns.mean, std::vector<float>(50, 1.0f));
}

TEST(WorkListTest, ManySmallTensorsAreSharedOut) {
  const Threads pool(2);
  const torch::Tensor small = torch::ones({64});
  RoleColumns columns;
  columns.Resize(10'000);
  WorkList work;
  for (std::uint32_t i = 0; i < 10'000; ++i) {
    work.Add(ItemOf(small, &columns, i), 64);
  }
  const std::size_t usable = PoolThreads();
  work.Run();
  EXPECT_EQ(work.threads_of_last_run(), usable);
  EXPECT_EQ(columns.mean, std::vector<float>(10'000, 1.0f));
}

TEST(WorkListTest, InsideAParallelRegionItStaysOnItsThread) {
  const Threads pool(2);
  const torch::Tensor large = torch::ones({1 << 20});
  RoleColumns columns;
  columns.Resize(1);
  WorkList work;
  work.Add(ItemOf(large, &columns, 0), 1 << 20);
  std::size_t threads = 0;
  at::parallel_for(0, 2, 1, [&](std::int64_t begin, std::int64_t) {
    if (begin != 0 || !at::in_parallel_region()) return;
    work.Run();
    threads = work.threads_of_last_run();
  });
  if (threads == 0) {  // In a unit without OpenMP there is no such region.
    work.Run();
    threads = work.threads_of_last_run() == PoolThreads() ? 1 : 0;
  }
  EXPECT_EQ(threads, 1u);
  EXPECT_EQ(columns.mean[0], 1);
}

TEST(ParallelCaptureTest, SubnormalsAreTheSameOnEveryThread) {
  if (!at::globalContext().setFlushDenormal(true)) return;
  std::vector<std::vector<char>> runs;
  for (const int threads : {1, 2, 3}) {
    const Threads pool(threads);
    Recorder recorder;
    recorder.Add("w", torch::full({1 << 20}, 1.0f));
    auto* const data = recorder.tensor("w").data_ptr<float>();
    for (int i = 0; i < 1 << 20; ++i) {
      const std::uint32_t bits = 1000u + static_cast<std::uint32_t>(i % 50);
      std::memcpy(&data[i], &bits, sizeof(bits));
    }
    recorder.Step(0);
    runs.push_back(BytesOf(recorder.capture().step()));
  }
  at::globalContext().setFlushDenormal(false);
  EXPECT_EQ(runs[1], runs[0]);
  EXPECT_EQ(runs[2], runs[0]);
}

// Everything but the sparse gradients, whose scratch is theirs.
TEST(ParallelCaptureTest, NoThreadAllocatesAfterTheFirstSteps) {
  const Threads pool(3);
  CaptureOptions options;
  options.histogram_interval_steps = 2;
  Recorder recorder(std::move(options));
  AddModel(&recorder);
  for (std::int64_t step = 0; step < 4; ++step) recorder.Step(step);
  for (std::int64_t step = 4; step < 8; ++step) {
    gradtap::testing::StartCountingAllocations();
    bool ok = recorder.capture().BeginStep(step).ok();
    ok &= recorder.capture().ReduceGradients(Role::kGrad).ok();
    ok &= recorder.capture().ReduceWeights().ok();
    EXPECT_EQ(gradtap::testing::StopCountingAllocations(), 0) << step;
    EXPECT_TRUE(ok);
    EXPECT_EQ(recorder.capture().step().histograms.empty(), step % 2 == 1);
  }
}

TEST(ParallelCaptureTest, KeepingTheWeightsAllocatesNothing) {
  const Threads pool(2);
  Recorder recorder;
  AddModel(&recorder);
  recorder.Step(0);
  recorder.capture().KeepWeights();
  gradtap::testing::StartCountingAllocations();
  recorder.capture().KeepWeights();
  EXPECT_EQ(gradtap::testing::StopCountingAllocations(), 0);
  recorder.Step(1);
  const Record update = recorder.Get("large", Role::kUpdate).value();
  EXPECT_EQ(update.zero, 700u * 1001u);
}

}  // namespace
}  // namespace gradtap::agent
