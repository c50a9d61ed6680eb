#include "core/kernel.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "core/kernel_block.h"
#include "core/reference.h"
#include "core/tensors.h"

namespace gradtap {
namespace {

using testing::DtypeOf;
using testing::ExactAll;
using testing::MadeTensor;
using testing::MakeTensor;
using testing::OutOfBounds;
using testing::ReferenceOf;
using testing::Values;

template <typename T>
TensorView Flat(const std::vector<T>& data, const std::int64_t* size) {
  static constexpr std::int64_t kOne = 1;
  return {data.data(), DtypeOf<T>(), 1, size, &kOne};
}

template <typename T>
Moments ReduceFlat(const std::vector<T>& data) {
  const auto size = static_cast<std::int64_t>(data.size());
  return Reduce(Flat(data, &size));
}

// Bit for bit, NaN included.
::testing::AssertionResult Same(const Moments& a, const Moments& b) {
  const bool same = a.finite == b.finite && a.zero == b.zero &&
                    a.nan == b.nan && a.pos_inf == b.pos_inf &&
                    a.neg_inf == b.neg_inf &&
                    std::bit_cast<std::uint64_t>(a.mean) ==
                        std::bit_cast<std::uint64_t>(b.mean) &&
                    a.m2 == b.m2 && a.abs_mean == b.abs_mean &&
                    a.min == b.min && a.max == b.max;
  if (same) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "mean " << a.mean << " / " << b.mean << ", m2 " << a.m2 << " / "
         << b.m2 << ", finite " << a.finite << " / " << b.finite;
}

template <typename T>
bool SameBytes(const void* data, const std::vector<T>& elements) {
  return elements.empty() ||
         std::memcmp(data, elements.data(), elements.size() * sizeof(T)) == 0;
}

std::vector<std::int64_t> DrawShape(std::mt19937_64& random) {
  // Shapes about the edges of lanes and blocks, or a few small dimensions.
  static const std::vector<std::vector<std::int64_t>> kShapes = {
      {},        {1},       {7},       {8},         {9},
      {1023},    {1024},    {1025},    {2048},      {5000},
      {3, 1024}, {1025, 3}, {3, 0, 5}, {33, 1, 65}, {2, 3, 5, 7, 11},
      {1, 1, 1}, {70, 70}};
  if (random() % 2 == 0) return kShapes[random() % kShapes.size()];
  std::vector<std::int64_t> shape(random() % 7);
  for (std::int64_t& size : shape) {
    size = 1 + static_cast<std::int64_t>(random() % 5);
  }
  if (!shape.empty() && random() % 10 == 0) shape[random() % shape.size()] = 0;
  return shape;
}

// rapidcheck gives the seed, and names it when a case fails.
std::mt19937_64 DrawRandom() {
  return std::mt19937_64(
      *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>()));
}

Values DrawValues(std::mt19937_64& random) {
  return static_cast<Values>(random() % testing::kValuesCount);
}

template <typename T>
MadeTensor<T> DrawTensor(std::mt19937_64& random) {
  const Values values = DrawValues(random);
  const bool contiguous = random() % 2 == 0;
  return MakeTensor<T>(DrawShape(random), values, contiguous, random);
}

template <typename T>
class KernelOfDtypeTest : public ::testing::Test {};
using Dtypes =
    ::testing::Types<float, double, kernel::Half, kernel::Bfloat16, std::int8_t,
                     std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                     kernel::Bool, std::complex<float>, std::complex<double>>;
TYPED_TEST_SUITE(KernelOfDtypeTest, Dtypes);

TYPED_TEST(KernelOfDtypeTest, ReduceKeepsTheBoundsForAnyShapeStrideAndValue) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const auto want = ReferenceOf(ExactAll(tensor.Elements()));
    const Moments got = Reduce(tensor.View());
    RC_ASSERT(got.numel() == Numel(tensor.View()));
    RC_ASSERT(OutOfBounds(ToRecord(got), want) == "");
  }));
}

TYPED_TEST(KernelOfDtypeTest, UpdateKeepsTheBoundsAndPreviousIsRefreshed) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto weight = DrawTensor<TypeParam>(random);
    const auto elements = weight.Elements();
    const Values values = DrawValues(random);
    std::vector<TypeParam> previous;
    std::vector<long double> difference;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      previous.push_back(testing::Draw<TypeParam>(values, i, random));
      difference.push_back(
          testing::ExactDifference(elements[i], previous.back()));
    }
    const WeightAndUpdate got =
        ReduceWeightAndUpdate(weight.View(), previous.data());
    RC_ASSERT(OutOfBounds(ToRecord(got.weight),
                          ReferenceOf(ExactAll(elements))) == "");
    RC_ASSERT(OutOfBounds(ToRecord(got.update), ReferenceOf(difference)) == "");
    RC_ASSERT(SameBytes(previous.data(), elements));
  }));
}

TYPED_TEST(KernelOfDtypeTest, AllThreeEntriesAgreeOnTheWeight) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto weight = DrawTensor<TypeParam>(random);
    const auto elements = weight.Elements();
    std::vector<TypeParam> previous(elements.size());
    std::vector<TypeParam> copy(elements.size());
    const Moments alone = Reduce(weight.View());
    RC_ASSERT(Same(
        alone, ReduceWeightAndUpdate(weight.View(), previous.data()).weight));
    RC_ASSERT(Same(alone, ReduceAndCopy(weight.View(), copy.data())));
    RC_ASSERT(SameBytes(copy.data(), elements));
  }));
}

TYPED_TEST(KernelOfDtypeTest, ResultDependsNeitherOnStridesNorOnAlignment) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const auto elements = tensor.Elements();
    const Moments strided = Reduce(tensor.View());
    RC_ASSERT(Same(strided, ReduceFlat(elements)));
    // One byte off.
    const std::size_t bytes = elements.size() * sizeof(TypeParam);
    std::vector<char> shifted(bytes + 64);
    char* start = shifted.data();
    while (reinterpret_cast<std::uintptr_t>(start) % 16 != 1) ++start;
    if (bytes != 0) std::memcpy(start, elements.data(), bytes);
    const auto size = static_cast<std::int64_t>(elements.size());
    const std::int64_t one = 1;
    const TensorView view{start, DtypeOf<TypeParam>(), 1, &size, &one};
    RC_ASSERT(Same(strided, Reduce(view)));
    // With unaligned previous values, too.
    std::vector<char> previous(bytes + 64, 1);
    char* before = previous.data();
    while (reinterpret_cast<std::uintptr_t>(before) % 16 != 1) ++before;
    RC_ASSERT(Same(strided, ReduceWeightAndUpdate(view, before).weight));
    RC_ASSERT(SameBytes(before, elements));
  }));
}

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

TEST(PairwiseMergerTest, TotalOfNothingIsTheIdentity) {
  EXPECT_TRUE(Same(kernel::PairwiseMerger().Total(), Moments{}));
}

TEST(PairwiseMergerTest, TotalHoldsEveryBlockOnce) {
  auto merger = std::make_unique<kernel::PairwiseMerger>();
  for (int i = 1; i <= 1000; ++i) {
    Moments block;
    block.finite = 1;
    block.mean = block.abs_mean = block.min = block.max = i;
    merger->Add(block);
    const Moments total = merger->Total();
    EXPECT_EQ(total.finite, static_cast<std::uint64_t>(i));
    EXPECT_DOUBLE_EQ(total.mean, (i + 1) / 2.0);
    EXPECT_EQ(total.min, 1);
    EXPECT_EQ(total.max, i);
  }
}

}  // namespace
}  // namespace gradtap
