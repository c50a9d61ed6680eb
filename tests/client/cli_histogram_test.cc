// gradtap histogram and gradtap audit against a collector with canned answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/cli_run.h"
#include "core/histogram.h"

namespace gradtap::client::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class CliHistogramTest : public ::testing::Test {
 protected:
  CliHistogramTest() {
    FakeRun run = MakeMnist();
    v1::GetHistogramsResponse& answer = run.histograms;
    answer.set_run("mnist");
    answer.set_attempt(1);
    answer.set_step(4);
    answer.set_time_unix_ns(kFakeStart);
    for (const v1::Role role : {v1::ROLE_WEIGHT, v1::ROLE_GRAD}) {
      v1::ParameterHistogram* one = answer.add_histograms();
      one->set_parameter("conv.weight");
      one->set_role(role);
      one->set_numel(10);
      one->set_min(-1.5);
      one->set_max(1.5);
      for (const std::uint32_t bin :
           {kBinZero, kBinNan, kBinPositive + 127, kBinNegative + 127}) {
        one->add_bin(bin);
        one->add_count(bin + 1);
      }
    }
    collector_.service.runs["mnist"] = run;
    collector_.service.runs["audited"] = MakeAudited();
    FakeRun plain = MakeAudited();
    for (v1::Series& series : plain.series) series.set_run("plain");
    plain.gaps.clear();
    collector_.service.runs["plain"] = plain;
    collector_.Start();
  }

  // 300 steps in blocks of ten; one with capture takes 1 ms longer.
  static FakeRun MakeAudited() {
    FakeRun run;
    run.info.mutable_run()->set_run("audited");
    for (const char* name : {"agent.step_seconds", "agent.capture_seconds"}) {
      v1::Series series;
      series.set_run("audited");
      series.set_statistic(name);
      const bool whole = std::string(name) == "agent.step_seconds";
      for (std::int64_t step = 0; step < 300; ++step) {
        const double cost = step / 10 % 2 == 0 ? 0.001 : 0;
        series.add_attempt(1);
        series.add_step(step);
        series.add_time_unix_ns(kFakeStart + step);
        series.add_value(whole ? 0.1 + cost : cost);
      }
      run.series.push_back(series);
    }
    for (std::int64_t first = 10; first < 300; first += 20) {
      v1::GapInfo info;
      info.set_attempt(1);
      info.mutable_gap()->set_cause(v1::GAP_CAUSE_AUDIT);
      info.mutable_gap()->set_first_step(first);
      info.mutable_gap()->set_last_step(first + 9);
      info.mutable_gap()->set_steps(10);
      run.gaps.push_back(info);
    }
    return run;
  }

  FakeCollector collector_;
};

TEST_F(CliHistogramTest, DrawsTheGradientAndNamesTheOthers) {
  const CliResult result =
      RunCli(collector_, {"histogram", "mnist", "conv.weight", "--step", "4"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("conv.weight  grad  10 elements"),
                    HasSubstr("NEGATIVE | POSITIVE"), HasSubstr("NaN        2"),
                    HasSubstr("QUANTILE"), HasSubstr("also: weight"),
                    Not(HasSubstr("\x1b"))));
  const auto request = collector_.service.Last<v1::GetHistogramsRequest>();
  EXPECT_EQ(request.parameter(), "conv.weight");
  EXPECT_EQ(request.step(), 4);
  EXPECT_EQ(request.role(), v1::ROLE_UNSPECIFIED);
}

TEST_F(CliHistogramTest, OptionsReachTheCollector) {
  RunCli(collector_, {"histogram", "mnist", "w", "--role", "Update", "--rank",
                      "merged", "--attempt", "2", "--step", "-3"});
  const auto request = collector_.service.Last<v1::GetHistogramsRequest>();
  EXPECT_EQ(request.role(), v1::ROLE_UPDATE);
  EXPECT_TRUE(request.merged());
  EXPECT_EQ(request.attempt(), 2u);
  EXPECT_EQ(request.step(), -3);
}

