// The examples of loops that are not plain: what they train, and what of it the
// collector has.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LoopsExamplesTest : public House {
 protected:
  Outcome Run(const std::string& program, const std::string& run, int steps,
              const std::vector<std::string>& more = {}) {
    std::vector<std::string> command = {program, "--steps",
                                        std::to_string(steps), "--quiet"};
    command.insert(command.end(), more.begin(), more.end());
    return RunProgram(
        command,
        Patient({{"GRADTAP_COLLECTOR", address()}, {"GRADTAP_RUN", run}}),
        std::chrono::seconds(240));
  }
  // Steps at which `stat` of `name` has a value.
  std::set<std::string> StepsOf(const std::string& run,
                                const std::string& stat) {
    std::set<std::string> steps;
    const Csv csv = AskCsv({"series", run, "--stat", stat});
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      if (!csv.At(row, "value").empty()) steps.insert(csv.At(row, "step"));
    }
    return steps;
  }
};

TEST_F(LoopsExamplesTest, TheGanLearnsAndBothOptimizersGradientsAreThere) {
  const Outcome outcome = Run(GAN_PATH, "gan", 600);
  ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(WithoutNotes(outcome.err), "");
  double first = 0;
  double last = 0;
  const std::size_t at = outcome.out.find("distance to the target");
  ASSERT_NE(at, std::string::npos) << outcome.out;
  ASSERT_EQ(std::sscanf(outcome.out.c_str() + at,
                        "distance to the target %lf at first, %lf now", &first,
                        &last),
            2);
  EXPECT_LT(last, first / 2);
  EXPECT_TRUE(WaitForState(address(), "gan", "FINISHED"));
  EXPECT_EQ(FindRun(address(), "gan").stored_steps, 600u);
  const Csv csv = AskCsv({"series", "gan", "--stat", "grad.l2", "--steps",
                          "500:501", "--match", "0.weight"});
  std::set<std::string> names;
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    names.insert(csv.At(row, "param"));
    EXPECT_NE(csv.At(row, "value"), "");
  }
  EXPECT_THAT(names, ElementsAre("D.0.weight", "G.0.weight"));
}

TEST_F(LoopsExamplesTest, StepsThatTheLossScalerSkipsAreSkippedAndNoAlarm) {
  const Outcome outcome = Run(AMP_PATH, "amp", 60);
  ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(WithoutNotes(outcome.err), "");
  long long skipped = 0;
  const std::size_t at =
      outcome.out.rfind("\n", outcome.out.find(" steps skip"));
  ASSERT_NE(at, std::string::npos) << outcome.out;
  ASSERT_EQ(std::sscanf(outcome.out.c_str() + at, " %lld", &skipped), 1);
  EXPECT_GT(skipped, 2);
  EXPECT_LT(skipped, 30);
  EXPECT_TRUE(WaitForState(address(), "amp", "FINISHED"));
  const RunRow row = FindRun(address(), "amp");
  EXPECT_EQ(row.skipped_steps, static_cast<std::uint64_t>(skipped));
  EXPECT_EQ(row.stored_steps, 60u - static_cast<std::uint64_t>(skipped));
  EXPECT_EQ(row.lost_steps, 0u);
  EXPECT_THAT(AskText({"gaps", "amp"}), HasSubstr("a gradient overflowed"));
  // Every step has its scale; of those that were skipped nothing else is left.
  EXPECT_EQ(StepsOf("amp", "scalar.loss_scale").size(), 60u);
  const Csv infinite = AskCsv({"series", "amp", "--stat", "grad.nonfinite"});
  EXPECT_GT(infinite.rows(), 0u);
  for (std::size_t i = 0; i < infinite.rows(); ++i) {
    EXPECT_THAT(infinite.At(i, "value"), ::testing::AnyOf("", "0"));
  }
  // Unscaled: with a scale of 2^15 and more, gradients are as small as ever.
  const Csv l2 = AskCsv({"series", "amp", "--stat", "grad.l2"});
  for (std::size_t i = 0; i < l2.rows(); ++i) {
    const std::string& value = l2.At(i, "value");
    if (!value.empty()) {
      EXPECT_LT(Number(value), 10);
    }
  }
}

TEST_F(LoopsExamplesTest, ABatchInPiecesHasTheGradientOfTheWhole) {
  ASSERT_EQ(Run(ACCUMULATE_PATH, "whole", 1, {"--pieces", "1"}).exit.code, 0);
  ASSERT_EQ(Run(ACCUMULATE_PATH, "pieces", 1, {"--pieces", "8"}).exit.code, 0);
  EXPECT_TRUE(WaitForState(address(), "whole", "FINISHED"));
  EXPECT_TRUE(WaitForState(address(), "pieces", "FINISHED"));
  EXPECT_EQ(FindRun(address(), "pieces").stored_steps, 1u);
  const Csv whole = AskCsv({"series", "whole", "--stat", "grad.l2"});
  const Csv pieces = AskCsv({"series", "pieces", "--stat", "grad.l2"});
  ASSERT_EQ(whole.rows(), 6u);
  ASSERT_EQ(pieces.rows(), 6u);
  for (std::size_t row = 0; row < whole.rows(); ++row) {
    EXPECT_EQ(pieces.At(row, "param"), whole.At(row, "param"));
    const double expected = Number(whole.At(row, "value"));
    EXPECT_GT(expected, 0);
    EXPECT_NEAR(Number(pieces.At(row, "value")), expected, 1e-4 * expected);
  }
}

TEST_F(LoopsExamplesTest, WhatIsRecordedIsTheClippedGradient) {
  const Outcome outcome = Run(ACCUMULATE_PATH, "clipped", 200);
  ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(WithoutNotes(outcome.err), "");
  double first = 0;
  double last = 0;
  const std::size_t at = outcome.out.find("test loss");
  ASSERT_NE(at, std::string::npos) << outcome.out;
  ASSERT_EQ(std::sscanf(outcome.out.c_str() + at,
                        "test loss %lf at first, %lf now", &first, &last),
            2);
  EXPECT_LT(last, first / 2);
  EXPECT_TRUE(WaitForState(address(), "clipped", "FINISHED"));
  const Csv all =
      AskCsv({"series", "clipped", "--stat", "grad.l2", "--merge", "."});
  const Csv before =
      AskCsv({"series", "clipped", "--stat", "scalar.grad_norm"});
  ASSERT_EQ(all.rows(), 200u);
  ASSERT_EQ(before.rows(), 200u);
  int clipped = 0;
  for (std::size_t row = 0; row < all.rows(); ++row) {
    const double norm = Number(before.At(row, "value"));
    clipped += norm > 1 ? 1 : 0;
    EXPECT_NEAR(Number(all.At(row, "value")), std::min(norm, 1.0), 1e-4);
  }
  EXPECT_GT(clipped, 0);
}

}  // namespace
}  // namespace gradtap::testing
