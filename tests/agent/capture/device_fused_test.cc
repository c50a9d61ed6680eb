// DeviceReducer on the CPU by the code of the kernel that CUDA runs.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <vector>

#include "agent/capture/counting_allocator.h"
#include "agent/capture/device_made.h"
#include "agent/capture/device_reduce.h"
#include "agent/capture/device_steps.h"
#include "agent/capture/recording.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::CountingAllocator;
using ::gradtap::testing::EveryType;
using ::gradtap::testing::kValuesCount;
using ::gradtap::testing::kWaiting;
using ::gradtap::testing::MomentsOfOne;
using ::gradtap::testing::Recording;
using ::gradtap::testing::UpdateMeans;
using ::gradtap::testing::Values;
using ::gradtap::testing::Weight;
using ::testing::ElementsAre;

DeviceReducer::Sizes Fused(std::int64_t small = std::int64_t{1} << 16) {
  DeviceReducer::Sizes sizes;
  sizes.small = small;
  sizes.fuse_on_cpu = true;
  return sizes;
}

template <typename T>
class FusedTypeTest : public ::testing::Test {};
TYPED_TEST_SUITE(FusedTypeTest, EveryType);

TYPED_TEST(FusedTypeTest, AnyLayoutIsWithinTheBounds) {
  DeviceReducer together(Fused()), apart(Fused(/*small=*/2));
  for (int v = 0; v < kValuesCount; ++v) {
    const auto values = static_cast<Values>(v);
    for (DeviceReducer* const reducer : {&together, &apart}) {
      testing::CheckMoments<TypeParam>(torch::kCPU, values, 500 + v, *reducer);
      testing::CheckUpdates<TypeParam>(torch::kCPU, values, 600 + v, *reducer);
    }
  }
}

// Without the operations of ATen there are no temporaries in double.
TEST(DeviceFusedTest, DenseTensorsAreNotCopiedForTheirStatistics) {
  DeviceReducer reducer(Fused());
  constexpr std::int64_t kElements = std::int64_t{1} << 20;
  for (const auto type :
       {torch::kFloat, torch::kDouble, torch::kHalf, torch::kBFloat16}) {
    Weight w{torch::ones({kElements}).to(type), {}};
    UpdateMeans(reducer, {&w});
    CountingAllocator memory;
    w.tensor.add_(1);
    EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 1);
    EXPECT_LT(memory.peak(), 20000) << w.tensor.toString();
  }
}

TEST(DeviceFusedTest, AnyNumberOfTensorsTakesTheSameOperations) {
  DeviceReducer reducer(Fused());
  const auto count = [&](int tensors) {
    std::vector<Weight> weights(static_cast<std::size_t>(tensors));
    std::vector<Weight*> all;
    for (Weight& w : weights) {
      const auto n = static_cast<std::int64_t>(&w - weights.data()) % 70 + 1;
      w.tensor = torch::ones(
          {n}, all.size() % 2 == 0 ? torch::kFloat : torch::kBFloat16);
      all.push_back(&w);
    }
    UpdateMeans(reducer, all);
    Recording recording;
    for (const double mean : UpdateMeans(reducer, all)) EXPECT_EQ(mean, 0);
    for (const char* const name : kWaiting) {
      EXPECT_EQ(recording.operations.count(name), 0u) << name;
    }
    return recording.operations;
  };
  count(1000);  // Buffers are as large as they get.
  EXPECT_EQ(count(10), count(1000));
}

TEST(DeviceFusedTest, WhatWasLaunchedMayChangeAfterwards) {
  DeviceReducer reducer(Fused());
  Weight w{torch::ones({2000}), {}};
  torch::Tensor loss = torch::tensor(7.0f, torch::kHalf);
  UpdateMeans(reducer, {&w});
  w.tensor.add_(1);
  reducer.Begin();
  const auto gradient = reducer.Add(w.tensor, 0.5);
  reducer.Launch();
  w.tensor.add_(1);
  const auto tickets = reducer.AddWeight(w.tensor, &w.copy);
  const auto scalar = reducer.AddScalar(loss);
  const auto parts = reducer.AddScalar(
      torch::complex(torch::tensor(3.0f), torch::tensor(4.0f)));
  reducer.Launch();
  w.tensor.fill_(9);
  loss.fill_(8);
  reducer.Send();
  reducer.Wait();
  EXPECT_EQ(reducer.Result(gradient).mean, 1);
  EXPECT_EQ(reducer.Result(tickets.weight).mean, 3);
  EXPECT_EQ(reducer.Result(tickets.update).mean, 2);
  EXPECT_EQ(reducer.Scalar(scalar), 7);
  EXPECT_EQ(reducer.Scalar(parts), 5);
}

