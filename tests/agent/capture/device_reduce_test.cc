// DeviceReducer on the CPU: everything but the waiting is the same there.

#include "agent/capture/device_reduce.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "agent/capture/counting_allocator.h"
#include "agent/capture/device_made.h"
#include "agent/capture/device_steps.h"
#include "agent/capture/tensor_view.h"
#include "core/kernel.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::CountingAllocator;
using ::gradtap::testing::Draw1d;
using ::gradtap::testing::EveryType;
using ::gradtap::testing::ExpectNearMoments;
using ::gradtap::testing::kValuesCount;
using ::gradtap::testing::MomentsOfOne;
using ::gradtap::testing::UpdateMeans;
using ::gradtap::testing::Values;
using ::gradtap::testing::Weight;
using ::testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kNanF = std::numeric_limits<float>::quiet_NaN();

// The kernels add up a few floats before they widen.
constexpr double kBound = 1e-7;

// ---- Every type -------------------------------------------------------------

template <typename T>
class EveryTypeTest : public ::testing::Test {};
TYPED_TEST_SUITE(EveryTypeTest, EveryType);

TYPED_TEST(EveryTypeTest, MomentsAndBinsOfAnyLayoutAreWithinTheBounds) {
  DeviceReducer whole;
  DeviceReducer sliced({/*slice=*/16, /*small=*/8});
  for (int v = 0; v < kValuesCount; ++v) {
    const auto values = static_cast<Values>(v);
    testing::CheckMoments<TypeParam>(torch::kCPU, values, 100 + v, whole);
    testing::CheckMoments<TypeParam>(torch::kCPU, values, 200 + v, sliced);
  }
}

TYPED_TEST(EveryTypeTest, UpdatesAndTheirBinsAreWithinTheBounds) {
  DeviceReducer whole;
  DeviceReducer sliced({/*slice=*/16, /*small=*/8});
  for (int v = 0; v < kValuesCount; ++v) {
    const auto values = static_cast<Values>(v);
    testing::CheckUpdates<TypeParam>(torch::kCPU, values, 300 + v, whole);
    testing::CheckUpdates<TypeParam>(torch::kCPU, values, 400 + v, sliced);
  }
}

TYPED_TEST(EveryTypeTest, AScalarIsTheTensorsElement) {
  std::mt19937_64 random(5);
  DeviceReducer reducer;
  reducer.Begin();
  std::vector<DeviceReducer::Ticket> tickets;
  std::vector<double> want;
  for (int i = 0; i < 20; ++i) {
    const torch::Tensor t = Draw1d<TypeParam>(1, Values::kSpecial, random);
    want.push_back(static_cast<double>(
        testing::Exact(testing::ElementsOf<TypeParam>(t)[0])));
    tickets.push_back(reducer.AddScalar(i % 2 == 0 ? t : t.squeeze()));
  }
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double got = reducer.Scalar(tickets[i]);
    if (std::isnan(want[i])) {
      EXPECT_TRUE(std::isnan(got)) << i;
    } else if (std::isinf(want[i])) {
      EXPECT_EQ(got, want[i]) << i;
    } else {
      EXPECT_NEAR(got, want[i], 1e-15 * std::abs(want[i])) << i;
    }
  }
}

// ---- Values -----------------------------------------------------------------

TEST(DeviceReducerTest, LargeTensorsAgreeWithTheKernels) {
  torch::manual_seed(3);
  DeviceReducer reducer({/*slice=*/10000, /*small=*/100});
  const auto check = [&](const torch::Tensor& t, const std::string& what) {
    ExpectNearMoments(MomentsOfOne(reducer, t), Reduce(ViewOf(t)), kBound,
                      what);
  };
  check(torch::randn({300, 517}), "randn");
  check(torch::randn({300, 517}).t().slice(0, 3, 500, 7), "strided");
  check(torch::randn({1, 300}).expand({600, 300}), "expanded");
  check(torch::randn({100003}).to(torch::kHalf) * 60000, "half");
  check(torch::ones({200000}) + torch::randn({200000}) * 1e-6, "shifted");
  check(torch::full({200000}, 1e30f), "huge");
  check(torch::full({200000}, -1.7e308, torch::kDouble), "huge doubles");
  torch::Tensor poisoned = torch::randn({100000});
  poisoned.slice(0, 10000, 20000).fill_(kNanF);  // A slice without any.
  poisoned[5] = -kInf;
  check(poisoned, "a slice is NaN");
}