TEST_F(CliHistogramTest, ColourOnATerminalAloneAndNoneWithNoColor) {
  CliSurroundings terminal;
  terminal.out_is_terminal = true;
  terminal.env["TERM"] = "xterm-256color";
  const std::vector<std::string> args = {"histogram", "mnist", "conv.weight"};
  EXPECT_THAT(RunCli(collector_, args, terminal).out, HasSubstr("\x1b[31mNaN"));
  terminal.env["NO_COLOR"] = "1";
  EXPECT_THAT(RunCli(collector_, args, terminal).out, Not(HasSubstr("\x1b")));
}

TEST_F(CliHistogramTest, CsvAndJsonHaveAllRoles) {
  const CliResult csv = RunCli(
      collector_, {"histogram", "mnist", "conv.weight", "--output", "csv"});
  const auto rows = ReadCsv(csv.out);
  ASSERT_EQ(rows.size(), 9u);
  EXPECT_EQ(rows[0][7], "bin");
  EXPECT_EQ(rows[2][8], "NaN");
  EXPECT_EQ(rows[3][6], "weight");
  EXPECT_EQ(rows[3][8], "1");
  EXPECT_EQ(rows[3][9], "2");
  EXPECT_EQ(rows[4][8], "-2");
  EXPECT_EQ(rows[8][6], "grad");
  const CliResult json =
      RunCli(collector_, {"histogram", "mnist", "conv.weight", "--json"});
  EXPECT_THAT(json.out, HasSubstr("\"role\": \"ROLE_WEIGHT\""));
}

TEST_F(CliHistogramTest, WhatIsNotThereIsSaid) {
  collector_.service.runs["mnist"].histograms.clear_histograms();
  const CliResult none = RunCli(
      collector_, {"histogram", "mnist", "conv.weight", "--role", "grad"});
  EXPECT_EQ(none.code, kExitFailed);
  EXPECT_THAT(none.err,
              AllOf(HasSubstr("role grad at step 4"), HasSubstr("absent")));
  EXPECT_EQ(RunCli(collector_, {"histogram", "nope", "w"}).code, kExitFailed);
  for (const auto& bad : std::vector<std::vector<std::string>>{
           {"histogram", "mnist"},
           {"histogram", "mnist", ""},
           {"histogram", "mnist", "w", "--role", "gard"},
           {"histogram", "mnist", "w", "--rank", "0,1"},
           {"histogram", "mnist", "w", "--step", "x"}}) {
    const CliResult result = RunCli(collector_, bad);
    EXPECT_EQ(result.code, kExitUsage) << result.err;
    EXPECT_THAT(result.err, StartsWith("gradtap: "));
  }
}

TEST_F(CliHistogramTest, AnAuditTellsTheDifference) {
  const CliResult result = RunCli(collector_, {"audit", "audited"});
  EXPECT_EQ(result.code, kExitOk) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("blocks of 10 steps"), HasSubstr("101.000 ms"),
                    HasSubstr("+1.000 ms (1.0 %)"),
                    HasSubstr("Capture costs 1.0 % of step time")));
  const auto request = collector_.service.Last<v1::GetSeriesRequest>();
  EXPECT_EQ(request.ranks(0), 0u);
  EXPECT_EQ(request.statistics_size(), 2);
  const auto rows =
      ReadCsv(RunCli(collector_, {"audit", "audited", "--output", "csv"}).out);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].size(), rows[1].size());
  EXPECT_THAT(RunCli(collector_, {"audit", "audited", "--json"}).out,
              HasSubstr("\"comparisons\": \"14\""));
}

TEST_F(CliHistogramTest, AnAuditThatCannotBeSaysWhatToDo) {
  const CliResult few =
      RunCli(collector_, {"audit", "audited", "--steps", ":40"});
  EXPECT_EQ(few.code, kExitFailed);
  EXPECT_THAT(few.err,
              AllOf(HasSubstr("too few blocks"), HasSubstr("GRADTAP_AUDIT")));
  const CliResult none = RunCli(collector_, {"audit", "plain"});
  EXPECT_EQ(none.code, kExitFailed);
  EXPECT_THAT(none.err, HasSubstr("GRADTAP_AUDIT=50"));
  EXPECT_EQ(RunCli(collector_, {"audit", "audited", "--rank", "merged"}).code,
            kExitUsage);
}

}  // namespace
}  // namespace gradtap::client::testing
