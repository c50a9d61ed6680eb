// Loops that are not plain, and what the agent may be asked for: closures,
// accumulated and scaled gradients, histograms, audits, budgets.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LoopsTest : public House {
 protected:
  // What is not absent, by step.
  std::map<std::int64_t, std::string> Series(const std::string& run,
                                             const std::string& statistic,
                                             const std::string& match = "") {
    std::vector<std::string> args = {"series", run, "--stat", statistic};
    if (!match.empty()) args.insert(args.end(), {"--match", match});
    std::map<std::int64_t, std::string> values;
    const Csv csv = AskCsv(args);
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      const std::string& value = csv.At(row, "value");
      if (!value.empty()) values[std::stoll(csv.At(row, "step"))] = value;
    }
    return values;
  }
  static std::vector<double> Numbers(const std::string& answer) {
    std::istringstream in(answer);
    std::string word;
    in >> word;
    EXPECT_EQ(word, "stepped");
    std::vector<double> numbers;
    while (in >> word) numbers.push_back(std::stod(word));
    return numbers;
  }

  TempDir dir_;
};

TEST_F(LoopsTest, AClosuresGradientsAreThoseOfItsFirstEvaluation) {
  Trainer& trainer = Start("lbfgs");
  const std::vector<double> said = Numbers(trainer.Do("lbfgs 12"));
  ASSERT_EQ(said.size(), 4u);
  EXPECT_EQ(said[0], 12);
  EXPECT_TRUE(std::isfinite(said[2]));
  EXPECT_GT(said[3], 1) << "evaluations";
  End(trainer);
  const auto norms = Series("lbfgs", "grad.l2", "^fc2.weight$");
  ASSERT_EQ(norms.size(), 12u);
  EXPECT_NEAR(Number(norms.at(11)), said[1], 1e-6 * said[1]);
  // What the optimizer made of them, is one update.
  const auto updates = Series("lbfgs", "update.l2", "^fc2.weight$");
  ASSERT_EQ(updates.size(), 11u);
  EXPECT_GT(Number(updates.at(11)), 0);
}

TEST_F(LoopsTest, AccumulatedGradientsAreThoseThatTheOptimizerGets) {
  Trainer& trainer = Start("accumulated");
  trainer.Step(1);
  const std::vector<double> said = Numbers(trainer.Do("accumulate 5 4"));
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0], 6);
  End(trainer);
  const auto norms = Series("accumulated", "grad.l2", "^fc2.weight$");
  ASSERT_EQ(norms.size(), 6u);  // One for each step, not for each backward.
  EXPECT_NEAR(Number(norms.at(5)), said[1], 1e-6 * said[1]);
}

TEST_F(LoopsTest, ALossScaleIsTakenOffAndStored) {
  Trainer& plain = Start("plain", "tiny", {}, 5);
  plain.Step(8);
  Trainer& scaled = Start("scaled", "tiny", {}, 5);
  scaled.Step(2);
  EXPECT_EQ(scaled.Do("scale 1024"), "scaled");
  scaled.Step(4);
  EXPECT_EQ(scaled.Do("scale 1"), "scaled");
  scaled.Step(2);
  End(plain);
  End(scaled);
  // A power of two changes no bit of what it multiplies.
  for (const char* statistic : {"grad.l2", "grad.min", "weight.mean"}) {
    const auto values = Series("plain", statistic, "^fc2.weight$");
    EXPECT_EQ(values.size(), 8u);
    EXPECT_EQ(values, Series("scaled", statistic, "^fc2.weight$"));
  }
  const auto scales = Series("scaled", "scalar.loss_scale");
  ASSERT_EQ(scales.size(), 4u);
  EXPECT_EQ(scales.begin()->first, 2);
  EXPECT_EQ(scales.rbegin()->first, 5);
  EXPECT_EQ(scales.begin()->second, "1024");
}