TEST(DeviceReducerTest, DoublesThatWouldOverflowASumDoNot) {
  DeviceReducer reducer;
  constexpr double kMax = std::numeric_limits<double>::max();
  const torch::Tensor t =
      torch::tensor({kMax, kMax, -kMax, kMax, -kMax, -kMax}, torch::kDouble);
  const Moments m = MomentsOfOne(reducer, t);
  EXPECT_EQ(m.finite, 6u);
  EXPECT_NEAR(m.mean, 0, 1e-6 * kMax);
  EXPECT_NEAR(m.abs_mean / kMax, 1, 1e-12);
  EXPECT_EQ(m.min, -kMax);
  EXPECT_EQ(m.max, kMax);
  EXPECT_EQ(ToRecord(m).std, std::numeric_limits<float>::max());
}

TEST(DeviceReducerTest, WhatIsRecordedIsMultiplierTimesTheTensor) {
  DeviceReducer reducer;
  const torch::Tensor t = torch::tensor({2.0f, -4.0f, 0.0f, kNanF});
  const Moments m = MomentsOfOne(reducer, t, -0.25);
  ExpectNearMoments(m, Reduce(ViewOf(t * -0.25)), kBound, "strided");
  const torch::Tensor half = torch::tensor({60000.0f, 3.0f}).to(torch::kHalf);
  EXPECT_EQ(MomentsOfOne(reducer, half, 1.0 / 65536).max, 60000.0 / 65536);
  const torch::Tensor c =
      torch::complex(torch::tensor({3.0f, 0.0f}), torch::tensor({4.0f, 0.0f}));
  EXPECT_EQ(MomentsOfOne(reducer, c, 2).max, 10);
  // It tells groups apart.
  reducer.Begin(true);
  const auto once = reducer.Add(torch::ones({3}), 1);
  const auto twice = reducer.Add(torch::ones({3}), 2);
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  EXPECT_EQ(reducer.Result(once).mean, 1);
  EXPECT_EQ(reducer.Result(twice).mean, 2);
  BinCounts bins{};
  ASSERT_TRUE(reducer.AddBins(twice, &bins));
  EXPECT_EQ(bins[BinOf(2)], 3u);
}

TEST(DeviceReducerTest, NothingToReduceIsNotAFault) {
  DeviceReducer reducer;
  const Moments empty = MomentsOfOne(reducer, torch::zeros({0, 3}));
  EXPECT_EQ(empty.numel(), 0u);
  EXPECT_FALSE(reducer.pending());
  const Moments none =
      MomentsOfOne(reducer, torch::tensor({kNanF, kNanF, float(-kInf)}));
  EXPECT_EQ(none.finite, 0u);
  EXPECT_EQ(none.nan, 2u);
  EXPECT_EQ(none.neg_inf, 1u);
  EXPECT_TRUE(std::isnan(ToRecord(none).mean));
  // An empty weight has an update, from its second step on.
  DeviceCopy copy;
  const torch::Tensor weight = torch::zeros({3, 0});
  for (int step = 0; step < 2; ++step) {
    reducer.Begin();
    const auto tickets = reducer.AddWeight(weight, &copy);
    reducer.Launch();
    reducer.Send();
    EXPECT_EQ(tickets.update == DeviceReducer::kNone, step == 0);
    EXPECT_EQ(reducer.Result(tickets.weight).numel(), 0u);
    if (step > 0) {
      EXPECT_EQ(reducer.Result(tickets.update).numel(), 0u);
    }
  }
  EXPECT_EQ(copy.bytes(), 0u);
}