TEST(DeviceFusedTest, KeptWeightsAreWhatTheNextStepComparesWith) {
  for (const std::int64_t small : {1, 1 << 16}) {
    DeviceReducer reducer(Fused(small));
    Weight a{torch::zeros({4}), {}};
    Weight b{torch::zeros({700}, torch::kDouble), {}};
    Weight c{torch::zeros({3, 5}, torch::kHalf).t(), {}};
    for (Weight* const w : {&a, &b, &c}) reducer.Keep(w->tensor, &w->copy);
    reducer.Launch();
    for (Weight* const w : {&a, &b, &c}) w->tensor.add_(2);
    EXPECT_THAT(UpdateMeans(reducer, {&a, &b, &c}), ElementsAre(2, 2, 2));
    b.tensor.add_(10);
    reducer.Keep(b.tensor, &b.copy);
    reducer.Launch();
    b.tensor.add_(1);
    EXPECT_THAT(UpdateMeans(reducer, {&c, &b}), ElementsAre(0, 1));
    EXPECT_EQ(c.copy.bytes(), 30u);
    a.copy.valid = false;
    EXPECT_TRUE(std::isnan(UpdateMeans(reducer, {&a})[0]));
    EXPECT_EQ(UpdateMeans(reducer, {&a})[0], 0);
  }
}

TEST(DeviceFusedTest, WithoutMemoryForACopyTheRestIsDone) {
  DeviceReducer reducer(Fused(/*small=*/10));
  Weight large{torch::ones({10000}), {}};
  Weight small{torch::ones({5}, torch::kHalf), {}};
  CountingAllocator memory;
  memory.Refuse(40000);
  reducer.Begin();
  const auto a = reducer.AddWeight(large.tensor, &large.copy);
  const auto b = reducer.AddWeight(small.tensor, &small.copy);
  reducer.Launch();
  EXPECT_TRUE(reducer.out_of_memory());
  reducer.Send();
  reducer.Wait();
  EXPECT_EQ(reducer.Result(a.weight).mean, 1);
  EXPECT_EQ(reducer.Result(b.weight).mean, 1);
  EXPECT_FALSE(large.copy.valid);
  EXPECT_EQ(large.copy.bytes(), 0u);
  EXPECT_TRUE(small.copy.valid);
  memory.RefuseNone();
  EXPECT_TRUE(std::isnan(UpdateMeans(reducer, {&large})[0]));
  EXPECT_FALSE(reducer.out_of_memory());
  EXPECT_EQ(UpdateMeans(reducer, {&large, &small})[0], 0);
}

TEST(DeviceFusedTest, OtherLayoutsTakeTheOtherWay) {
  DeviceReducer reducer(Fused());
  EXPECT_EQ(MomentsOfOne(reducer, torch::arange(6.0f).slice(0, 0, 6, 2)).mean,
            2);
  EXPECT_EQ(MomentsOfOne(reducer, torch::ones({1}).expand({9})).finite, 9u);
  EXPECT_EQ(MomentsOfOne(reducer, torch::eye(4).to_sparse()).zero, 12u);
  const torch::Tensor negated = torch::imag(
      torch::complex(torch::ones({3}), torch::ones({3})).conj().view({3}));
  ASSERT_TRUE(negated.is_neg());
  EXPECT_EQ(MomentsOfOne(reducer, negated).mean, -1);
  EXPECT_EQ(MomentsOfOne(reducer, torch::zeros({0, 3})).numel(), 0u);
  // Both ways in one launch.
  reducer.Begin();
  const auto a = reducer.Add(torch::full({3}, 2.0f));
  const auto b = reducer.Add(torch::full({1}, 3.0f).expand({5}));
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  EXPECT_EQ(reducer.Result(a).mean, 2);
  EXPECT_EQ(reducer.Result(b).mean, 3);
}

}  // namespace
}  // namespace gradtap::agent
