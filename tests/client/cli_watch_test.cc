#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CliWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["live"] = MakeLive("live", 3, 2);
    collector_.service.runs["mnist"] = MakeMnist();
    // The command ends by itself, not because the watch does.
    collector_.service.watch_stays_open = true;
    collector_.Start();
  }
  FakeCollector collector_;
};

TEST_F(CliWatchTest, APipeGetsALineForEachParameterAndStep) {
  const CliResult result = RunCli(collector_, {"watch", "live"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(
      result.out,
      "2023-11-14 22:13:30.000Z run live running\n"
      "2023-11-14 22:13:20.123Z rank 0 step 0 loss=2\n"
      "2023-11-14 22:13:20.123Z rank 0 step 0 layers.0.weight grad.l2=0 "
      "update.ratio=-\n"
      "2023-11-14 22:13:20.123Z rank 0 step 0 layers.1.weight grad.l2=NaN "
      "update.ratio=-\n"
      "2023-11-14 22:13:21.123Z rank 0 step 1 loss=1\n"
      "2023-11-14 22:13:21.123Z rank 0 step 1 layers.0.weight grad.l2=1 "
      "update.ratio=NaN\n"
      "2023-11-14 22:13:21.123Z rank 0 step 1 layers.1.weight grad.l2=NaN "
      "update.ratio=NaN\n"
      "2023-11-14 22:13:22.123Z rank 0 step 2 loss=0.6667\n"
      "2023-11-14 22:13:22.123Z rank 0 step 2 layers.0.weight grad.l2=2 "
      "update.ratio=NaN\n"
      "2023-11-14 22:13:22.123Z rank 0 step 2 layers.1.weight grad.l2=NaN "
      "update.ratio=NaN\n"
      "2023-11-14 22:13:30.000Z run live finished\n"
      "run live finished at step 2: 3 steps stored, 0 skipped, 0 lost\n");
}

TEST_F(CliWatchTest, JsonHasOneMessageALine) {
  const CliResult result = RunCli(collector_, {"watch", "live", "--json"});
  EXPECT_EQ(result.code, 0);
  const auto lines = Lines(result.out);
  ASSERT_EQ(lines.size(), 5u);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    v1::WatchResponse message;
    ASSERT_TRUE(
        google::protobuf::util::JsonStringToMessage(lines[i], &message).ok());
    EXPECT_EQ(message.ordinal(), i + 1);
  }
}

TEST_F(CliWatchTest, CsvHasTheRowsOfSeries) {
  const CliResult result =
      RunCli(collector_, {"watch", "live", "--output", "csv"});
  EXPECT_EQ(result.code, 0);
  const auto rows = ReadCsv(result.out);
  ASSERT_EQ(rows.size(), 1u + 3 * (1 + 2 * 2));
  EXPECT_THAT(rows[1], ElementsAre("live", "1", "0", "0",
                                   "2023-11-14T22:13:20.123456789Z", "",
                                   "scalar.loss", "2"));
  EXPECT_EQ(rows[3][7], "");
  EXPECT_THAT(result.err, HasSubstr("run live finished at step 2"));
}

TEST_F(CliWatchTest, ARunThatHadEndedShowsItsLastStep) {
  const CliResult result = RunCli(collector_, {"watch", "mnist"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("step 4 scale grad.l2=NaN"));
  EXPECT_THAT(result.out, HasSubstr("run mnist finished at step 4"));
}

TEST_F(CliWatchTest, ARestartIsToldOnStandardErrorAndNothingIsMissed) {
  const std::string whole = RunCli(collector_, {"watch", "live"}).out;
  collector_.service.watch_messages_a_call = 3;
  collector_.service.watch_end =
      grpc::Status(grpc::StatusCode::UNAVAILABLE, "shutting down");
  const CliResult result = RunCli(collector_, {"watch", "live"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, whole);
  const auto lines = Lines(result.err);
  ASSERT_EQ(lines.size(), 2u) << result.err;
  EXPECT_THAT(lines[0], HasSubstr("no collector at " + collector_.address()));
  EXPECT_THAT(lines[0], HasSubstr("dialling again"));
  EXPECT_THAT(lines[1], HasSubstr("is back"));
}

TEST_F(CliWatchTest, GapsAndConflatedStepsAreLines) {
  FakeRun& run = collector_.service.runs["live"];
  run.watch[2].set_conflated_steps(7);
  *run.watch[3].mutable_gap() = MakeMnist().gaps[0];
  const CliResult result = RunCli(collector_, {"watch", "live"});
  EXPECT_THAT(result.out, HasSubstr("\n7 steps left out: this watcher was too "
                                    "slow\n"));
  EXPECT_THAT(result.out, HasSubstr("\nmissing: step 3 of rank 0"));
}

TEST_F(CliWatchTest, LostIsShownAndWatchedOn) {
  FakeRun& run = collector_.service.runs["live"];
  *run.watch[2].mutable_run() = run.info.run();
  run.watch[2].mutable_run()->set_state(v1::RUN_STATE_LOST);
  const CliResult result = RunCli(collector_, {"watch", "live"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("run live lost\n"));
  EXPECT_THAT(result.out, HasSubstr("run live finished at step 2"));
}

TEST_F(CliWatchTest, ATerminalThatIsDumbGetsLines) {
  CliSurroundings around;
  around.out_is_terminal = true;
  around.env["TERM"] = "dumb";
  const CliResult result = RunCli(collector_, {"watch", "live"}, around);
  EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));
  EXPECT_THAT(result.out, HasSubstr("step 2 layers.0.weight grad.l2=2"));
}

TEST_F(CliWatchTest, AFrameFitsTheWindowAndShowsTheBiggestFirst) {
  collector_.service.runs["live"] = MakeLive("live", 1, 100);
  CliSurroundings around;
  around.out_is_terminal = true;
  around.utf8 = true;
  around.env["TERM"] = "xterm";
  around.env["NO_COLOR"] = "1";
  around.window = {40, 10};
  const CliResult result = RunCli(collector_, {"watch", "live"}, around);
  EXPECT_EQ(result.code, 0);
  // The last frame: nine lines and the final one.
  const std::size_t home = result.out.rfind("\r\x1b[");
  ASSERT_NE(home, std::string::npos);
  std::string frame = result.out.substr(home);
  const auto lines = Lines(frame);
  ASSERT_EQ(lines.size(), 10u) << frame;
  EXPECT_THAT(lines[3], HasSubstr("PARAM"));
  EXPECT_THAT(lines[4], HasSubstr("layers.1.weight"));   // NaN.
  EXPECT_THAT(lines[5], HasSubstr("layers.99.weight"));  // The largest.
  EXPECT_THAT(lines[8], HasSubstr("96 more, by grad.l2"));
  EXPECT_THAT(lines[9], HasSubstr("run live finished"));
}

TEST_F(CliWatchTest, OptionsReachTheCollector) {
  EXPECT_EQ(RunCli(collector_, {"watch", "live", "--stat", "grad.l2", "--match",
                                "layers", "--rank", "0"})
                .code,
            0);
  const auto sent = collector_.service.Last<v1::WatchRequest>();
  EXPECT_THAT(sent.statistics(), ElementsAre("grad.l2"));
  EXPECT_EQ(sent.match(), "layers");
  EXPECT_THAT(sent.ranks(), ElementsAre(0));
  EXPECT_FALSE(sent.has_after_ordinal());
}

}  // namespace
}  // namespace gradtap::client::testing
