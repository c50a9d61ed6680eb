#include "core/clock.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

#include "core/sync.h"

namespace gradtap {
namespace {

TEST(RealClockTest, TellsTheMachinesTime) {
  const auto before = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t now = RealClock().UnixNanos();
  const auto after = std::chrono::system_clock::now().time_since_epoch();
  EXPECT_GE(now, std::chrono::nanoseconds(before).count());
  EXPECT_LE(now, std::chrono::nanoseconds(after).count());
  const auto steady = RealClock().Steady();
  EXPECT_LE(steady, std::chrono::steady_clock::now());
  EXPECT_LE(steady, RealClock().Steady());
}

TEST(SyncTest, ConditionWakesTheWaiterThatHoldsTheLock) {
  Mutex mu;
  CondVar ready;
  int value = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      MutexLock lock(mu);
      ++value;
      ready.NotifyAll();
    });
  }
  {
    MutexLock lock(mu);
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (value < 4 && ready.WaitUntil(mu, deadline)) {
    }
    EXPECT_EQ(value, 4);
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SyncTest, APassedDeadlineEndsTheWait) {
  Mutex mu;
  CondVar never;
  MutexLock lock(mu);
  EXPECT_FALSE(
      never.WaitUntil(mu, std::chrono::steady_clock::time_point::min()));
}

}  // namespace
}  // namespace gradtap
