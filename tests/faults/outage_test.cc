// Several agents whose collector is away for a while: how often they dial, and
// that all of them catch up.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "faults/counting_listener.h"
#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using SteadyClock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

// What agents promise (agent/delivery/README.md): the delay before the k-th try
// in a row, from 0 on, is uniform in [0, c_k], c_k = min(30 s, 0.5 s * 2^k).
constexpr double kFirstCeiling = 0.5, kLastCeiling = 30;

// How often `agents` agents dial within `time` from the end of their streams
// on: more than that with a probability below 1e-6.
//
// One dials n times only if its first n delays add up to at most `time`, which
// has the probability
//   p_n <= time^n / (n! c_0 ... c_(n-1)),
// the volume of that simplex over the volume of the box. Agents are
// independent; so by Chernoff's bound, for every s > 0, the probability of m
// dials of all of them is at most
//   e^(-s m) (1 + sum over n >= 1 of (e^(s n) - e^(s (n-1))) p_n)^agents.
double MostDials(int agents, Seconds time) {
  double most = INFINITY;
  for (double s = 0.05; s < 3; s += 0.05) {
    double ceiling = kFirstCeiling;
    double p = 1, mean = 1;
    for (int n = 1; n <= 200; ++n) {
      p *= time.count() / (n * ceiling);
      mean += std::exp(s * n) * (1 - std::exp(-s)) * std::min(1.0, p);
      ceiling = std::min(2 * ceiling, kLastCeiling);
    }
    most = std::min(most, (agents * std::log(mean) + std::log(1e6)) / s);
  }
  return most;
}

class OutageTest : public ::testing::Test {
 protected:
  void StartFeeds(int agents) {
    for (int rank = 0; rank < agents; ++rank) {
      feeds_.push_back(
          std::make_unique<Feed>(std::map<std::string, std::string>{
              {"collector", collector_->address()},
              {"run", "fleet"},
              {"launch", "one"},
              {"rank", std::to_string(rank)},
              {"world", std::to_string(agents)},
              {"pace_us", "10000"},
              {"ring_bytes", "1048576"},
              {"spool", dir_.path() + "/spool"},
              {"ring", shared_memory_.path() + "/rings"}}));
    }
  }

  // Until all that each feed had put by now, and a step at least, is
  // acknowledged.
  void AwaitCaughtUp() {
    const auto give_up = SteadyClock::now() + seconds(180);
    for (auto& feed : feeds_) {
      const std::uint64_t goal =
          std::max<std::uint64_t>(1, feed->Status().seen);
      while (feed->Status().acknowledged < goal) {
        ASSERT_LT(SteadyClock::now(), give_up) << feed->process().Errors();
        std::this_thread::sleep_for(milliseconds(5));
      }
    }
  }

  static void Print(const std::vector<SteadyClock::time_point>& came,
                    SteadyClock::time_point since,
                    SteadyClock::time_point end) {
    std::vector<int> by_second(
        static_cast<std::size_t>(Seconds(end - since).count()) + 1);
    for (const auto at : came) {
      ++by_second[static_cast<std::size_t>(Seconds(at - since).count())];
    }
    std::cout << "attempts by second:";
    for (const int count : by_second) std::cout << ' ' << count;
    std::cout << "\nat most "
              << *std::max_element(by_second.begin(), by_second.end())
              << " a second, on average "
              << static_cast<double>(came.size()) / Seconds(end - since).count()
              << '\n';
  }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
  std::unique_ptr<Collector> collector_ =
      std::make_unique<Collector>(dir_.path() + "/data", FreePort());
  std::vector<std::unique_ptr<Feed>> feeds_;
};

TEST_F(OutageTest, AgentsDialSeldomMeanwhileAndAllCatchUpAfterwards) {
  const int agents = ShortOrLong(12, 24);
  StartFeeds(agents);
  ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
  const int port = collector_->port();
  const auto begun = SteadyClock::now();
  EXPECT_EQ(collector_->Terminate(), 0);
  CountingListener listener(port);
  std::this_thread::sleep_until(begun + seconds(ShortOrLong(10, 120)));
  const std::vector<SteadyClock::time_point> came = listener.Stop();
  const auto back = SteadyClock::now();
  const double most = MostDials(agents, back - begun);
  std::cout << agents << " agents, " << Seconds(back - begun).count()
            << " s without a collector: " << came.size()
            << " attempts, of at most " << std::floor(most) << '\n';
  Print(came, begun, back);
  EXPECT_FALSE(came.empty());
  EXPECT_LE(static_cast<double>(came.size()), most);

  collector_ = std::make_unique<Collector>(dir_.path() + "/data", port);
  ASSERT_NE(collector_->address(), "");
  ASSERT_NO_FATAL_FAILURE(AwaitCaughtUp());
  std::cout << "all caught up " << Seconds(SteadyClock::now() - back).count()
            << " s after the end\n";
  for (int rank = 0; rank < agents; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    const FeedCounts end = feeds_[rank]->End();
    EXPECT_EQ(end.lost, 0u);
    EXPECT_EQ(end.recorded, end.seen);
    EXPECT_EQ(end.acknowledged, end.seen);
    EXPECT_EQ(CheckSteps(collector_->address(), "fleet", rank), end.seen);
  }
}

}  // namespace
}  // namespace gradtap::testing
