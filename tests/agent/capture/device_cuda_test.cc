// DeviceReducer where it waits: on CUDA. Skipped where there is none.

#include <gtest/gtest.h>
#include <torch/cuda.h>
#include <torch/types.h>

#include <random>
#include <string>
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

TYPED_TEST(CudaTest, LargeTensorsAreReducedAsByTheSameCodeOnTheCpu) {
  DeviceReducer::Sizes sizes;
  DeviceReducer cuda(sizes);
  sizes.fuse_on_cpu = true;
  DeviceReducer cpu(sizes);
  std::mt19937_64 random(3);
  std::vector<torch::Tensor> tensors, moved;
  for (int v = 0; v < kValuesCount; ++v) {
    for (const std::int64_t n : {600, 65537, 135000}) {
      const torch::Tensor t =
          testing::Draw1d<TypeParam>(n, static_cast<Values>(v), random);
      // Not all of them aligned.
      tensors.push_back(t.slice(0, v % 3, n));
      moved.push_back(t.to(torch::kCUDA).slice(0, v % 3, n));
    }
  }
  std::vector<DeviceCopy> copies(tensors.size()), moved_copies(tensors.size());
  for (int step = 0; step < 2; ++step) {
    std::vector<DeviceReducer::WeightTickets> tickets, moved_tickets;
    cpu.Begin(/*histograms=*/true);
    cuda.Begin(/*histograms=*/true);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      tickets.push_back(cpu.AddWeight(tensors[i], &copies[i]));
      moved_tickets.push_back(cuda.AddWeight(moved[i], &moved_copies[i]));
    }
    for (DeviceReducer* const reducer : {&cpu, &cuda}) {
      reducer->Launch();
      reducer->Send();
      reducer->Wait();
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const std::string what = tensors[i].toString() + " " + std::to_string(i) +
                               " step " + std::to_string(step);
      const auto check = [&](DeviceReducer::Ticket on_cuda,
                             DeviceReducer::Ticket on_cpu) {
        // The kernel and what tests elsewhere run in its place.
        testing::ExpectNearMoments(cuda.Result(on_cuda), cpu.Result(on_cpu),
                                   1e-6, what);
        BinCounts bins{}, want{};
        ASSERT_TRUE(cuda.AddBins(on_cuda, &bins));
        ASSERT_TRUE(cpu.AddBins(on_cpu, &want));
        EXPECT_EQ(bins, want) << what;
      };
      check(moved_tickets[i].weight, tickets[i].weight);
      if (step > 0) check(moved_tickets[i].update, tickets[i].update);
      const torch::Tensor next = tensors[i].flip({0});
      tensors[i].copy_(next);
      moved[i].copy_(next);
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
