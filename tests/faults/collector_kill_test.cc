// A real collector that is killed again and again while two agents stream.

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>

#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

class CollectorKillTest : public ::testing::Test {
 protected:
  CollectorKillTest() { collector_ = Start(FreePort()); }

  std::unique_ptr<Collector> Start(int port) {
    return std::make_unique<Collector>(dir_.path() + "/data", port);
  }
  std::unique_ptr<Feed> StartFeed(int rank) {
    return std::make_unique<Feed>(
        std::map<std::string, std::string>{{"collector", collector_->address()},
                                           {"run", "stormy"},
                                           {"launch", "one"},
                                           {"rank", std::to_string(rank)},
                                           {"world", "2"},
                                           {"pace_us", "500"},
                                           {"ring_bytes", "67108864"}});
  }
  // Until the feeder's acknowledgements go on: it is connected again.
  static bool AwaitProgress(Feed* feed, std::uint64_t beyond) {
    const auto give_up = SteadyClock::now() + std::chrono::seconds(60);
    while (feed->Status().acknowledged <= beyond) {
      if (SteadyClock::now() > give_up) return false;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return true;
  }

  TempDir dir_;
  std::unique_ptr<Collector> collector_;
};

TEST_F(CollectorKillTest, NothingAcknowledgedIsLostAndNothingIsThereTwice) {
  const int kills = ShortOrLong(12, 500);
  std::unique_ptr<Feed> feeds[2] = {StartFeed(0), StartFeed(1)};
  std::mt19937 random(5);
  std::uint64_t acknowledged[2] = {};
  // There is no rank before its first step.
  for (const auto& feed : feeds) ASSERT_TRUE(AwaitProgress(feed.get(), 0));
  for (int kill = 0; kill < kills && !HasFailure(); ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    ASSERT_TRUE(AwaitProgress(feeds[kill % 2].get(), acknowledged[kill % 2]));
    // Anywhere in a commit.
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    for (int rank = 0; rank < 2; ++rank) {
      acknowledged[rank] = feeds[rank]->Status().acknowledged;
    }
    const int port = collector_->port();
    collector_->Kill();
    collector_ = Start(port);
    ASSERT_NE(collector_->address(), "");
    // Looked at often at first; all of it takes longer each time.
    if (kill % 10 != 0) continue;
    for (int rank = 0; rank < 2; ++rank) {
      EXPECT_GE(CheckSteps(collector_->address(), "stormy", rank),
                acknowledged[rank]);
    }
  }
  for (int rank = 0; rank < 2; ++rank) {
    const FeedCounts end = feeds[rank]->End();
    EXPECT_EQ(end.lost, 0u);
    EXPECT_EQ(end.acknowledged, end.seen);
    EXPECT_EQ(CheckSteps(collector_->address(), "stormy", rank), end.seen);
    std::cout << "rank " << rank << ": " << end.seen << " steps, " << kills
              << " kills\n";
  }
  EXPECT_EQ(collector_->Terminate(), 0);
}

}  // namespace
}  // namespace gradtap::testing
