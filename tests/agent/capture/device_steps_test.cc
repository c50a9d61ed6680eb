// DeviceReducer on the CPU: one step after the other, in somebody else's loop.

#include "agent/capture/device_steps.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "agent/capture/counting_allocator.h"
#include "agent/capture/device_reduce.h"
#include "agent/capture/fake_timing.h"
#include "agent/capture/recording.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::CountingAllocator;
using ::gradtap::testing::FakeDevice;
using ::gradtap::testing::FakeTimingEvents;
using ::gradtap::testing::kWaiting;
using ::gradtap::testing::MomentsOfOne;
using ::gradtap::testing::Recording;
using ::gradtap::testing::UpdateMeans;
using ::gradtap::testing::Weight;

// ---- Steps ------------------------------------------------------------------

TEST(DeviceReducerStepsTest, ResultsThatNobodyWaitedForAreForgotten) {
  DeviceReducer reducer;
  reducer.Begin();
  reducer.Add(torch::ones({3}));
  reducer.Launch();
  EXPECT_FALSE(reducer.pending());
  reducer.Send();
  EXPECT_TRUE(reducer.pending());
  reducer.Begin();
  EXPECT_FALSE(reducer.pending());
  reducer.Add(torch::ones({3}));  // Never launched.
  EXPECT_EQ(MomentsOfOne(reducer, torch::full({3}, 2.0f)).mean, 2);
  EXPECT_FALSE(reducer.pending());
}

TEST(DeviceReducerStepsTest, WhatWasLaunchedMayChangeAfterwards) {
  DeviceReducer reducer;
  torch::Tensor t = torch::ones({3});
  torch::Tensor s = torch::tensor(7.0f);
  reducer.Begin();
  const auto first = reducer.Add(t);
  const auto scalar = reducer.AddScalar(s);
  reducer.Launch();
  t.fill_(5);
  s.fill_(8);
  const auto second = reducer.Add(t);
  reducer.Launch();
  reducer.Send();
  t.fill_(9);
  reducer.Wait();
  EXPECT_EQ(reducer.Result(first).mean, 1);
  EXPECT_EQ(reducer.Result(second).mean, 5);
  EXPECT_EQ(reducer.Scalar(scalar), 7);
  BinCounts bins{};
  EXPECT_FALSE(reducer.AddBins(first, &bins));
}

TEST(DeviceReducerStepsTest, TheBufferGrowsWithoutLosingWhatItHolds) {
  DeviceReducer reducer;
  reducer.Begin();
  std::vector<DeviceReducer::Ticket> tickets;
  for (int i = 0; i < 3000; ++i) {
    tickets.push_back(reducer.Add(torch::full({1 + i % 7}, float(i))));
    if (i % 100 == 0) reducer.Launch();
  }
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  for (int i = 0; i < 3000; ++i) {
    ASSERT_EQ(reducer.Result(tickets[static_cast<std::size_t>(i)]).mean, i);
  }
  EXPECT_GE(reducer.buffer_bytes(), 3000u * 9 * 8 * 2);
}

TEST(DeviceReducerStepsTest, TemporariesAreBoundedByTheSliceNotByTheTensor) {
  constexpr std::int64_t kSlice = 1 << 16;
  DeviceReducer reducer({kSlice, 1 << 10});
  for (const auto type : {torch::kFloat, torch::kDouble, torch::kHalf,
                          torch::kLong, torch::kComplexDouble}) {
    Weight w{torch::ones({kSlice * 20}).to(type), {}};
    for (const bool histograms : {false, true}) {
      reducer.Begin(histograms);
      reducer.AddWeight(w.tensor, &w.copy);
      reducer.Launch();
      CountingAllocator memory;
      reducer.Begin(histograms);
      reducer.AddWeight(w.tensor, &w.copy);
      reducer.Launch();
      EXPECT_GT(memory.peak(), 0);
      EXPECT_LT(memory.peak(), 100 * kSlice)
          << w.tensor.toString() << " histograms " << histograms;
    }
  }
}

