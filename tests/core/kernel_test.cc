#include "core/kernel.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "core/kernel_support.h"
#include "core/targets.h"

namespace gradtap {
namespace {

using testing::DtypeOf;
using testing::ExactAll;
using testing::Flat;
using testing::MakeTensor;
using testing::OutOfBounds;
using testing::ReduceFlat;
using testing::ReferenceOf;
using testing::Same;
using testing::Values;

template <typename T>
class KernelOfDtypeTest : public ::testing::Test {};
TYPED_TEST_SUITE(KernelOfDtypeTest, testing::Dtypes);

TYPED_TEST(KernelOfDtypeTest, EqualElementsHaveNoDeviation) {
  for (const std::size_t n : {1u, 2u, 1000u, 1024u, 10'001u}) {
    std::mt19937_64 random(1);
    const TypeParam value = testing::Draw<TypeParam>(Values::kEqual, 0, random);
    const Moments got = ReduceFlat(std::vector<TypeParam>(n, value));
    EXPECT_EQ(got.m2, 0);
    EXPECT_EQ(got.mean, got.min);
    EXPECT_EQ(got.mean, got.max);
    EXPECT_EQ(got.finite, n);
  }
}

TYPED_TEST(KernelOfDtypeTest, UnchangedFiniteWeightHasAnUpdateOfZeros) {
  std::mt19937_64 random(2);
  const auto tensor =
      MakeTensor<TypeParam>({3000}, Values::kFiniteExtreme, true, random);
  std::vector<TypeParam> previous = tensor.Elements();
  const Moments update =
      ReduceWeightAndUpdate(tensor.View(), previous.data()).update;
  EXPECT_EQ(update.zero, 3000u);
  EXPECT_EQ(update.m2, 0);
  EXPECT_EQ(update.min, 0);
  EXPECT_EQ(update.max, 0);
}

TYPED_TEST(KernelOfDtypeTest, ZeroDimIsOneElementAndZeroSizeIsNone) {
  std::mt19937_64 random(3);
  const TypeParam one = testing::Draw<TypeParam>(Values::kOrdinary, 0, random);
  const TensorView scalar{&one, DtypeOf<TypeParam>(), 0, nullptr, nullptr};
  EXPECT_EQ(Numel(scalar), 1u);
  EXPECT_EQ(Reduce(scalar).finite, 1u);
  TypeParam previous = one;
  EXPECT_EQ(ReduceWeightAndUpdate(scalar, &previous).update.zero, 1u);

  const std::array<std::int64_t, 3> sizes = {4, 0, 2};
  const std::array<std::int64_t, 3> strides = {2, 2, 1};
  const TensorView empty{nullptr, DtypeOf<TypeParam>(), 3, sizes.data(),
                         strides.data()};
  EXPECT_EQ(Numel(empty), 0u);
  EXPECT_TRUE(Same(Reduce(empty), Moments{}));
  const WeightAndUpdate both = ReduceWeightAndUpdate(empty, nullptr);
  EXPECT_TRUE(Same(both.weight, Moments{}));
  EXPECT_TRUE(Same(both.update, Moments{}));
}

TEST(KernelTest, FloatsOfALayerNormKeepTheirDeviation) {
  std::mt19937_64 random(4);
  std::normal_distribution<double> deviation(1, 1e-4);
  std::vector<float> data;
  for (int i = 0; i < 100'000; ++i) {
    data.push_back(static_cast<float>(deviation(random)));
  }
  EXPECT_EQ(
      OutOfBounds(ToRecord(ReduceFlat(data)), ReferenceOf(ExactAll(data))), "");
  EXPECT_NEAR(ToRecord(ReduceFlat(data)).std, 1e-4, 1e-6);
}

TEST(KernelTest, FloatsWhoseSquaresOverflowKeepTheirNorm) {
  const std::vector<float> data(1000, 1e30f);
  const Record record = ToRecord(ReduceFlat(data));
  EXPECT_NEAR(Derive(Field::kL2, record, 1000) / (std::sqrt(1000.0) * 1e30), 1,
              1e-6);
}

TEST(KernelTest, DoublesBeyondFloatSaturateAndNeverBecomeInfinite) {
  for (const double x : {1e39, 1e154, 1e200, 1e300, 1.7e308}) {
    std::vector<double> data;
    for (int i = 0; i < 5000; ++i) data.push_back(i % 2 == 0 ? x : -x);
    const Moments moments = ReduceFlat(data);
    EXPECT_TRUE(std::isfinite(moments.m2)) << x;
    EXPECT_NEAR(moments.abs_mean / x, 1, 1e-12);
    EXPECT_NEAR(moments.mean / x, 0, 1e-12);
    EXPECT_EQ(OutOfBounds(ToRecord(moments), ReferenceOf(ExactAll(data))), "");
    const Record record = ToRecord(moments);
    EXPECT_EQ(record.max, std::numeric_limits<float>::max());
    EXPECT_EQ(record.min, -std::numeric_limits<float>::max());
    EXPECT_EQ(record.std, std::numeric_limits<float>::max());
  }
}

TEST(KernelTest, HugeMeansOfOppositeBlocksMergeWithoutOverflow) {
  std::vector<double> data(1024, 1.7e308);
  data.resize(2048, -1.7e308);
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.mean, 0);
  EXPECT_EQ(moments.abs_mean, 1.7e308);
  EXPECT_EQ(ToRecord(moments).std, std::numeric_limits<float>::max());
}

TEST(KernelTest, DoublesWhoseSquaresUnderflowAreNotZeros) {
  const std::vector<double> data = {1e-200, -1e-200, 3e-200};
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.zero, 0u);
  EXPECT_EQ(moments.min, -1e-200);
  EXPECT_EQ(ToRecord(moments).std, 0);
}

TEST(KernelTest, ComplexMagnitudesNeitherOverflowNorVanish) {
  const std::vector<std::complex<double>> large(3, {1.7e308, 1.7e308});
  EXPECT_EQ(ReduceFlat(large).pos_inf, 0u);
  EXPECT_EQ(ReduceFlat(large).max, std::numeric_limits<double>::max());
  const std::vector<std::complex<double>> small(3, {1e-200, 1e-200});
  EXPECT_EQ(ReduceFlat(small).zero, 0u);
}

TEST(KernelTest, ComplexNanPartWinsOverAnInfiniteOne) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::complex<float>> data = {
      {inf, nan}, {nan, 0}, {-inf, 1}, {0, -inf}, {3, 4}};
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.nan, 2u);
  EXPECT_EQ(moments.pos_inf, 2u);
  EXPECT_EQ(moments.neg_inf, 0u);
  EXPECT_EQ(moments.mean, 5);
}

