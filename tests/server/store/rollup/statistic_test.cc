// Which statistics there are, and what follows from them.

#include "server/store/rollup/statistic.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <set>

#include "core/statistic.h"
#include "server/store/rollup/rollup_testing.h"
#include "server/store/tile/siblings.h"

namespace gradtap::server {
namespace {

using rollup_testing::DrawRandom;
using rollup_testing::kLargest;
using rollup_testing::Random;

constexpr auto kFields = static_cast<int>(Field::kQuantile) + 1;

TEST(RollupStatisticTest, NumbersStandInKeysForGood) {
  const std::vector<std::pair<RollupStatistic, int>> numbers = {
      {RollupStatistic::kMean, 1},    {RollupStatistic::kStd, 2},
      {RollupStatistic::kAbsMean, 3}, {RollupStatistic::kMin, 4},
      {RollupStatistic::kMax, 5},     {RollupStatistic::kL2, 6},
      {RollupStatistic::kRatio, 7},   {RollupStatistic::kNonfinite, 8},
      {RollupStatistic::kAbsMax, 9}};
  std::set<RollupStatistic> all(kRollupStatistics.begin(),
                                kRollupStatistics.end());
  EXPECT_EQ(all.size(), numbers.size());
  for (const auto& [statistic, number] : numbers) {
    EXPECT_EQ(static_cast<int>(statistic), number);
    EXPECT_TRUE(all.contains(statistic));
  }
  EXPECT_EQ(static_cast<int>(RollupStatistic::kMax),
            static_cast<int>(TileField::kMax));
  EXPECT_EQ(static_cast<int>(RollupStatistic::kMean),
            static_cast<int>(TileField::kMean));
}

TEST(RollupStatisticTest, RatiosAreUpdatesAndGradients) {
  for (int r = 1; r < kRoleCount; ++r) {
    const auto role = static_cast<Role>(r);
    for (const RollupStatistic statistic : kRollupStatistics) {
      const bool expected = statistic != RollupStatistic::kRatio ||
                            role == Role::kUpdate || role == Role::kGrad;
      EXPECT_EQ(HasRollup(role, statistic), expected) << RoleName(role);
      EXPECT_EQ(RollupSourceOf(role, FieldOf(statistic), 10).has_value(),
                expected);
    }
  }
  EXPECT_FALSE(HasRollup(Role::kUnspecified, RollupStatistic::kMean));
  EXPECT_FALSE(RollupSourceOf(Role::kUnspecified, Field::kRms, 10).has_value());
}

TEST(RollupSourceTest, WhatIsNotCountedAnywhereMustBeReadStepByStep) {
  for (const Field field :
       {Field::kZero, Field::kZeroFraction, Field::kQuantile}) {
    for (const std::uint64_t numel : {0, 10}) {
      EXPECT_FALSE(RollupSourceOf(Role::kGrad, field, numel).has_value());
    }
  }
}

TEST(RollupSourceTest, RolledUpStatisticsAreThemselves) {
  for (const RollupStatistic statistic : kRollupStatistics) {
    for (const std::uint64_t numel : {0, 10}) {
      const auto source =
          RollupSourceOf(Role::kGrad, FieldOf(statistic), numel);
      ASSERT_TRUE(source.has_value());
      EXPECT_EQ(source->statistic, statistic);
      EXPECT_EQ(source->Apply(1.5), 1.5);
      EXPECT_FALSE(source->if_all_finite);
      EXPECT_TRUE(source->HoldsFor({}, nullptr));
    }
  }
}

RollupEntry EntryOf(float value) { return RollupOf(&value, nullptr, 1); }

// The value of the statistic, as a summarizer would round it.
float Rounded(RollupStatistic statistic, const Record& record,
              std::uint64_t numel) {
  const double value = Derive(FieldOf(statistic), record, numel);
  return static_cast<float>(
      std::isnan(value) ? value : std::min<double>(value, kLargest));
}

// For any record: where the map is said to hold, it gives what Derive() gives.
RC_GTEST_PROP(RollupSourcePropertyTest, AMapThatHoldsGivesWhatDeriveGives,
              (bool all_finite)) {
  Random random = DrawRandom();
  const std::uint64_t numel =
      random.Below(4) == 0 ? random.Below(3) : random.Below(1u << 24);
  Record record;
  if (!all_finite && numel > 0) {
    record.nan = random.Below(static_cast<std::uint32_t>(numel));
    record.neg_inf = random.Below(3) == 0 ? numel - record.nan : 0;
  }
  if (record.nan + record.neg_inf < numel) {
    record.mean = random.Noise();
    record.std = std::fabs(random.Noise());
    record.abs_mean = std::fabs(random.Noise());
  }
  const RollupEntry nonfinite =
      EntryOf(Rounded(RollupStatistic::kNonfinite, record, numel));
  for (int f = 0; f < kFields; ++f) {
    const auto field = static_cast<Field>(f);
    if (field == Field::kRatio) continue;
    const auto source = RollupSourceOf(Role::kGrad, field, numel);
    if (!source.has_value()) continue;
    const float value = Rounded(source->statistic, record, numel);
    const bool finite_elements_only = record.nan + record.neg_inf == 0;
    const bool holds = source->HoldsFor(EntryOf(value), &nonfinite);
    RC_ASSERT(holds == (finite_elements_only || !source->if_all_finite));
    if (!holds) continue;
    const double expected = Derive(field, record, numel);
    const double got = source->Apply(value);
    if (std::isnan(expected)) {
      RC_ASSERT(std::isnan(got));
    } else if (source->map == RollupMap::kOverSqrtN ||
               source->statistic == RollupStatistic::kL2) {
      RC_ASSERT(std::fabs(got - expected) <= 0x1p-23 * expected);
    } else {
      RC_ASSERT(got == expected);
    }
  }
}

TEST(RollupSourceTest, WithNonFiniteElementsTheFormulasCountOthers) {
  // Of {1, 1, NaN, Inf}.
  Record record = {.mean = 1, .std = 0, .abs_mean = 1, .min = 1, .max = 1};
  record.nan = record.pos_inf = 1;
  const RollupEntry some = EntryOf(2);
  const RollupEntry none = EntryOf(0);
  const RollupEntry absent;
  for (const Field field : {Field::kRms, Field::kL1, Field::kSum, Field::kNan,
                            Field::kPosInf, Field::kNegInf}) {
    const auto source = RollupSourceOf(Role::kWeight, field, 4);
    ASSERT_TRUE(source.has_value()) << FieldName(field);
    const float value = Rounded(source->statistic, record, 4);
    EXPECT_NE(source->Apply(value), Derive(field, record, 4));
    EXPECT_FALSE(source->HoldsFor(EntryOf(value), &some));
    EXPECT_FALSE(source->HoldsFor(EntryOf(value), nullptr));
    EXPECT_TRUE(source->HoldsFor(EntryOf(value), &none));
    EXPECT_TRUE(source->HoldsFor(absent, &absent));
  }
  for (const Field field : {Field::kVariance, Field::kFiniteFraction}) {
    const auto source = RollupSourceOf(Role::kWeight, field, 4);
    ASSERT_TRUE(source.has_value()) << FieldName(field);
    const float value = Rounded(source->statistic, record, 4);
    EXPECT_EQ(source->Apply(value), Derive(field, record, 4));
    EXPECT_TRUE(source->HoldsFor(EntryOf(value), &some));
  }
}

TEST(RollupSourceTest, AnRmsOfAnL2ThatWasCutIsRefused) {
  const auto rms = RollupSourceOf(Role::kGrad, Field::kRms, 1000);
  ASSERT_TRUE(rms.has_value());
  const RollupEntry finite = EntryOf(0);
  EXPECT_FALSE(rms->HoldsFor(EntryOf(kLargest), &finite));
  EXPECT_TRUE(rms->HoldsFor(EntryOf(kLargest / 2), &finite));
  // Itself it is what it is, and what is stored was not cut here.
  for (const Field field : {Field::kL2, Field::kSum}) {
    const auto source = RollupSourceOf(Role::kGrad, field, 1000);
    ASSERT_TRUE(source.has_value());
    EXPECT_TRUE(source->HoldsFor(EntryOf(kLargest), &finite));
  }
}

TEST(RollupSourceTest, OnlyTheFiniteFractionFalls) {
  for (int f = 0; f < kFields; ++f) {
    const auto field = static_cast<Field>(f);
    const auto source = RollupSourceOf(Role::kGrad, field, 10);
    if (!source.has_value()) continue;
    EXPECT_EQ(source->falls(), source->Apply(2) > source->Apply(3));
    EXPECT_EQ(source->falls(), field == Field::kFiniteFraction);
  }
}

TEST(RollupSourceTest, MoreNonFiniteElementsThanThereAreLeaveNone) {
  const auto source = RollupSourceOf(Role::kGrad, Field::kFiniteFraction, 10);
  ASSERT_TRUE(source.has_value());
  EXPECT_EQ(source->Apply(12), 0);
}

}  // namespace
}  // namespace gradtap::server
