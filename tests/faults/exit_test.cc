// Programs that exit while nobody takes their records.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "faults/black_hole.h"
#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::uint64_t kSteps = 200;

class ExitTest : public ::testing::Test {
 protected:
  // How long a feeder's exit takes; in milliseconds.
  double Exit(const std::string& run, const std::string& collector,
              const std::string& spool, const std::string& ring) {
    Feed feed({{"collector", collector},
               {"run", run},
               {"launch", "one"},
               {"steps", std::to_string(kSteps)},
               {"pace_us", "200"},
               {"spool", spool},
               {"ring", ring}});
    while (feed.Status().seen < kSteps && !HasFailure()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const auto begun = SteadyClock::now();
    feed.process().CloseInput();
    EXPECT_EQ(feed.process().Wait().value_or(testing::Exit()).code, 0);
    return std::chrono::duration<double, std::milli>(SteadyClock::now() - begun)
        .count();
  }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
};

TEST_F(ExitTest, IntoABlackHoleTheExitCodeStaysAndSpoolOrRingHaveTheRest) {
  const BlackHole hole;
  const std::string nobody = "127.0.0.1:" + std::to_string(FreePort());
  const std::string spool = dir_.path() + "/spool";
  const std::string rings = shared_memory_.path() + "/rings";
  const int exits = ShortOrLong(4, 100);
  std::vector<double> took;
  for (int i = 0; i < exits && !HasFailure(); ++i) {
    const bool spooled = i % 2 == 0;
    took.push_back(Exit("exit-" + std::to_string(i),
                        i % 4 < 2 ? hole.address() : nobody,
                        spooled ? spool : "", rings));
  }
  std::sort(took.begin(), took.end());
  std::cout << "exits: median " << took[took.size() / 2] << " ms, longest "
            << took.back() << " ms\n";
  Collector collector(dir_.path() + "/data");
  const Outcome drained = RunProgram(
      GradtapCommand(collector.address(), {"drain", "--any-collector"}),
      {{"GRADTAP_SPOOL", spool}, {"GRADTAP_RING_FOLDER", rings}},
      std::chrono::seconds(120));
  EXPECT_EQ(drained.exit.code, 0) << drained.err;
  for (int i = 0; i < exits; ++i) {
    const std::string run = "exit-" + std::to_string(i);
    EXPECT_EQ(CheckSteps(collector.address(), run, 0), kSteps) << run;
    EXPECT_EQ(FindRun(collector.address(), run).state, "FINISHED") << run;
  }
}

}  // namespace
}  // namespace gradtap::testing
