// From the first step to the last word: crashes, restarts, attempts, ends.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <map>
#include <string>
#include <vector>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class LifecycleTest : public House {
 protected:
  // step -> (attempt, value) of a series; a step that comes twice fails.
  struct Point {
    std::string attempt, value;
    bool operator==(const Point&) const = default;
  };
  std::map<std::int64_t, Point> Series(const std::string& run,
                                       const std::string& stat,
                                       std::vector<std::string> more = {}) {
    std::vector<std::string> args = {"series", run, "--stat", stat};
    args.insert(args.end(), more.begin(), more.end());
    const Csv csv = AskCsv(args);
    std::map<std::int64_t, Point> points;
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      const std::int64_t step = std::stoll(csv.At(row, "step"));
      EXPECT_TRUE(points
                      .emplace(step, Point{csv.At(row, "attempt"),
                                           csv.At(row, "value")})
                      .second)
          << "step " << step << " twice";
    }
    return points;
  }
  std::vector<GapLine> Gaps(const std::string& run) {
    return ParseGaps(AskText({"gaps", run, "--output", "json"}));
  }
};

TEST_F(LifecycleTest, CollectorKilledInTheMiddleLosesAndDoublesNothing) {
  Trainer& calm = Start("calm", "tiny", {}, 5);
  calm.Step(1500);
  ASSERT_TRUE(calm.Flush());
  const auto expected = Series("calm", "scalar.loss");
  ASSERT_EQ(expected.size(), 1500u);

  Trainer& stormy = Start("stormy", "tiny", {}, 5);
  for (int i = 0; i < 5; ++i) {
    stormy.Step(50);
    ASSERT_TRUE(stormy.Flush(std::chrono::seconds(80)));  // Connected.
    stormy.Send("step 250");
    KillCollector();  // Somewhere among them.
    stormy.Answer();
    StartCollector();
  }
  ASSERT_TRUE(stormy.Flush(std::chrono::seconds(80)));
  EXPECT_EQ(Series("stormy", "scalar.loss"), expected);
  EXPECT_EQ(Series("stormy", "grad.l2", {"--match", "^fc1.weight$"}),
            Series("calm", "grad.l2", {"--match", "^fc1.weight$"}));
  EXPECT_TRUE(Gaps("stormy").empty());
}

TEST_F(LifecycleTest, CollectorTerminatedAndStartedAgainKeepsEverything) {
  Trainer& trainer = Start("restart");
  trainer.Step(20);
  ASSERT_TRUE(trainer.Flush());
  EXPECT_EQ(collector().Terminate(), 0);
  trainer.Step(20);
  StartCollector();
  EXPECT_EQ(FindRun(address(), "restart").stored_steps >= 20, true);
  ASSERT_TRUE(trainer.Flush(std::chrono::seconds(80)));
  EXPECT_EQ(Series("restart", "scalar.loss").size(), 40u);
  EXPECT_EQ(Series("restart", "weight.l2", {"--match", "fc2.bias"}).size(),
            40u);
}

TEST_F(LifecycleTest, ARunGoesFromRunningToFinished) {
  Trainer& trainer = Start("states", "tiny", Patient());
  trainer.Step(5);
  ASSERT_TRUE(trainer.Flush());
  RunRow row = FindRun(address(), "states");
  EXPECT_EQ(row.state, "RUNNING");
  EXPECT_EQ(row.first_step, 0);
  EXPECT_EQ(row.last_step, 4);
  EXPECT_EQ(row.attempts, 1u);
  End(trainer);
  EXPECT_TRUE(WaitForState(address(), "states", "FINISHED"));
  EXPECT_THAT(AskText({"runs", "--state", "finished"}), HasSubstr("states"));
}