TEST(DeviceReducerTest, ConjugatesAndNegationsAreApplied) {
  DeviceReducer reducer;
  const torch::Tensor c =
      torch::complex(torch::tensor({3.0f, 1.0f}), torch::tensor({4.0f, 0.0f}));
  EXPECT_EQ(MomentsOfOne(reducer, c.conj()).max, 5);
  const torch::Tensor negated = torch::imag(c.conj());
  ASSERT_TRUE(negated.is_neg());
  EXPECT_EQ(MomentsOfOne(reducer, negated).min, -4);
}

// ---- Sparse -----------------------------------------------------------------

void ExpectSparse(DeviceReducer& reducer, const torch::Tensor& t,
                  const std::string& what) {
  ASSERT_EQ(DeviceReducer::UnsupportedReason(t), "") << what;
  const bool coalesced = t.is_coalesced();
  const auto exact =
      testing::ExactAll(testing::ElementsOf<float>(t.to_dense()));
  reducer.Begin(/*histograms=*/true);
  const auto ticket = reducer.Add(t);
  reducer.Launch();
  reducer.Send();
  reducer.Wait();
  EXPECT_EQ(testing::OutOfBoundsOf(reducer.Result(ticket), exact), "") << what;
  BinCounts bins{};
  ASSERT_TRUE(reducer.AddBins(ticket, &bins));
  EXPECT_EQ(bins, testing::BinsOf(exact)) << what;
  EXPECT_EQ(t.is_coalesced(), coalesced) << what;
}

TEST(DeviceReducerTest, SparseOnesCountAsTheirDenseEquivalents) {
  torch::manual_seed(4);
  DeviceReducer whole;
  DeviceReducer sliced({/*slice=*/7, /*small=*/2});
  for (DeviceReducer* const reducer : {&whole, &sliced}) {
    const auto check = [&](const torch::Tensor& t, const std::string& what) {
      ExpectSparse(*reducer, t, what);
    };
    check(torch::eye(5).to_sparse(), "coalesced");
    check(torch::sparse_coo_tensor(torch::tensor({{0, 2, 0}, {1, 1, 1}}),
                                   torch::tensor({1.0f, 2.0f, 4.0f}), {30, 3}),
          "a place twice");
    check(torch::sparse_coo_tensor(torch::tensor({{1, 0, 1, 1, 0, 1}}),
                                   torch::randn({6, 3}), {2, 3}),
          "more entries than places");
    check(torch::sparse_coo_tensor(torch::tensor({{9, 0, 9, 3}}),
                                   torch::randn({3, 4}).t(), {10, 3}),
          "values that are not contiguous");
    check(torch::sparse_coo_tensor(torch::tensor({{4}}), torch::randn({1, 2}),
                                   {7, 2}),
          "one entry");
    check(torch::sparse_coo_tensor(torch::zeros({1, 0}, torch::kInt64),
                                   torch::zeros({0, 2}), {3, 2}),
          "no entry");
    check(torch::sparse_coo_tensor(torch::tensor({{1, 1}}),
                                   torch::zeros({2, 0}), {2, 0}),
          "no element");
    check(torch::sparse_coo_tensor(torch::tensor({{1, 1, 0}}),
                                   torch::tensor({1.0f, -1.0f, kNanF}), {9}),
          "entries that cancel, and a NaN");
  }
}

TEST(DeviceReducerTest, SparseIndicesOutOfRangeStayWithinTheScratch) {
  DeviceReducer reducer;
  for (const std::int64_t size : {2, 100}) {
    const torch::Tensor t = torch::_sparse_coo_tensor_unsafe(
        torch::tensor(std::vector<std::int64_t>{0, -5, std::int64_t{1} << 40})
            .view({1, 3}),
        torch::tensor({1.0f, 2.0f, 4.0f}), {size});
    const Moments m = MomentsOfOne(reducer, t);
    EXPECT_EQ(m.numel(), static_cast<std::uint64_t>(size));
    EXPECT_NEAR(m.mean * static_cast<double>(size), 7, 1e-9);
  }
}

