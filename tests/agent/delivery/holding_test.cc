#include "agent/delivery/holding.h"

#include <gtest/gtest.h>

#include <chrono>

namespace gradtap::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kMiB = 1 << 20;

TEST(HoldingTest, ARingHoldsHalfOfItselfWholeAndTheRestThinned) {
  // 1 MiB a minute.
  const Holding ring = HoldingOf(kMiB / 600.0, 10, 64 * kMiB, 0);
  EXPECT_DOUBLE_EQ(ring.minutes, 32);
  EXPECT_DOUBLE_EQ(ring.minutes_thinned, 160);
  const Holding both = HoldingOf(kMiB / 600.0, 10, 64 * kMiB, 1024 * kMiB);
  EXPECT_DOUBLE_EQ(both.minutes, 1056);
  EXPECT_DOUBLE_EQ(both.minutes_thinned, 1184);
}

TEST(HoldingTest, WithoutStepsItHoldsNothingThatCouldBeSaid) {
  EXPECT_EQ(HoldingOf(0, 10, kMiB, 0).minutes, 0);
  EXPECT_EQ(HoldingOf(100, 0, kMiB, 0).minutes, 0);
}

TEST(HoldingTest, TheLineSaysSizeRateAndTimes) {
  EXPECT_EQ(DescribeHolding(kMiB / 600.0, 10, 64 * kMiB, 0),
            "a step takes 1.7 KiB, 10 steps/s: while the collector is away "
            "the ring of 64 MiB holds 32 minutes of every step, or 2.7 hours "
            "with steps left out");
  EXPECT_EQ(DescribeHolding(3.0 * kMiB, 0.25, 64 * kMiB, 1024 * kMiB),
            "a step takes 3.0 MiB, 0.25 steps/s: while the collector is away "
            "the ring of 64 MiB and the spool of 1.0 GiB hold 23 minutes of "
            "every step, or 26 minutes with steps left out");
  EXPECT_EQ(DescribeHolding(500, 10'000, kMiB, 0),
            "a step takes 500 bytes, 10000 steps/s: while the collector is "
            "away the ring of 1.0 MiB holds 0.10 s of every step, or 0.52 s "
            "with steps left out");
}

TEST(HoldingTest, ItIsSaidOnceSixteenStepsAndFiveSecondsAfterTheFirst) {
  HoldingWatch watch;
  const HoldingWatch::TimePoint start{};
  const auto look = [&](auto at, std::uint64_t steps, std::uint64_t bytes) {
    return watch.Observe(start + at, steps, bytes, 64 * kMiB, 0);
  };
  EXPECT_FALSE(look(seconds(0), 0, 0));
  EXPECT_FALSE(look(seconds(90), 3, 500'000));  // The schema, and slow steps.
  EXPECT_FALSE(look(seconds(91), 1'000, 1'500'000));
  EXPECT_FALSE(look(milliseconds(94'999), 5'000, 5'500'000));
  const auto line = look(seconds(95), 5'003, 5'500'000);
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(line->substr(0, 42), "a step takes 1000 bytes, 1000 steps/s: whi");
  EXPECT_FALSE(look(seconds(200), 9'000, 9'500'000));
}

TEST(HoldingTest, SlowJobsAreNotWaitedForSixteenTimes) {
  HoldingWatch watch;
  const HoldingWatch::TimePoint start{};
  EXPECT_FALSE(watch.Observe(start, 1, 1'000, 64 * kMiB, 0));
  EXPECT_FALSE(watch.Observe(start + seconds(59), 3, 3'000, 64 * kMiB, 0));
  EXPECT_TRUE(watch.Observe(start + seconds(60), 3, 3'000, 64 * kMiB, 0));
  HoldingWatch slower;
  EXPECT_FALSE(slower.Observe(start, 1, 1'000, 64 * kMiB, 0));
  EXPECT_FALSE(slower.Observe(start + seconds(600), 1, 1'000, 64 * kMiB, 0));
  EXPECT_TRUE(slower.Observe(start + seconds(700), 2, 2'000, 64 * kMiB, 0));
}

}  // namespace
}  // namespace gradtap::agent
