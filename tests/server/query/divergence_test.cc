#include "server/query/divergence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>

namespace gradtap::server::testing {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr DivergenceOptions kOptions;

Sample Of(double value) { return {value, false, 0}; }
Sample Absent() { return {kNan, true, 0}; }

using Course = std::function<Sample(int step)>;

Divergence Compare(const Course& good, const Course& other, int steps,
                   const DivergenceOptions& options = kOptions) {
  Divergence divergence;
  for (int step = 0; step < steps; ++step) {
    divergence.Add(options, step, good(step), other(step));
  }
  divergence.Finish(options);
  return divergence;
}

// A course that falls, with noise of `sigma` in its logarithm.
Course Noisy(unsigned seed, double sigma, double fall = 0.001) {
  auto rng = std::make_shared<std::mt19937>(seed);
  return [=](int step) {
    std::normal_distribution<double> noise(0, sigma);
    return Of(std::exp(-fall * step + noise(*rng)));
  };
}

Course ScaledFrom(Course course, int first, double scale) {
  return [=](int step) {
    Sample sample = course(step);
    if (step >= first) sample.value *= scale;
    return sample;
  };
}

TEST(DivergenceTest, IdenticalRunsDoNotDiverge) {
  const Divergence divergence = Compare(Noisy(1, 0.3), Noisy(1, 0.3), 1'000);
  EXPECT_FALSE(divergence.first_step().has_value());
  EXPECT_EQ(divergence.compared(), 1'000u);
  EXPECT_EQ(divergence.beyond(), 0u);
  EXPECT_EQ(divergence.log2_ratio(), 0);
}

TEST(DivergenceTest, NoiseAloneDoesNotDiverge) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    for (const double sigma : {0.001, 0.1, 1.0}) {
      const Divergence divergence =
          Compare(Noisy(2 * seed, sigma), Noisy(2 * seed + 1, sigma), 1'000);
      EXPECT_FALSE(divergence.first_step().has_value())
          << "seed " << seed << " sigma " << sigma << " at "
          << *divergence.first_step();
    }
  }
}

// Heavier tails than a normal distribution's, as norms of gradients have.
TEST(DivergenceTest, OutliersAloneDoNotDiverge) {
  const auto course = [](unsigned seed) {
    auto rng = std::make_shared<std::mt19937>(seed);
    return [rng](int) {
      return Of(std::exp(0.1 * std::student_t_distribution<double>(2)(*rng)));
    };
  };
  for (unsigned seed = 1; seed <= 100; ++seed) {
    EXPECT_FALSE(Compare(course(2 * seed), course(2 * seed + 1), 1'000)
                     .first_step()
                     .has_value())
        << seed;
  }
}

TEST(DivergenceTest, ARunThatIsScaledFromAStepDivergesThere) {
  for (const int first : {0, 1, 7, 31, 32, 33, 64, 65, 500, 995}) {
    for (const double scale : {100.0, 0.01}) {
      const Divergence divergence = Compare(
          Noisy(1, 0.1), ScaledFrom(Noisy(2, 0.1), first, scale), 1'000);
      EXPECT_EQ(divergence.first_step(), first) << scale;
      if (first > 900) continue;
      EXPECT_NEAR(divergence.log2_ratio(), std::log2(scale), 0.2);
    }
  }
}

TEST(DivergenceTest, ASmallShiftShowsWhereTheGoodRunIsQuiet) {
  const auto first = [](double sigma) {
    return Compare(Noisy(1, sigma), ScaledFrom(Noisy(2, sigma), 300, 1.1), 600)
        .first_step();
  };
  EXPECT_EQ(first(0.002), 300);
  EXPECT_EQ(first(0.2), std::nullopt);
}

TEST(DivergenceTest, TheNoiseIsWhatTwoRunsScatterAroundEachOther) {
  const Divergence divergence = Compare(Noisy(5, 0.1), Noisy(6, 0.1), 10'000);
  EXPECT_NEAR(divergence.noise_log2(),
              0.1 * std::sqrt(2) * std::log2(std::exp(1)), 0.1);
  // A course that changes is no noise.
  EXPECT_LT(
      Compare(Noisy(5, 0.001, 0.01), Noisy(6, 0.001, 0.01), 1'000).noise_log2(),
      0.15);
}

TEST(DivergenceTest, WithoutNoiseLessThanAHundredthIsNothing) {
  const Course constant = [](int) { return Of(3); };
  EXPECT_FALSE(Compare(constant, ScaledFrom(constant, 100, 1.009), 300)
                   .first_step()
                   .has_value());
  EXPECT_EQ(
      Compare(constant, ScaledFrom(constant, 100, 1.011), 300).first_step(),
      100);
}

TEST(DivergenceTest, AFewStepsBeyondAreNoDivergence) {
  const auto spiked = [](unsigned seed) {
    return [course = Noisy(seed, 0.01)](int step) {
      Sample sample = course(step);
      if (step % 20 < 4 && step >= 100 && step < 140) sample.value *= 50;
      return sample;
    };
  };
  const Divergence twice_four = Compare(Noisy(1, 0.01), spiked(2), 300);
  EXPECT_FALSE(twice_four.first_step().has_value());
  EXPECT_EQ(twice_four.beyond(), 8u);
  DivergenceOptions options;
  options.in_a_row = 4;
  EXPECT_EQ(Compare(Noisy(1, 0.01), spiked(2), 300, options).first_step(), 100);
}

TEST(DivergenceTest, TheFactorIsThatOfTheNoise) {
  DivergenceOptions wide;
  wide.factor = 1'000;
  EXPECT_FALSE(
      Compare(Noisy(1, 0.1), ScaledFrom(Noisy(2, 0.1), 100, 100), 300, wide)
          .first_step()
          .has_value());
}

TEST(DivergenceTest, WhatHasNoLogarithmIsTold) {
  const auto from = [](int first, Sample sample) {
    return [course = Noisy(1, 0.1), first, sample](int step) {
      const Sample ordinary = course(step);
      return step < first ? ordinary : sample;
    };
  };
  for (const Sample& sample :
       {Of(kNan), Of(std::numeric_limits<double>::infinity()), Of(0), Absent(),
        Sample{1, false, 3}}) {
    const Divergence divergence = Compare(Noisy(1, 0.1), from(40, sample), 100);
    EXPECT_EQ(divergence.first_step(), 40);
    EXPECT_TRUE(divergence.apart());
    EXPECT_EQ(divergence.apart_by_nonfinite(),
              !sample.absent && sample.value != 0);
    // The good run's own, too.
    EXPECT_EQ(Compare(from(40, sample), Noisy(1, 0.1), 100).first_step(), 40);
    // Both alike: nothing.
    const Divergence both = Compare(from(40, sample), from(40, sample), 100);
    EXPECT_FALSE(both.first_step().has_value());
    EXPECT_FALSE(both.apart());
  }
}

TEST(DivergenceTest, ShortRunsAreJudgedByWhatThereIs) {
  // Eight values tell the noise; fewer do not.
  EXPECT_EQ(Compare(Noisy(1, 0.001), ScaledFrom(Noisy(2, 0.001), 2, 50), 8)
                .first_step(),
            2);
  const Divergence seven =
      Compare(Noisy(1, 0.001), ScaledFrom(Noisy(2, 0.001), 2, 50), 7);
  EXPECT_FALSE(seven.first_step().has_value());
  EXPECT_TRUE(std::isnan(seven.noise_log2()));
  EXPECT_NEAR(seven.log2_ratio(), std::log2(50), 0.1);
  // What has no logarithm needs no noise.
  EXPECT_EQ(Compare([](int) { return Of(0); }, [](int) { return Of(5); }, 7)
                .first_step(),
            0);
  EXPECT_FALSE(Compare(Noisy(1, 0.1), Noisy(1, 0.1), 0).first_step());
}

TEST(DivergenceTest, MagnitudesAreComparedNotSigns) {
  const Divergence divergence =
      Compare(Noisy(1, 0.1), ScaledFrom(Noisy(1, 0.1), 50, -1), 300);
  EXPECT_FALSE(divergence.first_step().has_value());
}

}  // namespace
}  // namespace gradtap::server::testing
