#include "core/recent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

namespace gradtap {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using TimePoint = LatencyHistogram::TimePoint;

// Some time after the machine's start, at the beginning of a slot.
const TimePoint kNow{std::chrono::hours(5)};

TEST(LatencyHistogramTest, WithoutAnythingAllIsZero) {
  const LatencyHistogram histogram;
  const LatencyFigures figures = histogram.Figures(kNow);
  EXPECT_EQ(figures.count, 0u);
  EXPECT_EQ(figures.recent, 0u);
  EXPECT_EQ(figures.p99_ns, 0);
}

TEST(LatencyHistogramTest, QuantilesAreAtMostASixteenthAboveTheTrueOnes) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> values(14, 3);  // 1 us to 100 s.
  LatencyHistogram histogram;
  std::vector<std::int64_t> all;
  for (int i = 0; i < 20'000; ++i) {
    const auto ns = static_cast<std::int64_t>(values(random));
    all.push_back(ns);
    histogram.Record(nanoseconds(ns), kNow);
  }
  std::sort(all.begin(), all.end());
  const LatencyFigures figures = histogram.Figures(kNow);
  const std::int64_t p50 = all[(all.size() + 1) / 2 - 1];
  const std::int64_t p99 = all[(all.size() * 99 + 99) / 100 - 1];
  EXPECT_GE(figures.p50_ns, p50);
  EXPECT_LE(figures.p50_ns, p50 + p50 / 16);
  EXPECT_GE(figures.p99_ns, p99);
  EXPECT_LE(figures.p99_ns, p99 + p99 / 16);
  EXPECT_EQ(figures.max_ns, all.back());
  EXPECT_EQ(figures.count, all.size());
}

TEST(LatencyHistogramTest, EachMagnitudeKeepsTheBound) {
  for (std::int64_t ns = 0; ns < std::int64_t{1} << 43; ns += ns / 3 + 1) {
    LatencyHistogram histogram;
    histogram.Record(nanoseconds(ns), kNow);
    histogram.Record(nanoseconds(ns), kNow);
    histogram.Record(nanoseconds(ns * 5 + 1000), kNow);  // Not the maximum.
    const std::int64_t p50 = histogram.Figures(kNow).p50_ns;
    EXPECT_GE(p50, ns);
    EXPECT_LE(p50, ns + ns / 16);
  }
}

TEST(LatencyHistogramTest, WhatIsOutOfRangeIsCountedAtItsEnds) {
  LatencyHistogram histogram;
  histogram.Record(nanoseconds(-5), kNow);
  EXPECT_EQ(histogram.Figures(kNow).p99_ns, 0);
  histogram.Record(std::chrono::hours(1000), kNow);
  const LatencyFigures figures = histogram.Figures(kNow);
  EXPECT_EQ(figures.max_ns, nanoseconds(std::chrono::hours(1000)).count());
  EXPECT_GT(figures.p99_ns, nanoseconds(std::chrono::hours(2)).count());
}

TEST(LatencyHistogramTest, AMinuteLaterOnlyTheTotalsAreLeft) {
  LatencyHistogram histogram;
  histogram.Record(milliseconds(100), kNow);
  histogram.Record(milliseconds(3), kNow + seconds(30));
  LatencyFigures figures = histogram.Figures(kNow + seconds(59));
  EXPECT_EQ(figures.recent, 2u);
  EXPECT_EQ(figures.max_ns, nanoseconds(milliseconds(100)).count());
  figures = histogram.Figures(kNow + seconds(75));
  EXPECT_EQ(figures.recent, 1u);
  EXPECT_EQ(figures.max_ns, nanoseconds(milliseconds(3)).count());
  figures = histogram.Figures(kNow + seconds(110));
  EXPECT_EQ(figures.recent, 0u);
  EXPECT_EQ(figures.p50_ns, 0);
  EXPECT_EQ(figures.count, 2u);
  EXPECT_EQ(figures.sum_ns, nanoseconds(milliseconds(103)).count());
}

TEST(LatencyHistogramTest, ASlotThatComesBackForgetsWhatItHeld) {
  LatencyHistogram histogram;
  for (int i = 0; i < 1000; ++i) {
    histogram.Record(milliseconds(1), kNow + seconds(10 * i));
  }
  EXPECT_EQ(histogram.Figures(kNow + seconds(9990)).recent, 7u);
}

TEST(LatencyHistogramTest, ThreadsLoseNoRecord) {
  LatencyHistogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) histogram.Record(nanoseconds(i), kNow);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(histogram.Figures(kNow).count, 4000u);
  EXPECT_EQ(histogram.Figures(kNow).recent, 4000u);
}

TEST(RecentSumTest, IsARateOverTheLastMinute) {
  RecentSum sum(kNow - std::chrono::hours(1));
  for (int i = 0; i < 600; ++i) sum.Add(50, kNow + seconds(i));
  EXPECT_NEAR(sum.PerSecond(kNow + seconds(599)), 50, 1);
  EXPECT_EQ(sum.PerSecond(kNow + seconds(700)), 0);
}

TEST(RecentSumTest, OfAYoungProgramTheRateIsOverItsLife) {
  RecentSum sum(kNow);
  sum.Add(80, kNow + seconds(1));
  EXPECT_NEAR(sum.PerSecond(kNow + seconds(8)), 10, 1e-9);
}

}  // namespace
}  // namespace gradtap
