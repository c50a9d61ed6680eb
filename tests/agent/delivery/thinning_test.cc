#include "agent/delivery/thinning.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeSkippedStep;
using ::gradtap::testing::MakeStep;

int LevelAt(Thinning* thinning, std::uint64_t used) {
  thinning->Observe(used, 800);
  return thinning->level();
}

TEST(ThinningTest, ItGoesUpAboveAHalfThreeQuartersAndSevenEighths) {
  Thinning thinning;
  EXPECT_EQ(LevelAt(&thinning, 0), 0);
  EXPECT_EQ(LevelAt(&thinning, 400), 0);
  EXPECT_EQ(LevelAt(&thinning, 401), 1);
  EXPECT_EQ(LevelAt(&thinning, 600), 1);
  EXPECT_EQ(LevelAt(&thinning, 601), 2);
  EXPECT_EQ(LevelAt(&thinning, 700), 2);
  EXPECT_EQ(LevelAt(&thinning, 701), 3);
  EXPECT_EQ(LevelAt(&thinning, 900), 3);
}

TEST(ThinningTest, ItGoesBackWellBelowThat) {
  Thinning thinning;
  EXPECT_EQ(LevelAt(&thinning, 800), 3);  // At once, all the way.
  EXPECT_EQ(LevelAt(&thinning, 600), 3);
  EXPECT_EQ(LevelAt(&thinning, 599), 2);
  EXPECT_EQ(LevelAt(&thinning, 400), 2);
  EXPECT_EQ(LevelAt(&thinning, 399), 1);
  EXPECT_EQ(LevelAt(&thinning, 200), 1);
  EXPECT_EQ(LevelAt(&thinning, 199), 0);
  EXPECT_EQ(LevelAt(&thinning, 650), 2);
  EXPECT_EQ(LevelAt(&thinning, 0), 0);
}

TEST(ThinningTest, ItDoesNotFlap) {
  Thinning thinning;
  int changes = 0;
  int level = 0;
  for (int i = 0; i < 1'000; ++i) {
    // Around a threshold, by an eighth of the room.
    const int now = LevelAt(&thinning, i % 2 == 0 ? 410 : 310);
    changes += now != level ? 1 : 0;
    level = now;
  }
  EXPECT_EQ(changes, 1);
}

std::vector<std::int64_t> Taken(const Thinning& thinning, StepData step,
                                std::int64_t first, std::int64_t last) {
  std::vector<std::int64_t> taken;
  for (step.step = first; step.step <= last; ++step.step) {
    if (thinning.Takes(step)) taken.push_back(step.step);
  }
  return taken;
}

TEST(ThinningTest, WhichStepsAreTakenShowsByTheirNumber) {
  using Steps = std::vector<std::int64_t>;
  const StepData step = MakeStep(0, 1, 1);
  Thinning thinning;
  EXPECT_EQ(Taken(thinning, step, -2, 2), (Steps{-2, -1, 0, 1, 2}));
  LevelAt(&thinning, 500);
  EXPECT_EQ(Taken(thinning, step, -4, 5), (Steps{-4, -2, 0, 2, 4}));
  LevelAt(&thinning, 650);
  EXPECT_EQ(Taken(thinning, step, -4, 9), (Steps{-4, 0, 4, 8}));
  LevelAt(&thinning, 800);
  EXPECT_EQ(Taken(thinning, step, -4, 20), (Steps{0, 8, 16}));
  constexpr std::int64_t kMin = std::numeric_limits<std::int64_t>::min();
  EXPECT_EQ(Taken(thinning, step, kMin, kMin + 8), (Steps{kMin, kMin + 8}));
}

// An interval of 8 gives steps 0, 8, 16, ...: all would pass.
TEST(ThinningTest, AnIntervalMakesTheStrideLonger) {
  using Steps = std::vector<std::int64_t>;
  StepData step = MakeStep(0, 1, 1);
  step.interval_steps = 10;
  Thinning thinning;
  LevelAt(&thinning, 500);
  EXPECT_EQ(Taken(thinning, step, 0, 60), (Steps{0, 20, 40, 60}));
  StepData between = MakeSkippedStep(0, GapCause::kInterval);
  between.interval_steps = 10;
  EXPECT_EQ(Taken(thinning, between, 1, 5), (Steps{2, 4}));
  step.interval_steps = 0;  // Of somebody who does not know better.
  EXPECT_EQ(Taken(thinning, step, 0, 3), (Steps{0, 2}));
  LevelAt(&thinning, 800);
  step.interval_steps = std::numeric_limits<std::uint32_t>::max();
  EXPECT_EQ(Taken(thinning, step, 0, 100), (Steps{0}));
}

