#include "server/health/follow.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace gradtap::server {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(FollowTest, TheFastLogarithmIsExactForPowersOfTwoAndRises) {
  for (int e = -120; e <= 120; ++e) {
    EXPECT_EQ(FastLog2(std::ldexp(1.0F, e)), static_cast<float>(e));
  }
  std::mt19937 random(1);
  std::uniform_real_distribution<float> exponent(-37, 37);
  for (int i = 0; i < 10'000; ++i) {
    const float x = std::pow(10.0F, exponent(random));
    EXPECT_NEAR(FastLog2(x), std::log2(static_cast<double>(x)), 0.09);
    EXPECT_LE(FastLog2(x), FastLog2(std::nextafter(x, 1e38F)));
  }
}

// One series as the header describes it, step by step, with branches and in
// double where that is the same.
class SlowLevel {
 public:
  explicit SlowLevel(const LevelLimits& limits) : limits_(limits) {}

  std::int32_t Look(float mean, float std) {
    const float magnitude = std::fmax(std::fabs(mean), std);
    if (!(magnitude > 0) || std::isinf(magnitude)) return row_;
    const double x = FastLog2(magnitude);
    if (seen_ == 0) level_ = x;
    const double away = x - level_;
    int side = 0;
    if (seen_ >= limits_.warm_up) {
      if (away > limits_.high_log2 && away > limits_.high_spreads * spread_) {
        side = 1;
      } else if (-away > limits_.low_log2 &&
                 -away > limits_.low_spreads * spread_) {
        side = -1;
      }
    }
    if (side == 0) {
      row_ = 0;
    } else {
      row_ = side * row_ > 0 ? row_ + side : side;
    }
    const double reach = 3 * spread_ + 0.1;
    const double rate = std::fmax(limits_.rate, 1.0 / (seen_ + 1));
    const double spread_rate = std::fmax(limits_.rate, 1.0 / (seen_ + 10));
    level_ += rate * std::fmin(std::fmax(away, -reach), reach);
    spread_ += spread_rate * (std::fmin(std::fabs(away), reach) - spread_);
    ++seen_;
    return row_;
  }
  double level() const { return level_; }

 private:
  const LevelLimits limits_;
  double level_ = 0;
  double spread_ = 1;
  int seen_ = 0;
  std::int32_t row_ = 0;
};

// Drawn so that levels settle, jump, vanish and are missing.
float Draw(std::mt19937* random, float base) {
  const auto kind = (*random)() % 100;
  if (kind < 3) return kNan;
  if (kind < 5) return 0;
  if (kind < 8) return base * 1e6F;
  if (kind < 11) return base * 1e-6F;
  if (kind == 11) return std::numeric_limits<float>::max();
  return base * (0.5F + static_cast<float>((*random)() % 1000) / 1000.0F);
}

TEST(FollowTest, LevelsAreThoseOfTheSlowReference) {
  for (std::uint32_t seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    LevelLimits limits;
    limits.warm_up = static_cast<float>(5 + random() % 40);
    limits.rate = 0.02F;
    const std::size_t n = 1 + random() % 37;
    Levels levels;
    levels.Resize(n);
    std::vector<SlowLevel> slow(n, SlowLevel(limits));
    std::vector<float> mean(n), std(n);
    for (int step = 0; step < 400; ++step) {
      for (std::size_t i = 0; i < n; ++i) {
        // Each series jumps for good once.
        const float base =
            step < 200 + static_cast<int>(i) ? 1e-3F : 1e-3F * 256;
        std[i] = Draw(&random, base);
        mean[i] = std::isnan(std[i]) ? kNan : std[i] * 0.3F;
      }
      const RowEnds ends =
          FollowLevels(limits, mean.data(), std.data(), &levels);
      std::int32_t lowest = 0;
      std::int32_t highest = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t row = slow[i].Look(mean[i], std[i]);
        ASSERT_EQ(levels.row[i], row) << "seed " << seed << " step " << step;
        ASSERT_NEAR(levels.level[i], slow[i].level(), 0.01);
        lowest = std::min(lowest, row);
        highest = std::max(highest, row);
      }
      ASSERT_EQ(ends.lowest, lowest);
      ASSERT_EQ(ends.highest, highest);
    }
  }
}