// ---- A guest ----------------------------------------------------------------

TEST(DeviceReducerStepsTest, NoOperationWaitsForADevice) {
  torch::manual_seed(1);
  DeviceReducer reducer({/*slice=*/50, /*small=*/20});
  std::vector<Weight> weights;
  for (const auto type :
       {torch::kFloat, torch::kDouble, torch::kHalf, torch::kBFloat16,
        torch::kInt, torch::kLong, torch::kBool, torch::kComplexFloat,
        torch::kComplexDouble}) {
    for (const std::int64_t n : {1, 7, 7, 300}) {
      weights.push_back({torch::randn({n}).to(type), {}});
    }
    weights.push_back({torch::randn({9, 9}).to(type).slice(1, 0, 9, 2), {}});
  }
  const torch::Tensor sparse = torch::sparse_coo_tensor(
      torch::tensor({{1, 1, 5}}), torch::randn({3, 2}), {50, 2});
  const torch::Tensor loss = torch::tensor(1.0f);
  Recording recording;
  for (int step = 0; step < 3; ++step) {
    reducer.Begin(/*histograms=*/step == 2);
    for (Weight& w : weights) {
      reducer.Add(w.tensor, 0.5);
      reducer.AddWeight(w.tensor, &w.copy);
    }
    reducer.Add(sparse);
    reducer.AddScalar(loss);
    reducer.Launch();
    reducer.Send();
  }
  const auto launched = recording.operations;
  reducer.Wait();
  EXPECT_EQ(recording.operations, launched) << "Wait() calls ATen";
  EXPECT_GT(recording.operations["aten::aminmax"], 0);
  for (const char* const name : kWaiting) {
    EXPECT_EQ(recording.operations.count(name), 0u) << name;
  }
}

TEST(DeviceReducerStepsTest, EqualSmallTensorsShareTheirOperations) {
  DeviceReducer reducer;
  const auto count = [&](int tensors) {
    std::vector<Weight> weights(static_cast<std::size_t>(tensors));
    for (Weight& w : weights) w.tensor = torch::ones({64});
    std::vector<Weight*> all;
    for (Weight& w : weights) all.push_back(&w);
    UpdateMeans(reducer, all);
    UpdateMeans(reducer, all);
    Recording recording;
    UpdateMeans(reducer, all);
    // What runs nothing; some versions narrow once more for a larger table.
    for (const char* const view :
         {"aten::as_strided", "aten::reshape", "aten::_reshape_alias",
          "aten::is_non_overlapping_and_dense", "aten::view", "aten::narrow",
          "aten::slice"}) {
      recording.operations.erase(view);
    }
    return recording.operations;
  };
  const auto few = count(10);
  EXPECT_EQ(count(1000), few);
}

TEST(DeviceReducerStepsTest, LeavesTensorsModesAndRandomNumbersAsTheyWere) {
  torch::manual_seed(9);
  const torch::Tensor expected_random = torch::rand({3});
  torch::manual_seed(9);
  DeviceReducer reducer;
  torch::Tensor w = torch::ones({4}).requires_grad_();
  const torch::Tensor product = (w * w).sum();  // Saves w at its version.
  const torch::Tensor view = w.view({2, 2});
  const auto version = w._version();
  DeviceCopy copy;
  for (int step = 0; step < 2; ++step) {
    reducer.Begin(true);
    reducer.AddWeight(w, &copy);
    reducer.AddWeight(view, &copy);
    reducer.Add(w.t());
    reducer.AddScalar(product);
    reducer.Launch();
    reducer.Send();
    reducer.Wait();
  }
  EXPECT_EQ(w._version(), version);
  EXPECT_FALSE(copy.values.requires_grad());
  EXPECT_TRUE(torch::GradMode::is_enabled());
  EXPECT_FALSE(c10::InferenceMode::is_enabled());
  product.backward();
  EXPECT_TRUE(torch::equal(w.grad(), torch::full({4}, 2.0f)));
  EXPECT_TRUE(torch::equal(torch::rand({3}), expected_random));
}

