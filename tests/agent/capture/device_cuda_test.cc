// DeviceReducer where it waits: on CUDA. Skipped where there is none.

#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/types.h>

#include <cmath>
#include <vector>

#include "agent/capture/device_made.h"
#include "agent/capture/device_reduce.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EveryType;
using ::gradtap::testing::kValuesCount;
using ::gradtap::testing::Values;

template <typename T>
class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) {
      GTEST_SKIP() << "this LibTorch or this machine has no CUDA";
    }
  }
};
TYPED_TEST_SUITE(CudaTest, EveryType);

TYPED_TEST(CudaTest, MomentsBinsAndUpdatesAreWithinTheBounds) {
  DeviceReducer whole;
  DeviceReducer sliced({/*slice=*/16, /*small=*/8});
  for (int v = 0; v < kValuesCount; ++v) {
    const auto values = static_cast<Values>(v);
    for (DeviceReducer* const reducer : {&whole, &sliced}) {
      testing::CheckMoments<TypeParam>(torch::kCUDA, values, 100 + v, *reducer);
      testing::CheckUpdates<TypeParam>(torch::kCUDA, values, 200 + v, *reducer);
    }
  }
}

class CudaStepTest : public CudaTest<float> {};

TEST_F(CudaStepTest, AStepIsReadWhileTheNextOneRuns) {
  DeviceReducer reducer;
  torch::Tensor w = torch::zeros({1000}, torch::kCUDA);
  DeviceCopy copy;
  for (int step = 0; step < 20; ++step) {
    if (reducer.pending()) reducer.Wait();
    w.add_(1);
    reducer.Begin();
    const auto tickets = reducer.AddWeight(w, &copy);
    const auto loss = reducer.AddScalar(w.sum());
    reducer.Launch();
    reducer.Send();
    w.add_(1);
    w.sub_(1);
    ASSERT_TRUE(reducer.pending());
    reducer.Wait();
    EXPECT_EQ(reducer.Result(tickets.weight).mean, step + 1);
    EXPECT_EQ(reducer.Scalar(loss), 1000.0 * (step + 1));
    if (step > 0) {
      EXPECT_EQ(reducer.Result(tickets.update).mean, 1);
    }
  }
}

TEST_F(CudaStepTest, UncoalescedSparseGradientsAddUp) {
  DeviceReducer reducer;
  const torch::Tensor t =
      torch::sparse_coo_tensor(torch::tensor({{3, 1, 3}}, torch::kCUDA),
                               torch::ones({3, 2}, torch::kCUDA), {10, 2});
  reducer.Begin();
  const auto ticket = reducer.Add(t);
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  const Moments m = reducer.Result(ticket);
  EXPECT_EQ(m.max, 2);
  EXPECT_EQ(m.zero, 16u);
  EXPECT_NEAR(m.mean, 0.3, 1e-12);
}

}  // namespace
}  // namespace gradtap::agent
