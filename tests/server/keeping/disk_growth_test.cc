#include "server/keeping/disk_growth.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>

namespace gradtap::server {
namespace {

using std::chrono::minutes;

constexpr std::uint64_t kMiB = 1U << 20;

class DiskGrowthTest : public ::testing::Test {
 protected:
  void At(int minute, std::uint64_t used, std::uint64_t removed = 0) {
    growth_.Add(DiskGrowth::Time(minutes(minute)), used, removed);
  }
  DiskGrowth growth_;
};

TEST_F(DiskGrowthTest, IsNotKnownAtFirst) {
  EXPECT_TRUE(std::isnan(growth_.BytesPerDay()));
  At(0, 5 * kMiB);
  EXPECT_TRUE(std::isnan(growth_.BytesPerDay()));
  At(9, 6 * kMiB);
  EXPECT_TRUE(std::isnan(growth_.BytesPerDay()));
  At(10, 7 * kMiB);
  EXPECT_DOUBLE_EQ(growth_.BytesPerDay(), 2.0 * kMiB * 24 * 6);
}

TEST_F(DiskGrowthTest, IsThatOfTheLastHour) {
  for (int minute = 0; minute <= 300; ++minute) {
    // A MiB a minute, and two of them for the last hour.
    At(minute,
       kMiB * static_cast<std::uint64_t>(minute + std::max(0, minute - 240)));
  }
  EXPECT_DOUBLE_EQ(growth_.BytesPerDay(), 2.0 * kMiB * 60 * 24);
}

TEST_F(DiskGrowthTest, WhatWasRemovedIsNoShrinking) {
  At(0, 500 * kMiB, 0);
  At(30, 120 * kMiB, 400 * kMiB);
  EXPECT_DOUBLE_EQ(growth_.BytesPerDay(), 20.0 * kMiB * 48);
}

TEST(DaysUntilFullTest, CountsToTheReserve) {
  EXPECT_DOUBLE_EQ(DaysUntilFull(100, 20, 40), 2);
  EXPECT_DOUBLE_EQ(DaysUntilFull(20, 20, 40), 0);
  EXPECT_DOUBLE_EQ(DaysUntilFull(10, 20, -1), 0);
  EXPECT_TRUE(std::isinf(DaysUntilFull(100, 20, 0)));
  EXPECT_TRUE(std::isinf(DaysUntilFull(100, 20, -5)));
  EXPECT_TRUE(std::isnan(
      DaysUntilFull(100, 20, std::numeric_limits<double>::quiet_NaN())));
}

}  // namespace
}  // namespace gradtap::server
