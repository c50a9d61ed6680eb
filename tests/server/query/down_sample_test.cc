#include "server/query/down_sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace gradtap::server {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

Point At(std::int64_t step, double value) {
  return {step, step * 10, value, 1, false};
}

TEST(DownSamplerTest, WithoutALimitEveryPointStays) {
  DownSampler sampler;
  for (int i = 0; i < 10'000; ++i) sampler.Add(At(i, i));
  EXPECT_EQ(sampler.Take().size(), 10'000u);
}

TEST(DownSamplerTest, UpToTheLimitEveryPointStays) {
  DownSampler sampler(100);
  for (int i = 0; i < 100; ++i) sampler.Add(At(i, i));
  EXPECT_EQ(sampler.seen(), 100u);
  EXPECT_EQ(sampler.Take().size(), 100u);
}

TEST(DownSamplerTest, KeepsTheSpikeTheDipAndBothEnds) {
  DownSampler sampler(20);
  for (int i = 0; i < 100'000; ++i) {
    sampler.Add(At(i, i == 54'321 ? 1e9 : i == 777 ? -1e9 : 1.0));
  }
  const std::vector<Point> points = sampler.Take();
  EXPECT_LE(points.size(), 20u);
  EXPECT_EQ(points.front().step, 0);
  EXPECT_EQ(points.back().step, 99'999);
  const auto has = [&points](std::int64_t step, double value) {
    return std::any_of(points.begin(), points.end(), [&](const Point& point) {
      return point.step == step && point.value == value;
    });
  };
  EXPECT_TRUE(has(54'321, 1e9));
  EXPECT_TRUE(has(777, -1e9));
}

TEST(DownSamplerTest, NonFiniteAndAbsentPointsSurviveApart) {
  DownSampler sampler(12);
  for (int i = 0; i < 5'000; ++i) {
    Point point = At(i, i == 1'234 ? kNan : 1.0);
    if (i == 3'456) {
      point.value = kNan;
      point.absent = true;
    }
    sampler.Add(point);
  }
  const std::vector<Point> points = sampler.Take();
  EXPECT_TRUE(std::any_of(points.begin(), points.end(), [](const Point& p) {
    return p.step == 1'234 && std::isnan(p.value) && !p.absent;
  }));
  EXPECT_TRUE(std::any_of(points.begin(), points.end(), [](const Point& p) {
    return p.step == 3'456 && p.absent;
  }));
}

TEST(DownSamplerTest, OneNonFinitePointIsNeverTakenForAnExtreme) {
  DownSampler sampler(6);
  for (int i = 0; i < 100; ++i) {
    sampler.Add(At(i, i == 50 ? std::numeric_limits<double>::infinity() : i));
  }
  const std::vector<Point> points = sampler.Take();
  EXPECT_TRUE(std::any_of(points.begin(), points.end(),
                          [](const Point& p) { return p.value == 99; }));
  EXPECT_TRUE(std::any_of(points.begin(), points.end(),
                          [](const Point& p) { return std::isinf(p.value); }));
}

TEST(DownSamplerTest, RandomSeriesKeepTheirExtremesInOrderWithinTheLimit) {
  std::mt19937 rng(7);
  for (int round = 0; round < 300; ++round) {
    const std::uint32_t limit =
        std::uniform_int_distribution<std::uint32_t>(1, 60)(rng);
    const int n = std::uniform_int_distribution<int>(1, 3'000)(rng);
    DownSampler sampler(limit);
    std::vector<Point> all;
    for (int i = 0; i < n; ++i) {
      Point point = At(i, std::normal_distribution<double>()(rng));
      const int kind = std::uniform_int_distribution<int>(0, 40)(rng);
      if (kind == 0) point.value = kNan;
      if (kind == 1) {
        point.value = kNan;
        point.absent = true;
      }
      all.push_back(point);
      sampler.Add(point);
    }
    ASSERT_LE(sampler.retained(), 2u * std::max<std::uint32_t>(4, limit));
    const std::vector<Point> points = sampler.Take();
    ASSERT_LE(points.size(), std::max<std::size_t>(6, limit));
    ASSERT_EQ(points.front().step, 0);
    ASSERT_EQ(points.back().step, n - 1);
    double min = 1e9, max = -1e9, min_kept = 1e9, max_kept = -1e9;
    bool nan = false, absent = false, nan_kept = false, absent_kept = false;
    for (const Point& p : all) {
      if (p.absent)
        absent = true;
      else if (std::isnan(p.value))
        nan = true;
      else
        min = std::min(min, p.value), max = std::max(max, p.value);
    }
    for (std::size_t i = 0; i < points.size(); ++i) {
      const Point& p = points[i];
      ASSERT_TRUE(i == 0 || points[i - 1].step < p.step);
      // Nothing is made up.
      const Point& same = all[static_cast<std::size_t>(p.step)];
      ASSERT_EQ(p.absent, same.absent);
      ASSERT_TRUE(p.value == same.value ||
                  (std::isnan(p.value) && std::isnan(same.value)));
      if (p.absent)
        absent_kept = true;
      else if (std::isnan(p.value))
        nan_kept = true;
      else
        min_kept = std::min(min_kept, p.value),
        max_kept = std::max(max_kept, p.value);
    }
    ASSERT_EQ(min, min_kept);
    ASSERT_EQ(max, max_kept);
    ASSERT_EQ(nan, nan_kept);
    ASSERT_EQ(absent, absent_kept);
  }
}

}  // namespace
}  // namespace gradtap::server
