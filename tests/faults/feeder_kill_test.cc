// A process that records and is killed, again and again; what it leaves is
// drained.

#include <gtest/gtest.h>
#include <signal.h>

#include <iostream>
#include <random>
#include <string>

#include "faults/feed.h"
#include "faults/leftovers.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

TEST(FeederKillTest, EveryStepThatWasPutIsStoredOnceItIsDrained) {
  TempDir dir;
  TempDir shared_memory{"/dev/shm"};
  Collector collector(dir.path() + "/data");
  const std::string nobody = "127.0.0.1:" + std::to_string(FreePort());
  const std::string spool = dir.path() + "/spool";
  const std::string rings = shared_memory.path() + "/rings";
  const int kills = ShortOrLong(10, 200);
  std::mt19937 random(7);
  std::uint64_t steps = 0;
  for (int kill = 0; kill < kills && !::testing::Test::HasFailure(); ++kill) {
    SCOPED_TRACE("kill " + std::to_string(kill));
    const std::string run = "killed-" + std::to_string(kill);
    // With a collector, and with none, when the ring spills into the spool:
    // from 1,900 steps on. It thins them from 3,900 on, a second after the last
    // kill.
    Feed feed({{"collector", kill % 2 == 0 ? collector.address() : nobody},
               {"run", run},
               {"launch", "one"},
               {"pace_us", "1000"},
               {"ring_bytes", "2097152"},
               {"spool", spool},
               {"ring", rings}});
    const std::uint64_t until = 1 + random() % 3000;
    FeedCounts counts;
    do {
      counts = feed.Status();
    } while (counts.seen < until && !::testing::Test::HasFailure());
    feed.process().Signal(SIGKILL);
    ASSERT_EQ(feed.process().Wait().value_or(Exit()).code, -SIGKILL);
    Drain(collector.address(), spool, rings);
    const std::uint64_t stored = CheckSteps(collector.address(), run, 0);
    EXPECT_GE(stored, counts.seen);
    steps += stored;
    ExpectNothingLeft(spool, rings);
  }
  std::cout << kills << " kills, " << steps << " steps\n";
}

}  // namespace
}  // namespace gradtap::testing
