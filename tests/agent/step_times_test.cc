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

TEST_F(StepTimesTest, WaitingIsNobodysWork) {
  Call(microseconds(1), microseconds(0), true);
  times_.BeginCall();
  clock_.Advance(microseconds(2));
  times_.BeginCapture();
  clock_.Advance(microseconds(3));
  times_.BeginWait();
  clock_.Advance(microseconds(500));
  times_.EndWait();
  clock_.Advance(microseconds(4));
  times_.EndCall();
  times_.BeginCall();
  times_.BeginWait();
  clock_.Advance(microseconds(70));
  times_.EndWait();
  times_.BeginCapture();
  clock_.Advance(microseconds(6));
  measured_ = times_.Measure();
  cost_ = times_.EndStep();
  times_.EndCall();
  times_.BeginWait();  // Outside of any call.
  clock_.Advance(microseconds(90));
  times_.EndWait();
  EXPECT_EQ(times_.own(), microseconds(1 + 9 + 6));
  EXPECT_EQ(times_.own_last_step(), microseconds(9 + 6));
  EXPECT_DOUBLE_EQ(measured_.capture_seconds, 15e-6);
  EXPECT_DOUBLE_EQ(*measured_.step_seconds, 585e-6);
  ASSERT_TRUE(cost_.has_value());
  EXPECT_EQ(cost_->capture, microseconds(9 + 6));
  EXPECT_EQ(cost_->wall, microseconds(9 + 500 + 70 + 6));
  Call(microseconds(5), microseconds(0), true);
  EXPECT_EQ(times_.own_last_step(), microseconds(5));
}

TEST_F(StepTimesTest, ADevicesTimeCountsWhereItIsTheLarger) {
  Call(microseconds(1), microseconds(0), true);
  for (int i = 0; i < 64; ++i) {
    clock_.Advance(microseconds(80));
    times_.NoteDeviceTime(microseconds(20));
    times_.NoteDeviceTime(microseconds(5));
    Call(microseconds(20), microseconds(0), true);
    ASSERT_TRUE(cost_.has_value());
    EXPECT_EQ(cost_->device, microseconds(25));
  }
  EXPECT_DOUBLE_EQ(times_.overhead(), 0.25);
  EXPECT_EQ(times_.own_last_step(), microseconds(20));
  for (int i = 0; i < 64; ++i) {
    clock_.Advance(microseconds(80));
    times_.NoteDeviceTime(microseconds(10));
    Call(microseconds(20), microseconds(0), true);
  }
  EXPECT_DOUBLE_EQ(times_.overhead(), 0.2);
}

}  // namespace
}  // namespace gradtap::agent