RC_GTEST_PROP(DeviceReducerProperty, SparseEntriesAddUpWhereverTheyStand, ()) {
  const auto rows = *rc::gen::inRange<std::int64_t>(1, 9);
  const auto width = *rc::gen::inRange<std::int64_t>(1, 4);
  const auto places = *rc::gen::container<std::vector<std::int64_t>>(
      rc::gen::inRange<std::int64_t>(0, rows));
  const auto n = static_cast<std::int64_t>(places.size());
  // Integers: sums are exact in any order.
  const torch::Tensor values =
      torch::arange(n * width, torch::kFloat).view({n, width}) - 3;
  const torch::Tensor t = torch::sparse_coo_tensor(
      torch::tensor(places, torch::kInt64).view({1, n}), values, {rows, width});
  static DeviceReducer reducer;
  const Moments m = MomentsOfOne(reducer, t);
  RC_ASSERT(testing::OutOfBoundsOf(
                m, testing::ExactAll(
                       testing::ElementsOf<float>(t.to_dense()))) == "");
}

// ---- Copies -----------------------------------------------------------------

TEST(DeviceReducerTest, GroupsOfWeightsMayChangeTheirCompany) {
  DeviceReducer reducer;
  Weight a{torch::zeros({6}), {}};
  Weight b{torch::zeros({2, 3}), {}};
  Weight c{torch::zeros({3, 2}).t(), {}};
  Weight d{torch::zeros({6}, torch::kDouble), {}};
  UpdateMeans(reducer, {&a, &b, &d});
  EXPECT_TRUE(a.copy.values.is_alias_of(b.copy.values));
  EXPECT_EQ(a.copy.bytes(), 24u);
  a.tensor.add_(1);
  b.tensor.add_(2);
  d.tensor.add_(3);
  std::vector<double> means = UpdateMeans(reducer, {&b, &c, &a, &d});
  EXPECT_EQ(means[0], 2);
  EXPECT_TRUE(std::isnan(means[1]));
  EXPECT_EQ(means[2], 1);
  EXPECT_EQ(means[3], 3);
  c.tensor.add_(5);
  a.tensor.sub_(1);
  EXPECT_THAT(UpdateMeans(reducer, {&a, &b, &c}),
              ::testing::ElementsAre(-1, 0, 5));
  b.copy = {};
  a.copy.valid = false;
  c.tensor.add_(1);
  means = UpdateMeans(reducer, {&a, &b, &c});
  EXPECT_TRUE(std::isnan(means[0]));
  EXPECT_TRUE(std::isnan(means[1]));
  EXPECT_EQ(means[2], 1);
  EXPECT_THAT(UpdateMeans(reducer, {&a, &b, &c}),
              ::testing::ElementsAre(0, 0, 0));
}

TEST(DeviceReducerTest, ACopyOfAnotherShapeOrderOrTypeIsNotComparedWith) {
  DeviceReducer reducer;
  Weight w{torch::arange(6).view({2, 3}).to(torch::kFloat), {}};
  UpdateMeans(reducer, {&w});
  for (const torch::Tensor& next :
       {w.tensor.clone().view({3, 2}), torch::ones({2, 3}).t(),
        torch::ones({3, 2}), torch::ones({3, 2}, torch::kDouble)}) {
    w.tensor = next;
    EXPECT_TRUE(std::isnan(UpdateMeans(reducer, {&w})[0]));
    EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 0);
  }
}

TEST(DeviceReducerTest, DifferencesOfLargeIntegersAreExact) {
  DeviceReducer reducer;
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t from : {std::int64_t{1} << 60, -kMax, -kMax - 1}) {
    Weight w{torch::full({4}, from, torch::kLong), {}};
    UpdateMeans(reducer, {&w});
    w.tensor.add_(1);
    EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 1) << from;
  }
  Weight w{torch::full({4}, -kMax - 1, torch::kLong), {}};
  UpdateMeans(reducer, {&w});
  w.tensor.fill_(kMax);
  EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 0x1p64);
}

