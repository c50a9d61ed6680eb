#include "core/histogram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace gradtap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();

TEST(HistogramTest, EveryFloatLiesInTheRangeOfItsBin) {
  for (std::uint64_t bits = 0; bits <= 0xffffffffu; bits += 9'973) {
    const auto pattern = static_cast<std::uint32_t>(bits);
    float value;
    std::memcpy(&value, &pattern, sizeof(value));
    if (!std::isfinite(value)) continue;
    const std::uint32_t bin = BinOf(value);
    ASSERT_TRUE(IsBin(bin)) << value;
    const BinRange range = RangeOf(bin);
    ASSERT_LE(range.lower, value);
    ASSERT_GE(range.upper, value);
  }
}

TEST(HistogramTest, DoublesLieThereOnceTheyAreRoundedToFloat) {
  for (const double value :
       {1e300, -1e300, 1e-300, -1e-300, 2 - 1e-15, -(2 - 1e-15), 0x1p-150,
        0x1.fffffffp-127, 0x1.ffffffffp127}) {
    const double rounded = std::copysign(
        std::min<double>(
            std::fabs(static_cast<double>(static_cast<float>(value))),
            std::numeric_limits<float>::max()),
        value);
    const BinRange range = RangeOf(BinOf(value));
    EXPECT_LE(range.lower, rounded) << value;
    EXPECT_GE(range.upper, rounded) << value;
  }
}

TEST(HistogramTest, FiniteBinsAreInTheOrderOfTheirValues) {
  for (std::size_t order = 1; order < kFiniteBins; ++order) {
    const BinRange below = RangeOf(FiniteBinAt(order - 1));
    const BinRange here = RangeOf(FiniteBinAt(order));
    EXPECT_EQ(below.upper, here.lower) << order;
    EXPECT_TRUE(IsBin(FiniteBinAt(order)));
  }
  EXPECT_EQ(FiniteBinAt(0), kBinNegative + 254);
  EXPECT_EQ(FiniteBinAt(254), kBinNegSubnormal);
  EXPECT_EQ(FiniteBinAt(255), kBinZero);
  EXPECT_EQ(FiniteBinAt(256), kBinPosSubnormal);
  EXPECT_EQ(FiniteBinAt(kFiniteBins - 1), kBinPositive + 254);
  EXPECT_EQ(RangeOf(FiniteBinAt(kFiniteBins - 1)).upper,
            std::numeric_limits<float>::max());
}

TEST(HistogramTest, TheLayoutHas514Bins) {
  std::size_t bins = 0;
  for (std::uint32_t bin = 0; bin < 2 * kBinCount; ++bin) bins += IsBin(bin);
  EXPECT_EQ(bins, kFiniteBins + 3);  // And NaN, +Inf, -Inf.
}

TEST(HistogramTest, SparseAndDenseAddAlike) {
  BinCounts a{};
  a[kBinZero] = 3;
  a[kBinNan] = 1;
  a[kBinPositive + 127] = 5;
  BinCounts b{};
  b[kBinZero] = 4;
  b[kBinNegative + 1] = 7;
  std::vector<std::uint32_t> bin;
  std::vector<std::uint64_t> count;
  ToSparse(b, &bin, &count);
  EXPECT_THAT(bin, ElementsAre(kBinZero, kBinNegative + 1));
  EXPECT_THAT(count, ElementsAre(4, 7));
  BinCounts dense = a;
  AddBins(b, &dense);
  BinCounts sparse = a;
  AddBins(bin, count, &sparse);
  EXPECT_EQ(dense, sparse);
  EXPECT_EQ(dense[kBinZero], 7u);
  EXPECT_EQ(FiniteCount(dense), 19u);
  ToSparse(BinCounts{}, &bin, &count);
  EXPECT_THAT(bin, IsEmpty());
  EXPECT_THAT(count, IsEmpty());
}

TEST(HistogramTest, CountsSaturateAndStrangeBinsArePassedOver) {
  BinCounts sum{};
  sum[kBinZero] = kMost - 1;
  const std::vector<std::uint32_t> bin = {kBinZero, 9, 527, 4'000'000'000u};
  const std::vector<std::uint64_t> count = {5, 1, 1, 1};
  AddBins(bin, count, &sum);
  EXPECT_EQ(sum[kBinZero], kMost);
  EXPECT_EQ(sum[9], 0u);
  AddBins(sum, &sum);
  EXPECT_EQ(sum[kBinZero], kMost);
  sum[kBinPositive + 1] = 1;
  EXPECT_EQ(FiniteCount(sum), kMost);
}

}  // namespace
}  // namespace gradtap