TEST(KernelTest, SubnormalsCountAndAreNotZeros) {
  const std::vector<float> data(100, std::numeric_limits<float>::denorm_min());
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.zero, 0u);
  EXPECT_EQ(ToRecord(moments).mean, std::numeric_limits<float>::denorm_min());
}

TEST(KernelTest, IntegersAbove2To24AreRoundedOnceOnly) {
  const std::vector<std::int64_t> data = {(1 << 24) + 1, (1 << 24) + 1};
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.mean, 16777217.0);
  EXPECT_EQ(ToRecord(moments).mean, 16777216.0f);
}

TEST(KernelTest, DifferenceOfLargeIntegersIsExact) {
  const std::int64_t big = std::int64_t{1} << 60;
  const std::vector<std::int64_t> weight = {big + 1, big + 1};
  std::vector<std::int64_t> previous = {big, big};
  const std::int64_t size = 2;
  const Moments update =
      ReduceWeightAndUpdate(Flat(weight, &size), previous.data()).update;
  EXPECT_EQ(update.mean, 1);
}

TEST(KernelTest, NonfiniteElementsAreCountedAndLeftOutOfTheRest) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> data(2500, 2);
  data[3] = nan;
  data[1500] = inf;
  data[1501] = inf;
  data[2499] = -inf;
  data[2000] = -0.0f;
  const Moments moments = ReduceFlat(data);
  EXPECT_EQ(moments.nan, 1u);
  EXPECT_EQ(moments.pos_inf, 2u);
  EXPECT_EQ(moments.neg_inf, 1u);
  EXPECT_EQ(moments.zero, 1u);
  EXPECT_EQ(moments.finite, 2496u);
  EXPECT_EQ(moments.max, 2);
}

TEST(KernelTest, DifferenceOfInfinitiesIsNanInTheUpdate) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> weight = {inf, inf, -inf, 1};
  std::vector<float> previous = {inf, 1, 1, 0.5f};
  const std::int64_t size = 4;
  const Moments update =
      ReduceWeightAndUpdate(Flat(weight, &size), previous.data()).update;
  EXPECT_EQ(update.nan, 1u);
  EXPECT_EQ(update.pos_inf, 1u);
  EXPECT_EQ(update.neg_inf, 1u);
  EXPECT_EQ(update.mean, 0.5);
}

TEST(KernelTest, UnsupportedDtypeIsNothingAndSaysSo) {
  const std::int64_t size = 3, stride = 1;
  const float data[3] = {1, 2, 3};
  const TensorView view{data, Dtype::kUnsupported, 1, &size, &stride};
  EXPECT_TRUE(Same(Reduce(view), Moments{}));
  EXPECT_EQ(DtypeSize(Dtype::kUnsupported), 0u);
  EXPECT_EQ(DtypeName(Dtype::kUnsupported), "unsupported");
  EXPECT_EQ(DtypeSize(Dtype::kComplex128), 16u);
  EXPECT_EQ(DtypeName(Dtype::kBfloat16), "bfloat16");
}

TEST(KernelTest, SixtyFourDimensionsOfStridesWork) {
  std::vector<std::int64_t> sizes(kMaxDims, 1);
  std::vector<std::int64_t> strides(kMaxDims, 17);
  sizes[0] = 2;
  sizes[20] = 3;
  sizes[40] = 2;
  sizes[63] = 2;
  strides[0] = 1;
  strides[20] = 2;
  strides[40] = 6;
  strides[63] = 12;
  std::vector<float> data(24);
  for (int i = 0; i < 24; ++i) data[static_cast<std::size_t>(i)] = 1.0f * i;
  const TensorView view{data.data(), Dtype::kFloat32, kMaxDims, sizes.data(),
                        strides.data()};
  EXPECT_EQ(Numel(view), 24u);
  EXPECT_EQ(Reduce(view).mean, 11.5);
}

}  // namespace
}  // namespace gradtap
