#include "agent/capture/device_timer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>

#include "agent/capture/fake_timing.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::FakeDevice;
using ::gradtap::testing::FakeTimingEvents;
using std::chrono::microseconds;

class DeviceTimerTest : public ::testing::Test {
 protected:
  // The device works for us, and then for the loop.
  void Work(microseconds ours) {
    timer_->Begin();
    device_.now += ours;
    timer_->End();
    device_.now += microseconds(1000);
  }
  // No event is left behind.
  void TearDown() override {
    timer_ = nullptr;
    EXPECT_EQ(device_.events, 0);
  }

  FakeDevice device_;
  std::unique_ptr<DeviceTimer> timer_ = std::make_unique<DeviceTimer>(
      std::make_unique<FakeTimingEvents>(&device_));
};

TEST_F(DeviceTimerTest, WhatIsBetweenBeginAndEndAddsUpAndIsSaidOnce) {
  EXPECT_EQ(timer_->Take(), microseconds(0));
  Work(microseconds(5));
  Work(microseconds(7));
  EXPECT_EQ(timer_->Take(), microseconds(12));
  EXPECT_EQ(timer_->Take(), microseconds(0));
  Work(microseconds(2));
  EXPECT_EQ(timer_->Take(), microseconds(2));
}

TEST_F(DeviceTimerTest, EventsAreUsedAgain) {
  for (int i = 0; i < 1000; ++i) {
    Work(microseconds(1));
    Work(microseconds(2));
    EXPECT_EQ(timer_->Take(), microseconds(3));
  }
  EXPECT_EQ(device_.events, 4);
}

TEST_F(DeviceTimerTest, WorkThatIsNotDoneYetIsSaidLater) {
  Work(microseconds(5));
  device_.done = device_.now;
  Work(microseconds(7));
  Work(microseconds(9));
  EXPECT_EQ(timer_->Take(), microseconds(5));
  EXPECT_EQ(timer_->Take(), microseconds(0));
  Work(microseconds(11));
  device_.done = device_.now - microseconds(1000);
  EXPECT_EQ(timer_->Take(), microseconds(7 + 9 + 11));
  EXPECT_EQ(device_.events, 6);
}

TEST_F(DeviceTimerTest, WhatNobodyAsksForHasABound) {
  for (std::size_t i = 0; i < 3 * DeviceTimer::kMaxPairs; ++i) {
    Work(microseconds(1));
  }
  EXPECT_EQ(timer_->Take(), microseconds(DeviceTimer::kMaxPairs));
  Work(microseconds(1));
  EXPECT_EQ(timer_->Take(), microseconds(1));
}

TEST_F(DeviceTimerTest, PairsThatDoNotMatchMeasureNothing) {
  timer_->End();
  timer_->Begin();
  device_.now += microseconds(3);
  timer_->Begin();
  device_.now += microseconds(4);
  timer_->End();
  timer_->End();
  EXPECT_EQ(timer_->Take(), microseconds(7));
  timer_->Begin();
  device_.now += microseconds(5);
  timer_->Drop();
  timer_->End();
  EXPECT_EQ(timer_->Take(), microseconds(0));
  Work(microseconds(6));
  EXPECT_EQ(timer_->Take(), microseconds(6));
}

TEST_F(DeviceTimerTest, AfterAnErrorNothingIsMeasuredNorAsked) {
  const auto expect_silence = [&] {
    EXPECT_EQ(device_.events, 0);
    device_ = FakeDevice();
    Work(microseconds(5));
    EXPECT_EQ(timer_->Take(), microseconds(0));
    EXPECT_EQ(device_.recorded, 0);
    timer_ = std::make_unique<DeviceTimer>(
        std::make_unique<FakeTimingEvents>(&device_));
  };
  Work(microseconds(5));
  device_.broken = true;
  EXPECT_EQ(timer_->Take(), microseconds(0));
  expect_silence();
  Work(microseconds(5));
  device_.records = false;
  timer_->Begin();
  expect_silence();
  timer_->Begin();
  device_.records = false;
  timer_->End();
  expect_silence();
  for (const int most : {0, 1, 2, 3}) {
    device_.most_events = most;
    Work(microseconds(5));
    Work(microseconds(5));
    EXPECT_EQ(timer_->Take(), microseconds(0)) << most;
    expect_silence();
  }
}

TEST_F(DeviceTimerTest, WithoutEventsThereIsNoTime) {
  DeviceTimer timer(TimingEventsOf(c10::Device(c10::kCPU)));
  timer.Begin();
  timer.End();
  timer.Drop();
  EXPECT_EQ(timer.Take(), microseconds(0));
}

}  // namespace
}  // namespace gradtap::agent