TEST_F(LifecycleTest, AKilledTrainerLosesNothingThatWasAcknowledged) {
  Trainer& trainer = Start("killed");
  trainer.Step(50);
  ASSERT_TRUE(trainer.Flush());
  trainer.Send("step 1000000");
  trainer.process().Signal(SIGKILL);
  ASSERT_TRUE(trainer.process().Wait().has_value());
  Abandon(trainer);
  Forget("killed");
  // What it had sent is committed at the latest when the collector has ended.
  EXPECT_EQ(collector().Terminate(), 0);
  StartCollector();
  const RunRow row = FindRun(address(), "killed");
  EXPECT_GE(row.stored_steps, 50u);
  const auto points = Series("killed", "scalar.loss");
  EXPECT_EQ(points.size(), row.stored_steps);
  EXPECT_EQ(points.rbegin()->first + 1,
            static_cast<std::int64_t>(row.stored_steps));
}

TEST_F(LifecycleTest, ASecondAttemptContinuesTheCanonicalLine) {
  Trainer& first = Start("resumed", "tiny", {}, 1);
  first.Step(10);
  End(first);
  const auto before = Series("resumed", "scalar.loss");
  ASSERT_EQ(before.size(), 10u);

  Trainer& second = Start("resumed", "tiny", {}, 2);
  second.Do("setstep 6");
  second.Step(8);
  ASSERT_TRUE(second.Flush());
  const auto line = Series("resumed", "scalar.loss");
  ASSERT_EQ(line.size(), 14u);
  for (const auto& [step, point] : line) {
    EXPECT_EQ(point.attempt, step < 6 ? "1" : "2") << step;
    if (step < 6) {
      EXPECT_EQ(point.value, before.at(step).value) << step;
    }
  }
  EXPECT_NE(line.at(6).value, before.at(6).value);
  // The older one stays readable.
  EXPECT_EQ(Series("resumed", "scalar.loss", {"--attempt", "1"}), before);
  EXPECT_EQ(Series("resumed", "scalar.loss", {"--attempt", "2"}).size(), 8u);
  const RunRow row = FindRun(address(), "resumed");
  EXPECT_EQ(row.attempts, 2u);
  EXPECT_EQ(row.state, "RUNNING");
  EXPECT_EQ(row.first_step, 0);
  EXPECT_EQ(row.last_step, 13);
}

TEST_F(LifecycleTest, AStepCounterThatGoesBackOpensABranch) {
  Trainer& trainer = Start("branch");
  trainer.Step(10);
  trainer.Do("setstep 4");
  trainer.Step(3);
  ASSERT_TRUE(trainer.Flush());
  // A newer branch replaces the older from its first step on, steps that it
  // has not reached included.
  const auto line = Series("branch", "scalar.loss");
  ASSERT_EQ(line.size(), 7u);
  EXPECT_EQ(line.rbegin()->first, 6);
  EXPECT_EQ(FindRun(address(), "branch").stored_steps, 13u);
}

TEST_F(LifecycleTest, GapsAreShownWithTheirCause) {
  Trainer& trainer = Start("gaps");
  trainer.Step(3);
  trainer.Do("skip the loss was not finite");
  trainer.Step(1);
  EXPECT_EQ(trainer.Do("throw"), "threw the optimizer's own words");
  trainer.Step(2);
  ASSERT_TRUE(trainer.Flush());
  const TrainerStatus status = trainer.Status();
  EXPECT_EQ(status.At("seen"), 8u);
  EXPECT_EQ(status.At("recorded"), 6u);
  EXPECT_EQ(status.At("skipped"), 2u);
  const std::vector<GapLine> gaps = Gaps("gaps");
  ASSERT_EQ(gaps.size(), 2u);
  EXPECT_EQ(gaps[0].cause, "GAP_CAUSE_LOOP");
  EXPECT_EQ(gaps[0].first, 3);
  EXPECT_EQ(gaps[0].detail, "the loss was not finite");
  EXPECT_EQ(gaps[1].cause, "GAP_CAUSE_OPTIMIZER_THREW");
  EXPECT_EQ(gaps[1].first, 5);
  EXPECT_EQ(Series("gaps", "weight.l2", {"--match", "fc2.bias"}).count(3), 0u);
  EXPECT_EQ(Series("gaps", "weight.l2", {"--match", "fc2.bias"}).size(), 6u);
}