// Once all have been seen for long enough there is a shorter way.
TEST(FollowTest, SettledPlacesAreFollowedAsThoseBesideOneThatIsNot) {
  std::mt19937 random(5);
  LevelLimits limits;
  constexpr std::size_t kPlaces = 13;
  Levels settled, mixed;
  settled.Resize(kPlaces);
  mixed.Resize(kPlaces + 1);  // The last never has a value.
  for (int step = 0; step < 1000; ++step) {
    std::vector<float> mean(kPlaces + 1, kNan), std(kPlaces + 1, kNan);
    for (std::size_t i = 0; i < kPlaces; ++i) {
      std[i] = Draw(&random, step < 600 ? 1.0F : 300.0F);
      mean[i] = std[i] * 0.3F;
    }
    const RowEnds ends =
        FollowLevels(limits, mean.data(), std.data(), &settled);
    const RowEnds beside =
        FollowLevels(limits, mean.data(), std.data(), &mixed);
    ASSERT_EQ(ends.lowest, beside.lowest);
    ASSERT_EQ(ends.highest, beside.highest);
    for (std::size_t i = 0; i < kPlaces; ++i) {
      ASSERT_EQ(settled.level[i], mixed.level[i]) << step;
      ASSERT_EQ(settled.spread[i], mixed.spread[i]) << step;
      ASSERT_EQ(settled.seen[i], mixed.seen[i]) << step;
      ASSERT_EQ(settled.row[i], mixed.row[i]) << step;
    }
  }
  EXPECT_EQ(mixed.seen[kPlaces], 0);
  EXPECT_GT(settled.seen[0], 100);
}

TEST(FollowTest, AnOutlierHardlyMovesTheLevel) {
  LevelLimits limits;
  Levels levels;
  levels.Resize(1);
  const float mean = 0;
  float std = 0.5F;
  for (int i = 0; i < 1000; ++i) FollowLevels(limits, &mean, &std, &levels);
  std = 1e30F;
  const RowEnds ends = FollowLevels(limits, &mean, &std, &levels);
  EXPECT_EQ(ends.highest, 1);
  EXPECT_NEAR(levels.level[0], -1, 0.01);
}

TEST(FollowTest, WhatStaysElsewhereBecomesTheLevel) {
  LevelLimits limits;
  Levels levels;
  levels.Resize(1);
  const float mean = 0;
  float std = 1;
  for (int i = 0; i < 1000; ++i) FollowLevels(limits, &mean, &std, &levels);
  std = 1024;
  int steps = 0;
  while (FollowLevels(limits, &mean, &std, &levels).highest > 0) {
    ASSERT_LT(++steps, 2000);
  }
  EXPECT_GT(steps, 20);
}

TEST(FollowTest, StillnessCountsOnlyAfterAnUpdateAndWithGradients) {
  Stillness still;
  still.Resize(4);
  const float moving[] = {1, 1, 0, kNan};
  const float none[] = {0, 0, 0, kNan};
  const std::int32_t all[] = {1, 1, 1, 1};
  const std::int32_t one[] = {1, 0, 1, 1};
  EXPECT_EQ(FollowStillness(none, none, all, &still), 0);  // Never updated yet.
  EXPECT_EQ(FollowStillness(moving, moving, all, &still), 0);
  for (int i = 1; i <= 5; ++i) {
    EXPECT_EQ(FollowStillness(none, none, one, &still), i);
  }
  EXPECT_EQ(still.row, (std::vector<std::int32_t>{5, 0, 0, 0}));
  // Nothing was observed: neither longer nor over.
  const float unknown[] = {kNan, kNan, kNan, kNan};
  EXPECT_EQ(FollowStillness(unknown, unknown, all, &still), 5);
  EXPECT_EQ(FollowStillness(moving, moving, all, &still), 0);
}

TEST(FollowTest, RatiosAreThoseOfTheSlowReference) {
  std::mt19937 random(3);
  const double min = 1e-4;
  const double max = 0.1;
  const std::size_t n = 29;
  std::vector<std::int32_t> rows(n), slow(n), checked(n);
  for (auto& c : checked) c = random() % 4 == 0 ? 0 : 1;
  std::vector<float> um(n), us(n), wm(n), ws(n);
  for (int step = 0; step < 2000; ++step) {
    for (std::size_t i = 0; i < n; ++i) {
      wm[i] = Draw(&random, 1);
      ws[i] = Draw(&random, 1);
      um[i] = 0;
      us[i] = Draw(&random, i % 3 == 0 ? 0.02F : i % 3 == 1 ? 1.0F : 1e-6F);
      const double u = std::hypot(double{um[i]}, double{us[i]});
      const double w = std::hypot(double{wm[i]}, double{ws[i]});
      if (checked[i] == 0 || !(u > 0) || !(w > 0)) continue;
      const int side = u > max * w ? 1 : u < min * w ? -1 : 0;
      slow[i] = side == 0 ? 0 : side * slow[i] > 0 ? slow[i] + side : side;
    }
    FollowRatios({min * min, max * max}, um.data(), us.data(), wm.data(),
                 ws.data(), checked.data(), &rows);
    ASSERT_EQ(rows, slow) << "step " << step;
  }
}

TEST(FollowTest, NoPlacesAreNoBreak) {
  Levels levels;
  EXPECT_EQ(FollowLevels({}, nullptr, nullptr, &levels).highest, 0);
  Stillness still;
  EXPECT_EQ(FollowStillness(nullptr, nullptr, nullptr, &still), 0);
}

}  // namespace
}  // namespace gradtap::server