TEST(ThinningTest, NonFiniteTensorsAndScalarsAreCounted) {
  const StepData calm = MakeStep(3, 1, 1'000);
  EXPECT_EQ(CountNonFinite(calm), 0u);
  EXPECT_EQ(CountNonFinite(MakeSkippedStep(3, GapCause::kLoop)), 0u);
  StepData all = calm;
  std::size_t expected = 0;
  for (auto counts :
       {&RoleColumns::nan, &RoleColumns::pos_inf, &RoleColumns::neg_inf}) {
    for (const std::size_t place : {0, 567, 999}) {
      StepData step = calm;
      (step.roles[0].*counts)[place] = std::uint64_t{1} << 40;
      EXPECT_EQ(CountNonFinite(step), 1u);
      (all.roles[0].*counts)[place] = 1;  // Three kinds in each of three.
    }
  }
  expected += 3;
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    StepData step = calm;
    step.scalars.push_back({"lr", value});
    EXPECT_EQ(CountNonFinite(step), 1u);
    all.scalars.push_back({"lr", value});
    ++expected;
  }
  EXPECT_EQ(CountNonFinite(all), expected);
}

// Its statistics are NaN because it has no element.
TEST(ThinningTest, AnEmptyTensorIsNotNonFinite) {
  StepData step = MakeStep(3, 1, 2);
  step.roles[0].Set(0, Record{});
  step.roles[0].SetAbsent(1);
  EXPECT_EQ(CountNonFinite(step), 0u);
}

// `count` of its tensors are.
StepData NonFinite(std::size_t count) {
  StepData step = MakeStep(3, 1, 10);
  for (std::size_t i = 0; i < count; ++i) step.roles[0].nan[i] = 1;
  return step;
}
int Spared(Thinning* thinning, const StepData& step, int times) {
  int spared = 0;
  for (int i = 0; i < times; ++i) spared += thinning->Spares(step) ? 1 : 0;
  return spared;
}

TEST(ThinningTest, TheFirstNonFiniteStepsAreSparedAndNotTheRest) {
  Thinning thinning;
  LevelAt(&thinning, 500);
  for (int i = 0; i < Thinning::kSpared; ++i) {
    EXPECT_TRUE(thinning.Spares(NonFinite(1)));
  }
  EXPECT_EQ(Spared(&thinning, NonFinite(1), 1'000), 0);
  EXPECT_EQ(Spared(&thinning, NonFinite(0), 1), 0);
}

TEST(ThinningTest, ANonFiniteStepNowAndThenIsAlwaysSpared) {
  Thinning thinning;
  LevelAt(&thinning, 500);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Spared(&thinning, NonFinite(2), 1), 1) << i;
    EXPECT_EQ(Spared(&thinning, NonFinite(0), 1), 0) << i;
  }
}

// As a scalar that is a number in one step of a hundred.
TEST(ThinningTest, AFiniteStepNowAndThenGivesBackOne) {
  Thinning thinning;
  LevelAt(&thinning, 500);
  EXPECT_EQ(Spared(&thinning, NonFinite(1), 100), Thinning::kSpared);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Spared(&thinning, NonFinite(0), 1), 0);
    EXPECT_EQ(Spared(&thinning, NonFinite(1), 100), 1);
  }
}

TEST(ThinningTest, MoreThatIsNonFiniteThanEverIsSparedAgain) {
  Thinning thinning;
  LevelAt(&thinning, 500);
  EXPECT_EQ(Spared(&thinning, NonFinite(1), 100), Thinning::kSpared);
  EXPECT_EQ(Spared(&thinning, NonFinite(5), 100), Thinning::kSpared);
  EXPECT_EQ(Spared(&thinning, NonFinite(4), 100), 0);
  EXPECT_EQ(Spared(&thinning, NonFinite(6), 100), Thinning::kSpared);
  // Well again, what comes next is new.
  EXPECT_EQ(Spared(&thinning, NonFinite(0), Thinning::kSpared), 0);
  EXPECT_EQ(Spared(&thinning, NonFinite(1), 4), 4);
  EXPECT_EQ(Spared(&thinning, NonFinite(2), 100), Thinning::kSpared);
}

TEST(ThinningTest, AStepWithoutStatisticsDoesNotSayThatAllIsWell) {
  Thinning thinning;
  LevelAt(&thinning, 500);
  StepData between = MakeSkippedStep(3, GapCause::kInterval);
  EXPECT_EQ(Spared(&thinning, NonFinite(9), 100), Thinning::kSpared);
  EXPECT_EQ(Spared(&thinning, between, 100), 0);
  EXPECT_EQ(Spared(&thinning, NonFinite(9), 100), 0);
  between.scalars.push_back({"loss", std::nan("")});
  Thinning another;
  LevelAt(&another, 500);
  EXPECT_EQ(Spared(&another, between, 100), Thinning::kSpared);
}

TEST(ThinningTest, OnceEveryStepIsTakenItBeginsAnew) {
  Thinning thinning;
  LevelAt(&thinning, 800);
  EXPECT_EQ(Spared(&thinning, NonFinite(3), 100), Thinning::kSpared);
  LevelAt(&thinning, 300);  // Every 2nd still.
  EXPECT_EQ(Spared(&thinning, NonFinite(3), 100), 0);
  LevelAt(&thinning, 0);
  LevelAt(&thinning, 800);
  EXPECT_EQ(Spared(&thinning, NonFinite(1), 100), Thinning::kSpared);
}

}  // namespace
}  // namespace gradtap::agent
