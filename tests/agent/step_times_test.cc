#include "agent/step_times.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>

#include "support/manual_clock.h"

namespace gradtap::agent {
namespace {

using std::chrono::microseconds;

std::int64_t cpu_nanos = 0;

class StepTimesTest : public ::testing::Test {
 protected:
  void Call(microseconds plain, microseconds capture, bool ends) {
    times_.BeginCall();
    clock_.Advance(plain);
    if (capture.count() > 0) {
      times_.BeginCapture();
      clock_.Advance(capture);
    }
    if (ends) {
      measured_ = times_.Measure();
      clock_.Advance(tail_);
      cost_ = times_.EndStep();
    }
    times_.EndCall();
  }

  testing::ManualClock clock_;
  StepTimes times_{&clock_, [] { return cpu_nanos; }};
  microseconds tail_{0};
  StepTimes::Measured measured_;
  std::optional<StepCost> cost_;
};

TEST_F(StepTimesTest, OwnTimeIsThatOfCallsAlone) {
  clock_.Advance(microseconds(1000));
  Call(microseconds(3), microseconds(0), false);
  clock_.Advance(microseconds(1000));
  Call(microseconds(4), microseconds(0), false);
  EXPECT_EQ(times_.own(), microseconds(7));
}

TEST_F(StepTimesTest, AStepsCostIsOfItsCallsThatCapture) {
  Call(microseconds(1), microseconds(9), true);
  EXPECT_FALSE(cost_.has_value());  // When it began, nobody knows.
  tail_ = microseconds(6);
  clock_.Advance(microseconds(100));
  Call(microseconds(2), microseconds(10), false);
  clock_.Advance(microseconds(50));
  Call(microseconds(3), microseconds(0), true);
  ASSERT_TRUE(cost_.has_value());
  // A call that captures counts from its start.
  EXPECT_EQ(cost_->capture, microseconds(12));
  EXPECT_EQ(cost_->wall, microseconds(100 + 12 + 50 + 3 + 6));
  EXPECT_EQ(times_.own_last_step(), microseconds(12 + 3 + 6));
  EXPECT_DOUBLE_EQ(times_.overhead(), 21.0 / 171);
}

TEST_F(StepTimesTest, WhatFollowsAMeasureIsInTheNext) {
  tail_ = microseconds(6);
  cpu_nanos = 1'000;
  Call(microseconds(1), microseconds(9), true);
  EXPECT_DOUBLE_EQ(measured_.capture_seconds, 10e-6);
  EXPECT_FALSE(measured_.step_seconds.has_value());
  EXPECT_FALSE(measured_.thread_cpu_seconds.has_value());
  clock_.Advance(microseconds(100));
  cpu_nanos += 70'000;
  Call(microseconds(2), microseconds(0), true);
  EXPECT_DOUBLE_EQ(measured_.capture_seconds, 8e-6);
  EXPECT_DOUBLE_EQ(*measured_.step_seconds, 108e-6);
  EXPECT_DOUBLE_EQ(*measured_.thread_cpu_seconds, 70e-6);
}

TEST_F(StepTimesTest, TheOverheadIsOfTheNewestSteps) {
  EXPECT_TRUE(std::isnan(times_.overhead()));
  for (int i = 0; i < 200; ++i) {
    clock_.Advance(microseconds(i < 100 ? 50 : 150));
    Call(microseconds(50), microseconds(0), true);
    if (i == 99) {
      EXPECT_DOUBLE_EQ(times_.overhead(), 0.5);
    }
  }
  EXPECT_DOUBLE_EQ(times_.overhead(), 0.25);
}

}  // namespace
}  // namespace gradtap::agent
