// How training programs end, and what a forked one does not do. GRADTAP_SOAK=1
// runs the long form.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <string>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class EndsTest : public House {
 protected:
  // Series of the loss: how many steps of a run are stored.
  std::size_t StoredSteps(const std::string& run) {
    return AskCsv({"series", run, "--stat", "scalar.loss"}).rows();
  }
  // In the middle of training; returns how the trainer ended.
  Exit Terminate(Trainer& trainer) {
    trainer.Step(30);
    EXPECT_TRUE(trainer.Flush());
    trainer.Send("step 1000000");
    trainer.process().Signal(SIGTERM);
    const auto exit = trainer.process().Wait();
    EXPECT_TRUE(exit.has_value());
    return exit.value_or(Exit());
  }
};

TEST_F(EndsTest, SigtermStopsTheRunAndLosesNoStep) {
  Trainer& trainer = Start("stopped", "tiny", {{"GRADTAP_SIGTERM", "1"}});
  const Exit exit = Terminate(trainer);
  EXPECT_EQ(exit.code, -SIGTERM);
  Abandon(trainer);
  Forget("stopped");
  ASSERT_TRUE(WaitForState(address(), "stopped", "STOPPED"));
  EXPECT_THAT(AskText({"runs", "--state", "stopped"}), HasSubstr("stopped"));
  const RunRow row = FindRun(address(), "stopped");
  EXPECT_GE(row.stored_steps, 30u);
  EXPECT_EQ(row.lost_steps, 0u);
  EXPECT_EQ(StoredSteps("stopped"), row.stored_steps);
  EXPECT_EQ(row.last_step + 1, static_cast<std::int64_t>(row.stored_steps));
}

TEST_F(EndsTest, SigtermIsLeftAloneUnlessItIsAskedFor) {
  Trainer& trainer = Start("killed");
  const Exit exit = Terminate(trainer);
  EXPECT_EQ(exit.code, -SIGTERM);
  Abandon(trainer);
  Forget("killed");
  EXPECT_EQ(FindRun(address(), "killed").state, "RUNNING");  // Till it is LOST.
}

TEST_F(EndsTest, ForkedChildrenAreInert) {
  const int rounds = std::getenv("GRADTAP_SOAK") != nullptr ? 25 : 1;
  // In one thread. A child that calls exit() does not wait ten seconds for a
  // thread of LibTorch 2.14 that it has not got.
  Trainer& trainer =
      Start("forks", "tiny", {{"TORCH_AUTOGRAD_SHUTDOWN_WAIT_LIMIT", "0"}});
  std::uint64_t forks = 0;
  const auto fork = [&] {
    for (int i = 0; i < rounds; ++i) {
      forks += 10;
      ASSERT_EQ(trainer.Do("forks 10"),
                "forked " + std::to_string(forks) + " 10 0");
    }
  };
  fork();
  const std::string pool = trainer.Do("openmp");
  EXPECT_THAT(pool, StartsWith("threads 1 "));
  EXPECT_THAT(pool, Not(EndsWith(" 1")));
  fork();
  ASSERT_TRUE(trainer.Flush());
  const RunRow row = FindRun(address(), "forks");
  EXPECT_EQ(row.stored_steps, forks);
  EXPECT_EQ(row.lost_steps, 0u);
  EXPECT_EQ(StoredSteps("forks"), row.stored_steps);
  End(trainer);
}

TEST_F(EndsTest, AJobThatForgetsToSayWhereItGoesOnIsToldOnce) {
  Trainer& first = Start("again");
  first.Step(10);
  End(first);
  Trainer& second = Start("again", "tiny", {}, 2);
  second.Step(2);
  ASSERT_TRUE(second.Flush());
  second.Step(3);
  const TrainerStatus status = second.Status();
  ASSERT_EQ(status.problems.size(), 1u);
  EXPECT_TRUE(status.Says("run again has steps up to 9"));
  EXPECT_TRUE(status.Says("SetStep(n)"));
  Trainer& third = Start("again", "tiny", {}, 3);
  third.Do("setstep 5");
  third.Step(2);
  ASSERT_TRUE(third.Flush());
  third.Step(1);
  EXPECT_TRUE(third.Status().problems.empty());
}

}  // namespace
}  // namespace gradtap::testing
