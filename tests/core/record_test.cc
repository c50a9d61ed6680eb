#include "core/record.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "core/kernel.h"
#include "core/reference.h"
#include "core/tensors.h"

namespace gradtap {
namespace {

using testing::ExactAll;
using testing::OutOfBounds;
using testing::ReferenceOf;
using testing::Values;

constexpr float kMaxFloat = std::numeric_limits<float>::max();

Moments OfElements(const std::vector<float>& data, std::size_t from,
                   std::size_t to) {
  const auto size = static_cast<std::int64_t>(to - from);
  const std::int64_t one = 1;
  return Reduce({data.data() + from, Dtype::kFloat32, 1, &size, &one});
}

// rapidcheck gives the seed, and names it when a case fails.
std::mt19937_64 DrawRandom() {
  return std::mt19937_64(
      *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>()));
}

std::vector<float> DrawFloats(std::mt19937_64& random) {
  const auto values = static_cast<Values>(random() % testing::kValuesCount);
  std::vector<float> data(random() % 3000);
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = testing::Draw<float>(values, i, random);
  }
  return data;
}

// Cuts [0, n) anywhere, keeps the moments of each piece, in any order.
std::vector<std::pair<Moments, std::uint64_t>> DrawPieces(
    const std::vector<float>& data, std::mt19937_64& random) {
  std::vector<std::size_t> cuts = {0, data.size()};
  for (std::uint64_t more = random() % 12; more > 0; --more) {
    cuts.push_back(random() % (data.size() + 1));
  }
  std::sort(cuts.begin(), cuts.end());
  std::vector<std::pair<Moments, std::uint64_t>> pieces;
  for (std::size_t i = 1; i < cuts.size(); ++i) {
    pieces.emplace_back(OfElements(data, cuts[i - 1], cuts[i]),
                        cuts[i] - cuts[i - 1]);
  }
  std::shuffle(pieces.begin(), pieces.end(), random);
  return pieces;
}

RC_GTEST_PROP(MergeTest, AnySplitInAnyOrderKeepsTheBoundsOfTheWhole, ()) {
  std::mt19937_64 random = DrawRandom();
  const auto data = DrawFloats(random);
  Moments total;
  for (const auto& [piece, numel] : DrawPieces(data, random)) {
    total = Merge(total, piece);
  }
  RC_ASSERT(OutOfBounds(ToRecord(total), ReferenceOf(ExactAll(data))) == "");
}

RC_GTEST_PROP(MergeTest, StoredRecordsMergeWithinTheWiderBounds, ()) {
  std::mt19937_64 random = DrawRandom();
  const auto data = DrawFloats(random);
  Moments total;
  for (const auto& [piece, numel] : DrawPieces(data, random)) {
    total = Merge(total, ToMoments(ToRecord(piece), numel));
  }
  RC_ASSERT(OutOfBounds(ToRecord(total), ReferenceOf(ExactAll(data)),
                        /*merged=*/true) == "");
}

RC_GTEST_PROP(MergeTest, TheIdentityLeavesTheOtherAsItIs, ()) {
  std::mt19937_64 random = DrawRandom();
  const auto data = DrawFloats(random);
  const Moments m = OfElements(data, 0, data.size());
  for (const Moments& merged : {Merge(m, Moments{}), Merge(Moments{}, m)}) {
    RC_ASSERT(merged.finite == m.finite);
    RC_ASSERT(merged.mean == m.mean);
    RC_ASSERT(merged.m2 == m.m2);
    RC_ASSERT(merged.abs_mean == m.abs_mean);
    RC_ASSERT(merged.min == m.min);
    RC_ASSERT(merged.max == m.max);
    RC_ASSERT(merged.zero == m.zero);
    RC_ASSERT(merged.nan == m.nan);
    RC_ASSERT(merged.pos_inf == m.pos_inf);
    RC_ASSERT(merged.neg_inf == m.neg_inf);
  }
}