TEST_F(LoopsTest, HistogramsComeAtTheirIntervalAndAnswerQuantiles) {
  Trainer& trainer =
      Start("binned", "tiny", {{"GRADTAP_HISTOGRAM_INTERVAL", "4"}}, 3);
  trainer.Step(9);
  const std::string path = dir_.path() + "/weights";
  trainer.Do("weights " + path);
  End(trainer);
  // fc1.weight is the first of the model.
  std::vector<float> weights(32);
  const std::string bytes = ReadFile(path);
  ASSERT_GE(bytes.size(), weights.size() * sizeof(float));
  std::memcpy(weights.data(), bytes.data(), weights.size() * sizeof(float));
  std::sort(weights.begin(), weights.end());

  const Csv bins = AskCsv(
      {"histogram", "binned", "fc1.weight", "--step", "8", "--role", "weight"});
  std::size_t count = 0;
  for (std::size_t row = 0; row < bins.rows(); ++row) {
    const double from = Number(bins.At(row, "from"));
    const double to = Number(bins.At(row, "to"));
    const auto inside =
        std::count_if(weights.begin(), weights.end(),
                      [&](float w) { return from <= w && w <= to; });
    EXPECT_EQ(Number(bins.At(row, "count")), static_cast<double>(inside))
        << from << " to " << to;
    count += static_cast<std::size_t>(inside);
  }
  EXPECT_EQ(count, weights.size());
  EXPECT_THAT(AskText({"histogram", "binned", "fc1.weight", "--step", "8"}),
              HasSubstr("fc1.weight"));

  const auto medians = Series("binned", "weight.p50", "^fc1.weight$");
  std::vector<std::int64_t> steps;
  for (const auto& [step, value] : medians) steps.push_back(step);
  ASSERT_THAT(steps, ElementsAre(0, 4, 8));
  const double ratio = Number(medians.at(8)) / weights[15];
  EXPECT_GE(ratio, 0.5);
  EXPECT_LE(ratio, 2);
  EXPECT_EQ(Series("binned", "grad.p99", "^fc2.weight$").size(), 3u);
  const Outcome none =
      Ask({"histogram", "binned", "fc1.weight", "--step", "7"});
  EXPECT_EQ(none.exit.code, 1);
  EXPECT_THAT(none.err, HasSubstr("7"));
}

TEST_F(LoopsTest, AnAuditLeavesOutEverySecondBlockAndTellsTheDifference) {
  Trainer& trainer = Start("audited", "many:50", {{"GRADTAP_AUDIT", "10"}});
  trainer.Step(90);
  const TrainerStatus status = trainer.Status();
  EXPECT_EQ(status.At("recorded"), 50u);
  EXPECT_EQ(status.At("skipped.audit"), 40u);
  End(trainer);
  const auto norms = Series("audited", "grad.l2", "0.weight$");
  EXPECT_EQ(norms.count(9), 1u);
  EXPECT_EQ(norms.count(10), 0u);
  EXPECT_EQ(norms.count(19), 0u);
  EXPECT_EQ(norms.count(20), 1u);
  EXPECT_EQ(Series("audited", "agent.step_seconds").size(), 89u);
  const Csv audit = AskCsv({"audit", "audited"});
  ASSERT_EQ(audit.rows(), 1u);
  EXPECT_EQ(audit.At(0, "block_steps"), "10");
  EXPECT_EQ(audit.At(0, "comparisons"), "3");
  const double difference = Number(audit.At(0, "difference_seconds"));
  EXPECT_LE(Number(audit.At(0, "lower_seconds")), difference);
  EXPECT_GE(Number(audit.At(0, "upper_seconds")), difference);
  EXPECT_GT(Number(audit.At(0, "without_step_seconds")), 0);
  EXPECT_THAT(AskText({"audit", "audited"}), HasSubstr("95 %"));
}

TEST_F(LoopsTest, ARunWithoutAnAuditCannotBeAudited) {
  Trainer& trainer = Start("plain");
  trainer.Step(20);
  End(trainer);
  const Outcome answer = Ask({"audit", "plain"});
  EXPECT_EQ(answer.exit.code, 1);
  EXPECT_THAT(answer.err, HasSubstr("GRADTAP_AUDIT"));
}

// No machine captures in a millionth of a step.
TEST_F(LoopsTest, ABudgetThatCannotBeKeptWidensTheInterval) {
  Trainer& trainer =
      Start("tight", "many:50", {{"GRADTAP_BUDGET", "0.000001"}});
  trainer.Step(200);
  const TrainerStatus status = trainer.Status();
  EXPECT_GT(status.At("skipped.budget"), 100u);
  EXPECT_EQ(status.At("recorded") + status.At("skipped.budget"), 200u);
  End(trainer);
  // What is left out says so, and its scalars are there.
  EXPECT_EQ(Series("tight", "scalar.loss").size(), 200u);
  const auto gaps = ParseGaps(AskText({"gaps", "tight", "--output", "json"}));
  ASSERT_FALSE(gaps.empty());
  std::uint64_t steps = 0;
  for (const GapLine& gap : gaps) {
    EXPECT_THAT(gap.cause, HasSubstr("BUDGET"));
    EXPECT_FALSE(gap.lost);
    steps += gap.steps;
  }
  EXPECT_EQ(steps, status.At("skipped.budget"));
}

TEST_F(LoopsTest, WithoutABudgetEveryStepIsRecorded) {
  Trainer& trainer = Start("free", "many:50", {{"GRADTAP_BUDGET", "0"}});
  trainer.Step(200);
  EXPECT_EQ(trainer.Status().At("recorded"), 200u);
}

}  // namespace
}  // namespace gradtap::testing
