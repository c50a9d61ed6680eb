// How the examples' progress looks.

#include "examples/common/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gradtap::testing {
namespace {

using ::testing::StartsWith;

examples::ProgressLine SomeLine() {
  examples::ProgressLine line;
  line.step = 50;
  line.steps = 200;
  line.loss = 1.25;
  line.accuracy = 0.5;
  line.step_ms = 20;
  line.agent_us = 100;
  return line;
}

TEST(ProgressTest, AWideTerminalShowsABarAndAllFigures) {
  EXPECT_EQ(examples::TerminalLine(SomeLine(), 100),
            "[#####...............] step 50/200  loss 1.2500  acc 50.0%  "
            "20.0 ms/step  agent 100 us (0.50%)");
}

TEST(ProgressTest, EveryWidthFits) {
  for (int width = 0; width < 120; ++width) {
    EXPECT_LE(examples::TerminalLine(SomeLine(), width).size(),
              static_cast<std::size_t>(width));
  }
  EXPECT_THAT(examples::TerminalLine(SomeLine(), 30),
              StartsWith("step 50/200"));
}

TEST(ProgressTest, APlainLineHasAllFigures) {
  EXPECT_EQ(examples::PlainLine(SomeLine()),
            "step 50/200  loss 1.2500  acc 50.0%  20.0 ms/step  agent 100 us "
            "(0.50%)");
}

TEST(ProgressTest, WithoutAPlanOrAStepTimeThereIsNoBarAndNoNonsense) {
  examples::ProgressLine line;
  line.step = 3;
  EXPECT_EQ(examples::TerminalLine(line, 100),
            "step 3  loss 0.0000  0.0 ms/step  agent 0 us (0.00%)");
}

}  // namespace
}  // namespace gradtap::testing
