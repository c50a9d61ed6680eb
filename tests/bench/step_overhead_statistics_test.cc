#include "bench/step_overhead_statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace gradtap::bench {
namespace {

TEST(StepOverheadStatisticsTest, QuantilesLieBetweenTheValues) {
  const std::vector<double> values = {4, 1, 3, 2};
  EXPECT_EQ(Quantile(values, 0), 1);
  EXPECT_EQ(Quantile(values, 0.5), 2.5);
  EXPECT_EQ(Quantile(values, 1), 4);
  EXPECT_EQ(Quantile({7}, 0.3), 7);
  EXPECT_TRUE(std::isnan(Quantile({}, 0.5)));
}

TEST(StepOverheadStatisticsTest, FewValuesHaveNoInterval) {
  const Estimate one = Center({3});
  EXPECT_EQ(one.value, 3);
  EXPECT_EQ(one.low, -INFINITY);
  EXPECT_EQ(one.high, INFINITY);
  EXPECT_TRUE(std::isnan(Center({}).value));
  EXPECT_TRUE(std::isfinite(Center({1, 2, 3, 4, 5, 6}).low));
}

TEST(StepOverheadStatisticsTest, AWildValueDoesNotMoveTheCenter) {
  std::vector<double> values;
  for (int i = 0; i < 20; ++i) values.push_back(1 + 0.01 * i);
  const double calm = Center(values).value;
  values.back() = 1000;
  const Estimate wild = Center(values);
  EXPECT_NEAR(wild.value, calm, 0.02);
  EXPECT_LT(wild.high, 2);
}

// 95 intervals of 100 hold the truth, give or take what 1,000 draws allow.
TEST(StepOverheadStatisticsTest, TheIntervalHoldsTheTruthAsOftenAsItSays) {
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal(0.5, 1);
  for (const int n : {6, 12, 40}) {
    int held = 0;
    for (int trial = 0; trial < 1000; ++trial) {
      std::vector<double> values;
      for (int i = 0; i < n; ++i) values.push_back(normal(random));
      const Estimate estimate = Center(values);
      held += estimate.low <= 0.5 && 0.5 <= estimate.high;
    }
    EXPECT_GT(held, 925) << n;
    EXPECT_LT(held, 985) << n;
  }
}

}  // namespace
}  // namespace gradtap::bench