TEST_F(LifecycleTest, AnIntervalSkipsStatisticsAndKeepsScalars) {
  Trainer& trainer = Start("interval", "tiny", {{"GRADTAP_INTERVAL", "4"}});
  trainer.Step(10);
  ASSERT_TRUE(trainer.Flush());
  const auto weights = Series("interval", "weight.l2", {"--match", "fc2.bias"});
  ASSERT_EQ(weights.size(), 3u);
  for (const auto& [step, point] : weights) EXPECT_EQ(step % 4, 0);
  EXPECT_EQ(Series("interval", "scalar.loss").size(), 10u);
  const TrainerStatus status = trainer.Status();
  EXPECT_EQ(status.At("recorded"), 3u);
  EXPECT_EQ(status.At("skipped.interval"), 7u);
  std::uint64_t skipped = 0;
  for (const GapLine& gap : Gaps("interval")) {
    EXPECT_EQ(gap.cause, "GAP_CAUSE_INTERVAL");
    EXPECT_FALSE(gap.lost);
    skipped += gap.steps;
  }
  EXPECT_EQ(skipped, 7u);
}

TEST_F(LifecycleTest, AFullRingLosesStepsWithTheirCauseAndTheBooksBalance) {
  TempDir dir;
  const int port = FreePort();
  Trainer trainer(
      "127.0.0.1:" + std::to_string(port), "full", "mixed",
      {{"GRADTAP_RING_BYTES", "1048576"}, {"GRADTAP_SPOOL", "off"}});
  trainer.Step(4000);
  TrainerStatus status = trainer.Status();
  ExpectBooksBalance(status);
  EXPECT_EQ(status.At("seen"), 4000u);
  ASSERT_GT(status.At("lost.thinned"), 0u);
  ASSERT_GT(status.At("lost.ring_full"), 0u);

  Collector collector(dir.path(), port);
  EXPECT_TRUE(trainer.Flush(std::chrono::seconds(80)));
  trainer.Step(1);
  EXPECT_TRUE(trainer.Flush());
  status = trainer.Status();
  ExpectBooksBalance(status);
  const RunRow row = FindRun(collector.address(), "full");
  EXPECT_EQ(row.stored_steps, status.At("recorded"));
  EXPECT_EQ(row.lost_steps, status.At("lost"));
  std::map<std::string, std::uint64_t> told;
  for (const GapLine& gap : ParseGaps(
           Gradtap(collector.address(), {"gaps", "full", "--output", "json"})
               .out)) {
    EXPECT_TRUE(gap.lost);
    told[gap.cause] += gap.steps;
  }
  EXPECT_EQ(told.size(), 2u);
  EXPECT_EQ(told["GAP_CAUSE_RING_FULL"], status.At("lost.ring_full"));
  EXPECT_EQ(told["GAP_CAUSE_THINNED"], status.At("lost.thinned"));
  EXPECT_EQ(trainer.Quit(), 0);
}