TEST(DeviceReducerStepsTest, WorksInTheModesOfALoop) {
  DeviceReducer reducer;
  Weight w{torch::ones({4}), {}};
  UpdateMeans(reducer, {&w});
  w.tensor.add_(1);
  {
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 1);
  }
  {
    const c10::InferenceMode inference;
    EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 0);
    Weight inside{torch::ones({4}), {}};
    UpdateMeans(reducer, {&inside});
    EXPECT_EQ(UpdateMeans(reducer, {&inside})[0], 0);
  }
  w.tensor.add_(2);
  EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 2);
}
// ---- Its time ---------------------------------------------------------------

// Each event is a microsecond after the one before.
class TickingEvents : public FakeTimingEvents {
 public:
  explicit TickingEvents(FakeDevice* device)
      : FakeTimingEvents(device), ticking_(*device) {}
  bool Record(Event event) noexcept override {
    ticking_.now += std::chrono::microseconds(1);
    return FakeTimingEvents::Record(event);
  }

 private:
  FakeDevice& ticking_;
};

TEST(DeviceReducerStepsTest, WhatTheDeviceTakesIsMeasuredAroundEachLaunch) {
  FakeDevice device;
  {
    DeviceReducer::Sizes sizes;
    sizes.timing_events = [&](c10::Device) {
      return std::make_unique<TickingEvents>(&device);
    };
    DeviceReducer reducer(sizes);
    const auto step = [&](int launches, bool scalar) {
      reducer.Begin();
      for (int i = 0; i < launches; ++i) {
        reducer.Add(torch::ones({3}));
        reducer.Add(torch::ones({4}));
        reducer.Launch();
      }
      if (scalar) reducer.AddScalar(torch::ones({1}));
      reducer.Launch();
      reducer.Send();
      EXPECT_EQ(reducer.TakeDeviceTime(), std::chrono::microseconds(0));
      reducer.Wait();
      return reducer.TakeDeviceTime();
    };
    EXPECT_EQ(step(1, false), std::chrono::microseconds(1));
    EXPECT_EQ(step(2, true), std::chrono::microseconds(2));
    EXPECT_EQ(reducer.TakeDeviceTime(), std::chrono::microseconds(0));
    // Scalars are of each step: no interval saves them.
    EXPECT_EQ(step(0, true), std::chrono::microseconds(0));
    // A copy is part of what a later step costs.
    Weight w{torch::ones({3}), {}};
    reducer.Keep(w.tensor, &w.copy);
    reducer.Launch();
    EXPECT_EQ(step(1, false), std::chrono::microseconds(2));
    // What is not done yet is said when it is.
    device.done = device.now;
    EXPECT_EQ(step(1, false), std::chrono::microseconds(0));
    device.done = std::chrono::hours(1);
    EXPECT_EQ(step(0, true), std::chrono::microseconds(1));
    EXPECT_EQ(device.events, 4);
  }
  EXPECT_EQ(device.events, 0);
}

TEST(DeviceReducerStepsTest, ALaunchThatThrewIsNotMeasured) {
  FakeDevice device;
  DeviceReducer::Sizes sizes;
  sizes.timing_events = [&](c10::Device) {
    return std::make_unique<TickingEvents>(&device);
  };
  DeviceReducer reducer(sizes);
  reducer.Begin();
  reducer.Add(torch::ones({100'000}));
  {
    CountingAllocator memory;
    memory.Refuse(800'000);
    EXPECT_ANY_THROW(reducer.Launch());
  }
  EXPECT_EQ(MomentsOfOne(reducer, torch::ones({3})).mean, 1);
  EXPECT_EQ(reducer.TakeDeviceTime(), std::chrono::microseconds(1));
}

}  // namespace
}  // namespace gradtap::agent
