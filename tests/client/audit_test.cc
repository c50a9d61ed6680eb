#include "client/cli/audit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace gradtap::client {
namespace {

using Kind = AuditStep::Kind;

// A job whose blocks of `block` steps take turns, beginning with capture.
struct Job {
  std::size_t block = 20;
  int blocks = 21;
  double seconds = 0.1;
  double cost = 0;         // Of a step with capture.
  double own_share = 1;    // What of it the agent admits.
  int every = 1;           // Captured steps: each so manieth, at so much more.
  double noise = 0;        // Deviation of a step.
  double block_noise = 0;  // Deviation that a block has in common.
  double drift = 0;        // Seconds a step, growing.
  double stalls = 0;       // Share of steps that take ten times as long.

  std::vector<AuditStep> Run(unsigned seed) const {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    std::vector<AuditStep> steps;
    for (int b = 0; b < blocks; ++b) {
      const double common = block_noise * normal(random);
      for (std::size_t i = 0; i < block; ++i) {
        AuditStep step;
        step.step = static_cast<std::int64_t>(steps.size());
        step.attempt = 1;
        step.kind = b % 2 == 0 ? Kind::kWith : Kind::kWithout;
        const bool captured =
            step.kind == Kind::kWith && step.step % every == 0;
        const double cost_here = captured ? cost * every : 0;
        step.capture_seconds = own_share * cost_here;
        step.seconds = seconds + cost_here + common + noise * normal(random) +
                       drift * static_cast<double>(step.step);
        if (uniform(random) < stalls) step.seconds += 10 * seconds;
        steps.push_back(step);
      }
    }
    return steps;
  }
};

TEST(StudentQuantileTest, AgreesWithClosedFormsAndTables) {
  // One degree: tan(pi c / 2); two: c sqrt(2 / (1 - c^2)).
  constexpr double kPi = 3.14159265358979323846;
  for (const double c : {0.5, 0.9, 0.95, 0.999}) {
    EXPECT_NEAR(StudentQuantile(c, 1), std::tan(kPi * c / 2),
                1e-9 * std::tan(kPi * c / 2));
    EXPECT_NEAR(StudentQuantile(c, 2), c * std::sqrt(2 / (1 - c * c)), 1e-9);
  }
  EXPECT_NEAR(StudentQuantile(0.95, 5), 2.570581835636314, 1e-9);
  EXPECT_NEAR(StudentQuantile(0.95, 10), 2.228138851964939, 1e-9);
  EXPECT_NEAR(StudentQuantile(0.95, 30), 2.042272456301238, 1e-9);
  EXPECT_NEAR(StudentQuantile(0.99, 7), 3.499483297350493, 1e-9);
  EXPECT_NEAR(StudentQuantile(0.95, 1e6), 1.959966, 1e-5);
}

TEST(StudentQuantileTest, FallsWithTheDegreesOfFreedomWholeOrNot) {
  double last = StudentQuantile(0.95, 1);
  for (double freedom = 1.1; freedom < 400; freedom *= 1.1) {
    const double here = StudentQuantile(0.95, freedom);
    EXPECT_LT(here, last) << freedom;
    EXPECT_GT(here, 1.959) << freedom;
    last = here;
  }
}

TEST(AuditTest, WithoutNoiseTheCostIsExact) {
  Job job;
  job.cost = 0.003;
  const AuditResult result = Audit(job.Run(1));
  EXPECT_EQ(result.block_steps, 20u);
  EXPECT_EQ(result.comparisons, 9u);  // The ends have one neighbour each.
  EXPECT_EQ(result.with_blocks, 9u);
  EXPECT_EQ(result.without_blocks, 10u);
  EXPECT_EQ(result.with_steps, 9u * 18u);  // Two of each block are left out.
  EXPECT_EQ(result.without_steps, 10u * 18u);
  EXPECT_NEAR(result.difference_seconds, 0.003, 1e-12);
  EXPECT_NEAR(result.own_seconds, 0.003, 1e-12);
  EXPECT_NEAR(result.with_seconds, 0.103, 1e-12);
  EXPECT_NEAR(result.without_seconds, 0.1, 1e-12);
  EXPECT_NEAR(result.upper_seconds - result.lower_seconds, 0, 1e-9);
}

TEST(AuditTest, ACostThatTheAgentDoesNotAdmitIsFoundAllTheSame) {
  Job job;
  job.cost = 0.003;
  for (const double own_share : {0.0, 0.3, 2.0}) {
    job.own_share = own_share;
    EXPECT_NEAR(Audit(job.Run(1)).difference_seconds, 0.003, 1e-12);
  }
}

TEST(AuditTest, ASteadyDriftDoesNotBias) {
  Job job;
  job.cost = 0.001;
  job.drift = 1e-4;  // A block takes longer than the one before by 2 ms.
  EXPECT_NEAR(Audit(job.Run(1)).difference_seconds, 0.001, 1e-9);
  job.drift = -1e-4;
  EXPECT_NEAR(Audit(job.Run(1)).difference_seconds, 0.001, 1e-9);
}

TEST(AuditTest, CostsInFewLargePiecesAreNotTrimmedAway) {
  Job job;
  job.block = 50;
  job.cost = 0.002;
  for (const int every : {2, 5, 10, 25, 50}) {
    job.every = every;
    EXPECT_NEAR(Audit(job.Run(1)).difference_seconds, 0.002, 1e-9) << every;
  }
}

TEST(AuditTest, StallsOfTheMachineAreTrimmed) {
  Job job;
  job.block = 50;
  job.cost = 0.001;
  job.blocks = 101;
  job.noise = 0.002;
  job.stalls = 0.01;
  const AuditResult result = Audit(job.Run(3));
  EXPECT_NEAR(result.difference_seconds, 0.001, 0.0005);
  EXPECT_LT(result.upper_seconds - result.lower_seconds, 0.002);
}

// The share of intervals, over many jobs, that hold the true cost.
double Coverage(Job job, int jobs) {
  int covered = 0;
  for (int seed = 0; seed < jobs; ++seed) {
    const AuditResult result = Audit(job.Run(static_cast<unsigned>(seed)));
    covered +=
        result.lower_seconds <= job.cost && job.cost <= result.upper_seconds;
  }
  return covered / static_cast<double>(jobs);
}

TEST(AuditTest, TheIntervalHoldsTheTruthNineteenTimesOfTwenty) {
  Job job;
  job.block = 10;
  job.cost = 0.001;
  job.noise = 0.003;
  job.block_noise = 0.002;
  // 1,500 jobs: 0.95 has a deviation of 0.0056.
  for (const int blocks : {7, 11, 41}) {
    job.blocks = blocks;
    EXPECT_NEAR(Coverage(job, 1500), 0.95, 0.02) << blocks;
  }
  job.drift = 1e-4;
  EXPECT_NEAR(Coverage(job, 1500), 0.95, 0.02) << "drift";
}

TEST(AuditTest, TheIntervalNarrowsWithTheBlocks) {
  Job job;
  job.noise = 0.003;
  job.blocks = 21;
  const AuditResult few = Audit(job.Run(5));
  job.blocks = 401;
  const AuditResult many = Audit(job.Run(5));
  EXPECT_LT(many.upper_seconds - many.lower_seconds,
            (few.upper_seconds - few.lower_seconds) / 2);
}

TEST(AuditTest, StepsThatSayNothingBelongToTheirBlock) {
  Job job;
  job.cost = 0.003;
  std::vector<AuditStep> steps = job.Run(1);
  for (AuditStep& step : steps) {
    if (step.step % 7 != 3) continue;
    step.kind = Kind::kNeither;
    step.seconds = 99;
  }
  const AuditResult result = Audit(steps);
  EXPECT_EQ(result.block_steps, 20u);
  EXPECT_EQ(result.comparisons, 9u);
  EXPECT_NEAR(result.difference_seconds, 0.003, 1e-12);
  EXPECT_LT(result.with_steps, 9u * 18u);
  // Also where one begins: it does not make the one before it longer.
  steps = job.Run(1);
  for (std::size_t i = 0; i < steps.size(); i += 40) {
    steps[i].kind = Kind::kNeither;
  }
  EXPECT_EQ(Audit(steps).block_steps, 20u);
  EXPECT_EQ(Audit(steps).comparisons, 9u);
}

TEST(AuditTest, ALostStepEndsItsBlockAndARestartItsSequence) {
  Job job;
  job.cost = 0.003;
  std::vector<AuditStep> steps = job.Run(1);
  steps.erase(steps.begin() + 130);  // Within the fourth one without.
  const AuditResult lost = Audit(steps);
  EXPECT_EQ(lost.comparisons, 9u - 2u + 1u);  // Half a block still counts.
  EXPECT_NEAR(lost.difference_seconds, 0.003, 1e-12);
  steps = job.Run(1);
  for (std::size_t i = 210; i < steps.size(); ++i) steps[i].attempt = 2;
  EXPECT_LT(Audit(steps).comparisons, 9u);
}

TEST(AuditTest, TooLittleIsNaNAndNoCrash) {
  EXPECT_EQ(Audit({}).block_steps, 0u);
  EXPECT_TRUE(std::isnan(Audit({}).difference_seconds));
  Job job;
  job.blocks = 1;
  EXPECT_EQ(Audit(job.Run(1)).block_steps, 0u);  // No block without.
  job.blocks = 2;
  EXPECT_EQ(Audit(job.Run(1)).comparisons, 0u);
  job.blocks = 4;
  const AuditResult one = Audit(job.Run(1));
  EXPECT_EQ(one.comparisons, 1u);
  EXPECT_TRUE(std::isnan(one.lower_seconds));
  EXPECT_FALSE(std::isnan(one.difference_seconds));
  job.block = 1;
  job.blocks = 21;
  EXPECT_EQ(Audit(job.Run(1)).comparisons, 9u);
  std::vector<AuditStep> neither(10);
  for (std::size_t i = 0; i < 10; ++i) neither[i].step = static_cast<int>(i);
  EXPECT_EQ(Audit(neither).block_steps, 0u);
}

TEST(AuditTest, OfABlockTheFirstStepsAreLeftOut) {
  EXPECT_EQ(DroppedSteps(1), 0u);
  EXPECT_EQ(DroppedSteps(2), 1u);
  EXPECT_EQ(DroppedSteps(50), 5u);
  EXPECT_EQ(DroppedSteps(100'000), 5u);
  Job job;
  job.cost = 0.003;
  std::vector<AuditStep> steps = job.Run(1);
  for (AuditStep& step : steps) {
    if (step.step % 20 < 2) step.seconds = 5;
  }
  EXPECT_NEAR(Audit(steps).difference_seconds, 0.003, 1e-12);
}

}  // namespace
}  // namespace gradtap::client
