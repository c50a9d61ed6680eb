// Training results are the same to the last bit with the agent and without.

#include <gtest/gtest.h>

#include <string>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

class IdenticalTest : public House {
 protected:
  // All tensors after 200 steps of the odd model on two threads.
  std::string Weights(Trainer& trainer) {
    trainer.Step(200);
    const std::string path = dir_.path() + "/weights";
    EXPECT_EQ(trainer.Do("weights " + path).rfind("written ", 0), 0u);
    return ReadFile(path);
  }
  Environment TwoThreads(Environment env = {}) {
    env["OMP_NUM_THREADS"] = "2";
    return env;
  }
  std::string Without() {
    Trainer trainer(address(), "none", "mixed",
                    TwoThreads({{"TRAINER_PLAIN", "1"}}), 11);
    const std::string weights = Weights(trainer);
    EXPECT_EQ(trainer.Quit(), 0);
    return weights;
  }

  TempDir dir_;
};

TEST_F(IdenticalTest, WithACollectorAfter200Steps) {
  const std::string without = Without();
  ASSERT_GT(without.size(), 1000u);
  Trainer& trainer = Start("with", "mixed", TwoThreads(), 11);
  EXPECT_EQ(Weights(trainer), without);
  EXPECT_EQ(trainer.Status().At("recorded"), 200u);
}

TEST_F(IdenticalTest, WithoutACollectorAfter200Steps) {
  Trainer trainer("127.0.0.1:" + std::to_string(FreePort()), "away", "mixed",
                  TwoThreads({{"GRADTAP_SHUTDOWN_MS", "100"}}), 11);
  EXPECT_EQ(Weights(trainer), Without());
  ExpectBooksBalance(trainer.Status());
  EXPECT_EQ(trainer.Quit(), 0);
}

TEST_F(IdenticalTest, DisabledAfter200Steps) {
  Trainer trainer(address(), "off", "mixed",
                  TwoThreads({{"GRADTAP_DISABLED", "1"}}), 11);
  EXPECT_EQ(Weights(trainer), Without());
  EXPECT_EQ(trainer.Quit(), 0);
}

TEST_F(IdenticalTest, AnotherSeedDiffers) {  // The comparison can fail.
  Trainer& trainer = Start("other", "mixed", TwoThreads(), 12);
  EXPECT_NE(Weights(trainer), Without());
}

}  // namespace
}  // namespace gradtap::testing