TEST(DeviceReducerTest, KeptWeightsAreWhatTheNextStepComparesWith) {
  DeviceReducer reducer;
  Weight a{torch::zeros({4}), {}};
  Weight b{torch::zeros({4}), {}};
  UpdateMeans(reducer, {&a, &b});
  a.tensor.add_(10);
  reducer.Keep(a.tensor, &a.copy);
  reducer.Keep(b.tensor, &b.copy);
  reducer.Launch();
  a.tensor.add_(1);
  EXPECT_THAT(UpdateMeans(reducer, {&a, &b}), ::testing::ElementsAre(1, 0));
}

TEST(DeviceReducerTest, WithoutMemoryForACopyTheRestIsDone) {
  DeviceReducer reducer({/*slice=*/100, /*small=*/10});
  Weight large{torch::ones({1000}), {}};
  Weight small{torch::ones({5}), {}};
  CountingAllocator memory;
  memory.Refuse(4000);
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
  EXPECT_TRUE(large.copy.valid);
}

TEST(DeviceReducerTest, WithoutMemoryForTemporariesNoCopyIsTrusted) {
  DeviceReducer reducer({/*slice=*/100, /*small=*/10});
  Weight w{torch::ones({1000}), {}};
  UpdateMeans(reducer, {&w});
  ASSERT_TRUE(w.copy.valid);
  CountingAllocator memory;
  memory.Refuse(800);  // A slice in double.
  reducer.Begin();
  reducer.AddWeight(w.tensor, &w.copy);
  EXPECT_ANY_THROW(reducer.Launch());
  EXPECT_FALSE(w.copy.valid);
  memory.RefuseNone();
  EXPECT_TRUE(std::isnan(UpdateMeans(reducer, {&w})[0]));
  EXPECT_EQ(UpdateMeans(reducer, {&w})[0], 0);
}

// ---- What it takes ----------------------------------------------------------

TEST(DeviceReducerTest, UnsupportedTensorsHaveAReason) {
  const auto reason = &DeviceReducer::UnsupportedReason;
  EXPECT_EQ(reason(torch::ones({2})), "");
  EXPECT_EQ(reason(torch::ones({0})), "");
  EXPECT_EQ(reason(torch::eye(2).to_sparse()), "");
  EXPECT_THAT(reason({}), HasSubstr("undefined"));
  EXPECT_THAT(reason(torch::ones({2}, torch::device(torch::kMeta))),
              HasSubstr("meta"));
  EXPECT_THAT(reason(torch::quantize_per_tensor(torch::ones({2}), 0.1, 0,
                                                torch::kQInt8)),
              HasSubstr("quantized"));
  EXPECT_THAT(reason(torch::eye(2).to_sparse_csr()), HasSubstr("layout"));
  EXPECT_THAT(reason(torch::zeros({2}, torch::kComplexHalf)),
              HasSubstr("dtype"));
  torch::Tensor freed = torch::ones({100});
  freed.storage().unsafeGetStorageImpl()->set_nbytes(0);
  EXPECT_THAT(reason(freed), HasSubstr("smaller than its shape"));
  EXPECT_THAT(reason(torch::sparse_coo_tensor(
                  torch::tensor({{1, 1}}), torch::tensor({true, false}), {3})),
              HasSubstr("bool"));
}

TEST(DeviceReducerTest, NoGraphIsRecordedOnTheCpu) {
  EXPECT_FALSE(DeviceReducer::RecordsGraph(torch::kCPU));
  // No such back end here.
  if (!at::hasXLA()) {
    EXPECT_FALSE(DeviceReducer::RecordsGraph(c10::Device(c10::kXLA, 0)));
  }
}

TEST(DeviceReducerTest, SizesOutOfRangeAndScalarsOfMoreElementsAreRefused) {
  EXPECT_THROW(DeviceReducer({0, 0}), std::invalid_argument);
  EXPECT_THROW(DeviceReducer({10, 11}), std::invalid_argument);
  EXPECT_THROW(DeviceReducer({std::int64_t{1} << 31, 1}),
               std::invalid_argument);
  DeviceReducer reducer;
  reducer.Begin();
  EXPECT_THROW(reducer.AddScalar(torch::ones({2})), std::invalid_argument);
}

}  // namespace
}  // namespace gradtap::agent
