#include "agent/overhead_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>

namespace gradtap::agent {
namespace {

// A training loop under a budget. Costs in milliseconds.
class Loop {
 public:
  Loop(double budget, std::int64_t interval = 1,
       std::int64_t histogram_interval = 0)
      : budget_(budget, interval, histogram_interval),
        histogram_interval_(histogram_interval) {}

  // What a step takes without the agent, what its capture takes, what
  // histograms add, and what the copy of the weights takes before a due one.
  std::function<double()> base = [] { return 100.0; };
  std::function<double()> capture = [] { return 1.0; };
  std::function<double()> histograms = [] { return 0.0; };
  std::function<double()> keep = [] { return 0.0; };
  // Of another device, for a captured step: beside the training thread.
  std::function<double()> device = [] { return 0.0; };

  void Run(std::int64_t steps) {
    for (std::int64_t i = 0; i < steps; ++i) Step();
  }
  void Step() {
    const std::int64_t interval = budget_.interval_steps();
    StepCost cost;
    cost.captured = step_ % interval == 0;
    cost.histograms = cost.captured && histogram_interval_ > 0 &&
                      step_ % histogram_interval_ == 0;
    double took = 0;
    if (cost.captured) took += capture();
    if (cost.histograms) took += histograms();
    if (interval > 1 && (step_ + 1) % interval == 0) took += keep();
    const double device_ms = cost.captured ? device() : 0;
    cost.device = Ms(device_ms);
    const double beside = std::max(took, device_ms) - took;
    const double base_ms = base() + beside;
    own_ += took;
    all_ += took + base_ms;
    captured_ += cost.captured;
    cost.capture = Ms(took);
    cost.wall = Ms(took + base_ms);
    changes_ += budget_.Observe(cost);
    ++step_;
  }
  // From here on.
  void Forget() { own_ = all_ = changes_ = captured_ = 0; }
  double share() const { return own_ / all_; }
  int changes() const { return static_cast<int>(changes_); }
  double captured() const { return captured_; }
  const OverheadBudget& budget() const { return budget_; }

 private:
  static std::chrono::nanoseconds Ms(double ms) {
    return std::chrono::nanoseconds(static_cast<std::int64_t>(ms * 1e6));
  }

