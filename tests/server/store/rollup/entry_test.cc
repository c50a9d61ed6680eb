// Entries of values and of entries.

#include "server/store/rollup/entry.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <vector>

#include "server/store/rollup/rollup_testing.h"

namespace gradtap::server {
namespace {

using rollup_testing::AllOf;
using rollup_testing::BitsOf;
using rollup_testing::DrawRandom;
using rollup_testing::DrawSeries;
using rollup_testing::ExactPart;
using rollup_testing::ExpectEntry;
using rollup_testing::kInf;
using rollup_testing::kLargest;
using rollup_testing::kNaN;
using rollup_testing::kSmallest;
using rollup_testing::Random;
using rollup_testing::Series;
using rollup_testing::SlowEntry;

RollupEntry Of(const std::vector<float>& values,
               const std::vector<std::uint8_t>& present = {}) {
  return RollupOf(values.data(), present.empty() ? nullptr : present.data(),
                  values.size());
}

TEST(RollupEntryTest, KeepsExtremesTheirStepsAndTheMean) {
  const RollupEntry entry = Of({2, 5, -1, 2});
  EXPECT_EQ(entry.min, -1);
  EXPECT_EQ(entry.min_at, 2);
  EXPECT_EQ(entry.max, 5);
  EXPECT_EQ(entry.max_at, 1);
  EXPECT_EQ(entry.mean, 2);
  EXPECT_EQ(entry.finite, 4);
  EXPECT_EQ(entry.steps(), 4u);
}

TEST(RollupEntryTest, OfEqualValuesTheFirstCounts) {
  const RollupEntry entry = Of({3, 7, 3, 7});
  EXPECT_EQ(entry.min_at, 0);
  EXPECT_EQ(entry.max_at, 1);
  const RollupEntry zeros = Of({-0.0f, 0.0f, -0.0f});
  EXPECT_EQ(zeros.min_at, 0);
  EXPECT_EQ(zeros.max_at, 0);
  EXPECT_EQ(BitsOf(zeros.min), 0x80000000);
  EXPECT_EQ(BitsOf(zeros.max), 0x80000000);
  EXPECT_EQ(BitsOf(Of({0.0f, -0.0f}).min), 0u);
}

TEST(RollupEntryTest, NonFiniteAndAbsentValuesAreCountedAndNamed) {
  const RollupEntry entry =
      Of({9, kNaN, 1, -kInf, kNaN, 2}, {0, 1, 1, 1, 0, 1});
  EXPECT_EQ(entry.finite, 2);
  EXPECT_EQ(entry.nonfinite, 2);
  EXPECT_TRUE(std::isnan(entry.first_nonfinite));
  EXPECT_EQ(entry.nonfinite_at, 1);
  EXPECT_EQ(entry.absent, 2);
  EXPECT_EQ(entry.absent_at, 0);
  EXPECT_EQ(entry.min, 1);
  EXPECT_EQ(entry.min_at, 2);
  EXPECT_EQ(entry.max, 2);
  EXPECT_EQ(entry.max_at, 5);
  EXPECT_EQ(entry.mean, 1.5f);
}

TEST(RollupEntryTest, ARunWithoutAFiniteValueHasNoExtremes) {
  const RollupEntry infinite = Of({-kInf, kNaN, kInf});
  EXPECT_EQ(infinite.finite, 0);
  EXPECT_TRUE(std::isnan(infinite.min));
  EXPECT_TRUE(std::isnan(infinite.max));
  EXPECT_TRUE(std::isnan(infinite.mean));
  EXPECT_EQ(infinite.first_nonfinite, -kInf);
  const RollupEntry absent = Of({1, 2}, {0, 0});
  EXPECT_EQ(absent.finite, 0);
  EXPECT_EQ(absent.absent, 2);
  EXPECT_TRUE(std::isnan(absent.mean));
  EXPECT_EQ(AllOf(RollupEntry()), AllOf(RollupOf(nullptr, nullptr, 0)));
}

TEST(RollupEntryTest, TheMeanNeitherOverflowsNorVanishes) {
  EXPECT_EQ(Of({kLargest, kLargest, kLargest}).mean, kLargest);
  EXPECT_EQ(Of({-kLargest, kLargest}).mean, 0);
  EXPECT_EQ(Of({kSmallest, kSmallest, kSmallest}).mean, kSmallest);
  EXPECT_EQ(Of(std::vector<float>(64, 0.1f)).mean, 0.1f);
  EXPECT_EQ(BitsOf(Of({-0.0f, -0.0f}).mean), 0x80000000);
}

RC_GTEST_PROP(RollupEntryPropertyTest, IsWhatTheSlowReferenceSays, ()) {
  Random random = DrawRandom();
  const Series series = DrawSeries(1 + random.Below(200), random);
  ExpectEntry(
      RollupOf(series.values.data(), series.presence(), series.values.size()),
      SlowEntry(series, 0, series.values.size()));
  RC_ASSERT(!::testing::Test::HasFailure());
}

// Cut anywhere, and merged in groups: the same as at once.
RC_GTEST_PROP(RollupEntryPropertyTest, MergedRunsAreTheRunOfTheirValues, ()) {
  Random random = DrawRandom();
  const Series series = DrawSeries(1 + random.Below(300), random);
  const std::size_t steps = series.values.size();
  std::vector<RollupEntry> pieces, groups;
  std::vector<RollupEntry> group;
  for (std::size_t from = 0; from < steps;) {
    const std::size_t count =
        std::min<std::size_t>(steps - from, random.Below(80));
    pieces.push_back(SlowEntry(series, from, count));
    group.push_back(pieces.back());
    from += count;
    if (random.Below(3) == 0 || from == steps) {
      groups.push_back(MergeRollups(group));
      group.clear();
    }
  }
  const RollupEntry expected = SlowEntry(series, 0, steps);
  ExpectEntry(MergeRollups(pieces), expected, 1);
  ExpectEntry(MergeRollups(groups), expected, 2);
  RC_ASSERT(!::testing::Test::HasFailure());
}

TEST(RollupMergeTest, OffsetsAreThoseInTheWholeRun) {
  const std::vector<RollupEntry> runs = {
      Of({5, 5, 5}, {1, 1, 0}), Of({kNaN, 4}), RollupEntry(), Of({9, 4, 5})};
  const RollupEntry all = MergeRollups(runs);
  EXPECT_EQ(all.steps(), 8u);
  EXPECT_EQ(all.absent_at, 2);
  EXPECT_EQ(all.nonfinite_at, 3);
  EXPECT_EQ(all.min_at, 4);
  EXPECT_EQ(all.max_at, 5);
}

TEST(RollupMergeTest, MeansAreWeightedByFiniteValues) {
  const std::vector<RollupEntry> runs = {Of({1, 1, 1}), Of({kNaN, 7}),
                                         Of({kInf}), Of({8}, {0})};
  EXPECT_EQ(MergeRollups(runs).mean, 2.5f);
}

TEST(RollupMergeTest, NoRunIsTheDefault) {
  EXPECT_EQ(AllOf(MergeRollups({})), AllOf(RollupEntry()));
  const std::vector<RollupEntry> around = {RollupEntry(), Of({2, 1}),
                                           RollupEntry()};
  EXPECT_EQ(AllOf(MergeRollups(around)), AllOf(Of({2, 1})));
}

TEST(RollupMergeTest, TheLongestRunFits) {
  std::vector<RollupEntry> runs(1024, Of(std::vector<float>(63, 1)));
  runs.push_back(Of(std::vector<float>(1023, 2)));
  runs.back().max_at = 1022;
  const RollupEntry all = MergeRollups(runs);
  EXPECT_EQ(all.steps(), kMaxRollupRun);
  EXPECT_EQ(all.max_at, kMaxRollupRun - 1);
}

}  // namespace
}  // namespace gradtap::server