TEST(MergeTest, AMillionRecordsOfOneElementKeepTheDeviation) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> deviation(1, 1e-4);
  std::vector<float> data;
  Moments total;
  for (int i = 0; i < 1'000'000; ++i) {
    data.push_back(static_cast<float>(deviation(random)));
    Moments one;
    one.finite = 1;
    one.mean = one.abs_mean = one.min = one.max = data.back();
    total = Merge(total, one);
  }
  EXPECT_EQ(OutOfBounds(ToRecord(total), ReferenceOf(ExactAll(data))), "");
}

TEST(MergeTest, CountsThatWouldWrapAroundSaturate) {
  Moments a;
  a.finite = a.zero = a.nan = a.pos_inf = a.neg_inf = ~std::uint64_t{0} - 1;
  a.mean = a.min = a.max = 3;
  const Moments twice = Merge(a, a);
  EXPECT_EQ(twice.finite, ~std::uint64_t{0});
  EXPECT_EQ(twice.zero, ~std::uint64_t{0});
  EXPECT_EQ(twice.nan, ~std::uint64_t{0});
  EXPECT_EQ(twice.mean, 3);
}

TEST(MergeTest, TheSecondMomentSaturatesInsteadOfBecomingInfinite) {
  Moments a, b;
  a.finite = b.finite = 10;
  a.mean = a.min = a.max = 1.5e308;
  b.mean = b.min = b.max = -1.5e308;
  a.abs_mean = b.abs_mean = 1.5e308;
  const Moments both = Merge(a, b);
  EXPECT_EQ(both.m2, std::numeric_limits<double>::max());
  EXPECT_EQ(both.mean, 0);
  EXPECT_EQ(ToRecord(both).std, kMaxFloat);
}

TEST(ToRecordTest, NothingFiniteIsNanAndKeepsTheCounts) {
  Moments m;
  m.nan = 2;
  m.pos_inf = 1;
  const Record r = ToRecord(m);
  EXPECT_TRUE(std::isnan(r.mean));
  EXPECT_TRUE(std::isnan(r.std));
  EXPECT_TRUE(std::isnan(r.abs_mean));
  EXPECT_TRUE(std::isnan(r.min));
  EXPECT_TRUE(std::isnan(r.max));
  EXPECT_EQ(r.nan, 2u);
  EXPECT_EQ(r.pos_inf, 1u);
}

TEST(ToRecordTest, ValuesJustAboveTheLargestFloatSaturate) {
  Moments m;
  m.finite = 1;
  m.mean = m.max = m.abs_mean = 3.5e38;
  m.min = -1e308;
  const Record r = ToRecord(m);
  EXPECT_EQ(r.mean, kMaxFloat);
  EXPECT_EQ(r.max, kMaxFloat);
  EXPECT_EQ(r.min, -kMaxFloat);
}

TEST(ToMomentsTest, CountsBeyondTheTensorLeaveNoFiniteElement) {
  Record r;
  r.mean = 1;
  r.nan = 5;
  r.pos_inf = ~std::uint64_t{0};
  const Moments m = ToMoments(r, 3);
  EXPECT_EQ(m.finite, 0u);
  EXPECT_EQ(m.nan, 5u);
  EXPECT_EQ(m.pos_inf, ~std::uint64_t{0});
}

TEST(ToMomentsTest, ARecordSurvivesTheWayThereAndBack) {
  Record r;
  r.mean = -1.5f;
  r.std = kMaxFloat;
  r.abs_mean = 2;
  r.min = -kMaxFloat;
  r.max = 7;
  r.zero = 1;
  r.neg_inf = 2;
  const Record back = ToRecord(ToMoments(r, 100));
  EXPECT_EQ(back.mean, r.mean);
  EXPECT_EQ(back.std, r.std);
  EXPECT_EQ(back.abs_mean, r.abs_mean);
  EXPECT_EQ(back.min, r.min);
  EXPECT_EQ(back.max, r.max);
  EXPECT_EQ(back.zero, r.zero);
  EXPECT_EQ(back.neg_inf, r.neg_inf);
}

}  // namespace
}  // namespace gradtap