  OverheadBudget budget_;
  const std::int64_t histogram_interval_;
  std::int64_t step_ = 0;
  double own_ = 0;
  double all_ = 0;
  double changes_ = 0;
  double captured_ = 0;
};

TEST(OverheadBudgetTest, BelowTheBudgetEveryStepIsCaptured) {
  Loop loop(0.05);
  loop.capture = [] { return 5.0; };  // 4.8 % of a step.
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 1);
  EXPECT_EQ(loop.changes(), 0);
}

TEST(OverheadBudgetTest, AboveItTheIntervalWidensAtOnceAsFarAsItMust) {
  Loop loop(0.05);
  loop.capture = [] { return 70.0; };
  loop.Run(OverheadBudget::kWarmUpCycles + OverheadBudget::kWidenCycles);
  EXPECT_EQ(loop.budget().interval_steps(), 16);  // 70 of 1670; 8: 70 of 870.
  EXPECT_EQ(loop.changes(), 1);
  loop.Run(1000);
  loop.Forget();
  loop.Run(10'000);
  EXPECT_LE(loop.share(), 0.05);
  EXPECT_EQ(loop.changes(), 0);
}

TEST(OverheadBudgetTest, TheUsersIntervalIsMultiplied) {
  Loop loop(0.05, 10);
  loop.capture = [] { return 70.0; };
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 20);
  EXPECT_EQ(loop.budget().power(), 1);
}

TEST(OverheadBudgetTest, NoBudgetNeverChangesAnything) {
  for (const double budget : {0.0, 1.0}) {
    Loop loop(budget);
    loop.capture = [] { return 1e6; };
    loop.Run(1000);
    EXPECT_EQ(loop.budget().interval_steps(), 1);
  }
}

TEST(OverheadBudgetTest, HiccupsDoNotWiden) {
  Loop loop(0.05);
  int step = 0;
  loop.capture = [&] {
    ++step;
    if (step <= 4) return 5000.0;       // The first table, pages, caches.
    if (step % 256 == 0) return 300.0;  // The table is walked again.
    return step % 7 == 0 ? 60.0 : 2.0;  // The machine is busy elsewhere.
  };
  loop.Run(20'000);
  EXPECT_EQ(loop.changes(), 0);
}

TEST(OverheadBudgetTest, ALongPauseBetweenStepsIsNoRoom) {
  Loop loop(0.05);
  loop.capture = [] { return 10.0; };
  int step = 0;
  loop.base = [&] { return ++step % 50 == 0 ? 60'000.0 : 100.0; };
  loop.Run(2000);
  EXPECT_EQ(loop.budget().interval_steps(), 2);
}

TEST(OverheadBudgetTest, ItNarrowsOnlyWhereTheShareWouldBeClearlyBelow) {
  Loop loop(0.05);
  double cost = 10;
  loop.capture = [&] { return cost; };
  loop.Run(100);
  ASSERT_EQ(loop.budget().interval_steps(), 2);
  cost = 4;  // Every step: 3.8 %, not clearly below.
  loop.Run(5000);
  EXPECT_EQ(loop.budget().interval_steps(), 2);
  cost = 3;
  loop.Run(100);
  EXPECT_EQ(loop.budget().interval_steps(), 1);
  EXPECT_EQ(loop.changes(), 2);
}

TEST(OverheadBudgetTest, TheCopyOfTheWeightsBeforeADueStepCounts) {
  Loop loop(0.05);
  loop.capture = [] { return 6.0; };
  loop.keep = [] { return 6.0; };
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 4);
  loop.Forget();
  loop.Run(1000);
  EXPECT_LE(loop.share(), 0.05);
}

TEST(OverheadBudgetTest, HistogramsCountAsOftenAsTheyAreTaken) {
  Loop seldom(0.05, 1, 100);
  seldom.capture = [] { return 2.0; };
  seldom.histograms = [] { return 50.0; };
  seldom.Run(3000);
  EXPECT_EQ(seldom.budget().interval_steps(), 1);  // 2.5 ms on average.

  Loop often(0.05, 1, 2);
  often.capture = [] { return 2.0; };
  often.histograms = [] { return 20.0; };
  often.Run(3000);
  // Every step 12 ms on average; every second 22; every fourth 22 of 422.
  EXPECT_EQ(often.budget().interval_steps(), 8);
  often.Forget();
  often.Run(10'000);
  EXPECT_LE(often.share(), 0.05);
  EXPECT_EQ(often.changes(), 0);

  Loop always(0.05, 1, 1);
  always.capture = [] { return 2.0; };
  always.histograms = [] { return 2.0; };
  always.Run(3000);
  EXPECT_EQ(always.budget().interval_steps(), 1);
  EXPECT_NEAR(always.budget().ShareAt(0), 4.0 / 104, 1e-9);
}

TEST(OverheadBudgetTest, TheIntervalStaysWithinWhatTheWireHolds) {
  Loop loop(1e-9, std::int64_t{1} << 30);
  OverheadBudget wide(1e-9, std::int64_t{1} << 30, 0);
  OverheadBudget narrow(1e-9, 1, 0);
  StepCost cost;
  cost.captured = true;
  cost.capture = cost.wall = std::chrono::seconds(1);
  for (int i = 0; i < 1000; ++i) {
    wide.Observe(cost);
    narrow.Observe(cost);
  }
  EXPECT_EQ(wide.interval_steps(), OverheadBudget::kMaxInterval);
  EXPECT_EQ(narrow.power(), OverheadBudget::kMaxPower);
}

TEST(OverheadBudgetTest, ClocksThatDoNotMoveAndStepsThatDoNotCaptureAreFine) {
  OverheadBudget budget(0.05, 1, 0);
  StepCost nothing;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(budget.Observe(nothing));
  nothing.captured = true;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(budget.Observe(nothing));
  StepCost backwards = nothing;
  backwards.wall = std::chrono::nanoseconds(-5);
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(budget.Observe(backwards));
  EXPECT_EQ(budget.interval_steps(), 1);
}

// Of any stationary loop, however noisy: the share ends up within the budget
// (of medians: spikes are not its business), the interval is not wider than
// four times what is needed, and it stays where it is.
TEST(OverheadBudgetTest, UnderNoiseItSettlesAndStays) {
  std::mt19937_64 random(20240601);
  for (int round = 0; round < 50; ++round) {
    std::uniform_real_distribution<double> uniform;
    const double budget = std::pow(10, -2.5 + 2 * uniform(random));
    const double ratio = std::pow(10, -4 + 5 * uniform(random));
    const double noise = 0.3 * uniform(random);
    const double spikes = 0.05 * uniform(random);
    const double keep = ratio * uniform(random);
    std::lognormal_distribution<double> base_noise(0, noise);
    std::lognormal_distribution<double> cost_noise(0, noise);
    Loop loop(budget);
    loop.base = [&] { return 100 * base_noise(random); };
    const auto noisy = [&](double cost) {
      const double spike = uniform(random) < spikes ? 50 : 1;
      return 100 * cost * spike * cost_noise(random);
    };
    loop.capture = [&] { return noisy(ratio); };
    loop.keep = [&] { return noisy(keep); };
    const auto share_at = [&](double interval) {
      const double cost = interval > 1 ? ratio + keep : ratio;
      return cost / (cost + interval);
    };
    loop.Run(30'000);
    loop.Forget();
    loop.Run(30'000);
    EXPECT_LE(loop.changes(), 4) << "round " << round << " budget " << budget
                                 << " ratio " << ratio << " noise " << noise;
    const auto interval = static_cast<double>(loop.budget().interval_steps());
    EXPECT_LE(share_at(interval), 1.3 * budget) << round;
    if (interval > 1) {
      EXPECT_GE(share_at(interval / 4), 0.7 * budget) << round;
    }
  }
}

// The cost lies just where it hurts: over the budget, and under the limit for
// narrowing, by turns that the controller's own windows cause. Each narrowing
// that must be taken back doubles the time to the next.
TEST(OverheadBudgetTest, ALoopThatLuresItToAndFroIsFollowedEverMoreSlowly) {
  Loop loop(0.05);
  loop.capture = [&] { return loop.budget().power() == 0 ? 10.0 : 1.0; };
  const int steps = 100'000;
  loop.Run(steps);
  const double patience = static_cast<double>(OverheadBudget::kMaxNarrowCycles);
  EXPECT_LE(loop.changes(), 2 * (8 + steps / (2 * patience)));
}

TEST(OverheadBudgetTest, ItFollowsADrift) {
  Loop loop(0.05);
  std::int64_t step = 0;
  // The training itself becomes ten times slower, and fast again.
  loop.base = [&] {
    const double phase = static_cast<double>(step) / 40'000;
    return 20 * std::pow(10, 1 - std::abs(2 * phase - 1));
  };
  loop.capture = [] { return 5.0; };
  double widest_in_the_middle = 0;
  for (step = 0; step < 40'000; ++step) {
    loop.Step();
    if (step > 18'000 && step < 22'000) {
      widest_in_the_middle =
          std::max(widest_in_the_middle,
                   static_cast<double>(loop.budget().interval_steps()));
    }
  }
  EXPECT_EQ(widest_in_the_middle, 1);
  EXPECT_EQ(loop.budget().interval_steps(), 8);  // 5 of 165.
  EXPECT_LE(loop.changes(), 8);
  EXPECT_LE(loop.share(), 0.05);
}

TEST(OverheadBudgetTest, TheLargerOfHostAndDeviceIsWhatCaptureCosts) {
  Loop loop(0.05);
  loop.capture = [] { return 2.0; };
  loop.device = [] { return 4.0; };  // They are not added up: 3.8 %.
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 1);
  EXPECT_NEAR(loop.budget().ShareAt(0), 4.0 / 104, 1e-9);
  loop.device = [] { return 12.0; };
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 4);
  EXPECT_NEAR(loop.budget().ShareAt(2), 12.0 / 412, 1e-9);
  loop.device = [] { return 1.0; };
  loop.Run(1000);
  EXPECT_EQ(loop.budget().interval_steps(), 1);
  EXPECT_NEAR(loop.budget().ShareAt(0), 2.0 / 102, 1e-9);
}

}  // namespace
}  // namespace gradtap::agent
