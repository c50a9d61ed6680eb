// When the sums of a unit are good enough, at the edges that an input reaches
// only with luck.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/kernel_simd_finish.h"

namespace gradtap::kernel {
namespace {

// 64 elements of 1, then zeros and 40 of 100, as lanes of float sum them up
// with a shift of 1: far off for most of them, though not for the mean.
ShiftedSums FarShift() {
  return {.shift = 1,
          .sum = 40 * 99.0 - 3992,
          .squares = 40 * 99.0 * 99 + 3992,
          .abs_sum = 64 + 40 * 100.0,
          .min = 0,
          .max = 100,
          .zero = 3992};
}

TEST(KernelFinishTest, AShiftFarFromMostElementsIsNotTrusted) {
  Moments out;
  EXPECT_FALSE(FinishShifted<float>(FarShift(), 4096, &out));
  // Double has room for it.
  EXPECT_TRUE(FinishShifted<double>(FarShift(), 4096, &out));
  EXPECT_NEAR(out.mean, 4064.0 / 4096, 1e-12);
}

TEST(KernelFinishTest, AShiftThatIsSmallAgainstTheElementsIsTrusted) {
  ShiftedSums sums = FarShift();
  sums.shift = 0.5;
  sums.sum = 40 * 99.5 - 3992 * 0.5 + 64 * 0.5;
  sums.squares = 40 * 99.5 * 99.5 + 4056 * 0.25;
  Moments out;
  EXPECT_TRUE(FinishShifted<float>(sums, 4096, &out));
  EXPECT_NEAR(out.mean, 4064.0 / 4096, 1e-12);
}

TEST(KernelFinishTest, ADeviationThatDrownsInTheMeanIsNotTrusted) {
  // 4,096 elements about 1 with a deviation of 0.7, without a shift.
  ShiftedSums sums{.shift = 0,
                   .sum = 4096,
                   .squares = 4096 * 1.49,
                   .abs_sum = 4096,
                   .min = -2,
                   .max = 3,
                   .zero = 0};
  Moments out;
  EXPECT_FALSE(FinishShifted<float>(sums, 4096, &out));
  sums.squares = 4096 * 3.01;  // A deviation of 1.42.
  EXPECT_TRUE(FinishShifted<float>(sums, 4096, &out));
  EXPECT_NEAR(std::sqrt(out.m2 / 4096), std::sqrt(2.01), 1e-12);
}

TEST(KernelFinishTest, SumsThatAreNotFiniteOrHaveVanishedAreNotTrusted) {
  ShiftedSums sums{.shift = 0,
                   .sum = 0,
                   .squares = 4096 * 0x1p-121,
                   .abs_sum = 4096 * 0x1p-61,
                   .min = -0x1p-60,
                   .max = 0x1p-60,
                   .zero = 0};
  Moments out;
  EXPECT_FALSE(FinishShifted<float>(sums, 4096, &out));
  sums.squares = 4096 * 0x1p-119;
  EXPECT_TRUE(FinishShifted<float>(sums, 4096, &out));
  sums.squares = std::numeric_limits<double>::infinity();
  EXPECT_FALSE(FinishShifted<float>(sums, 4096, &out));
  sums.squares = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(FinishShifted<float>(sums, 4096, &out));
}

}  // namespace
}  // namespace gradtap::kernel