TEST_F(LifecycleTest, APipedWatchSeesEveryStepOnceAndEndsWithTheRun) {
  Trainer& trainer = Start("watched");
  trainer.Step(1);
  ASSERT_TRUE(trainer.Flush());
  Process watch(GradtapCommand(
      address(), {"watch", "watched", "--stat", "grad.l2", "--match",
                  "^fc1.weight$", "--output", "csv"}));
  std::string text = watch.ReadLine().value_or("") + "\n";  // The header,
  text += watch.ReadLine().value_or("") + "\n";             // the newest step.
  // A reader that keeps up: nothing is conflated.
  for (int step = 1; step <= 60; ++step) {
    trainer.Step(1);
    text += watch.ReadLine().value_or("") + "\n";
  }
  End(trainer);
  text += watch.ReadAll();
  const auto exit = watch.Wait();
  ASSERT_TRUE(exit.has_value()) << "watch goes on after the end of the run";
  EXPECT_EQ(exit->code, 0) << watch.Errors();
  const Csv csv = Csv::Parse(text);
  std::vector<std::string> steps, expected;
  for (const std::size_t row : csv.Where("stat", "grad.l2")) {
    steps.push_back(csv.At(row, "step"));
  }
  for (int step = 0; step <= 60; ++step) {
    expected.push_back(std::to_string(step));
  }
  EXPECT_EQ(steps, expected);
}

TEST_F(LifecycleTest, ADeletedRunIsGoneAndItsNameIsFree) {
  Trainer& trainer = Start("doomed");
  trainer.Step(5);
  End(trainer);
  Trainer& other = Start("other");
  other.Step(5);
  End(other);
  AskText({"delete", "doomed", "--yes"});
  EXPECT_EQ(FindRun(address(), "doomed").state, "");
  EXPECT_EQ(Ask({"series", "doomed", "--stat", "scalar.loss"}).exit.code, 1);
  Forget("doomed");
  Trainer& again = Start("doomed");
  again.Step(3);
  ASSERT_TRUE(again.Flush());
  EXPECT_EQ(Series("doomed", "scalar.loss").size(), 3u);
  EXPECT_EQ(Series("other", "scalar.loss").size(), 5u);
}

TEST_F(LifecycleTest, ARunThatIsDeletedWhileItGoesOnSaysWhatIsGone) {
  Trainer& trainer = Start("doomed");
  trainer.Step(5);
  ASSERT_TRUE(trainer.Flush());
  AskText({"delete", "doomed", "--yes"});
  trainer.Step(3);
  ASSERT_TRUE(trainer.Flush());
  EXPECT_EQ(Series("doomed", "scalar.loss").size(), 3u);
  const Csv gaps = AskCsv({"gaps", "doomed"});
  ASSERT_GE(gaps.rows(), 1u);
  for (std::size_t row = 0; row < gaps.rows(); ++row) {
    EXPECT_EQ(gaps.At(row, "cause"), "run_deleted");
  }
  EXPECT_EQ(FindRun(address(), "doomed").lost_steps, 5u);
  End(trainer);
  Forget("doomed");  // What was acknowledged is gone, as was asked for.
}

TEST_F(LifecycleTest, TwoRanksOfOneLaunchAreOneAttempt) {
  const auto rank = [](int r) {
    return Patient({{"GRADTAP_RANK", std::to_string(r)},
                    {"GRADTAP_WORLD_SIZE", "2"},
                    {"GRADTAP_LAUNCH", "job-7"}});
  };
  Trainer& zero = Start("ranks", "tiny", rank(0));
  Trainer& one = Start("ranks", "tiny", rank(1));
  zero.Step(4);
  one.Step(4);
  ASSERT_TRUE(zero.Flush());
  ASSERT_TRUE(one.Flush());
  EXPECT_EQ(FindRun(address(), "ranks").attempts, 1u);
  EXPECT_EQ(Series("ranks", "scalar.loss", {"--rank", "0"}).size(), 4u);
  EXPECT_EQ(Series("ranks", "scalar.loss", {"--rank", "1"}).size(), 4u);
  EXPECT_EQ(AskCsv({"series", "ranks", "--stat", "scalar.loss"}).rows(), 8u);
  End(zero);
  EXPECT_EQ(FindRun(address(), "ranks").state, "RUNNING");  // Rank 1 goes on.
  End(one);
  EXPECT_TRUE(WaitForState(address(), "ranks", "FINISHED"));
}

}  // namespace
}  // namespace gradtap::testing
