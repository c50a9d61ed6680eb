// gradtap alerts, first-bad and rules against a collector with canned answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "client/cli_run.h"
#include "proto/text/rules_text.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

v1::Alert MakeAlert(bool active) {
  v1::Alert alert;
  alert.set_id(active ? 2 : 1);
  alert.set_run("gpt");
  alert.set_attempt(1);
  alert.set_rule(v1::HEALTH_RULE_NONFINITE);
  alert.set_severity(v1::ALERT_SEVERITY_CRITICAL);
  alert.set_active(active);
  alert.set_end(active ? v1::ALERT_END_UNSPECIFIED : v1::ALERT_END_QUIET);
  alert.set_first_step(812);
  alert.set_step_before(811);
  alert.set_first_time_unix_ns(kFakeStart);
  alert.set_rank(2);
  alert.set_last_step(815);
  alert.set_last_time_unix_ns(kFakeStart + 1'000'000'000);
  alert.set_raised_unix_ns(kFakeStart);
  alert.set_offenders(15);
  alert.set_rank_count(4);
  alert.set_summary("grad of \x1b[31mconv1\n became non-finite");
  return alert;
}

v1::BadFinding MakeFinding(std::uint32_t place, v1::BadKind kind,
                           std::int64_t step, std::int64_t after,
                           const std::string& parameter) {
  v1::BadFinding finding;
  finding.set_place(place);
  finding.set_kind(kind);
  finding.set_attempt(1);
  finding.set_rank(2);
  finding.set_step(step);
  finding.set_after_step(after);
  finding.set_time_unix_ns(kFakeStart);
  finding.set_parameter(parameter);
  finding.set_value(3);
  finding.set_numel(64);
  return finding;
}

class CliAlertsTest : public ::testing::Test {
 protected:
  CliAlertsTest() {
    FakeRun& run = collector_.service.runs["gpt"];
    *run.alerts.add_alerts() = MakeAlert(true);
    *run.alerts.add_alerts() = MakeAlert(false);
    run.alerts.set_omitted(3);
    run.first_bad.set_run("gpt");
    *run.first_bad.add_findings() =
        MakeFinding(1, v1::BAD_KIND_GRAD, 808, 800, "a");
    *run.first_bad.add_findings() =
        MakeFinding(1, v1::BAD_KIND_GRAD, 808, 800, "b");
    *run.first_bad.add_findings() =
        MakeFinding(2, v1::BAD_KIND_LOSS, 809, 808, "");
    for (v1::BadFinding& finding : *run.first_bad.mutable_findings()) {
      finding.set_origin_unknown(finding.kind() == v1::BAD_KIND_GRAD);
    }
    run.first_bad.mutable_findings(2)->set_value(
        std::numeric_limits<double>::infinity());
    run.first_bad.add_notes("a note");
    *run.tested.add_alerts() = MakeAlert(false);
    run.tested.set_steps(2000);
    run.tested.set_records(6000);
    collector_.service.runs["well"].first_bad.set_run("well");
    collector_.service.runs["well"].first_bad.set_last_step(99);
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args) {
    return RunCli(collector_, std::move(args));
  }
  std::string WriteRules(const std::string& text) {
    const std::string path = dir_.path() + "/my.rules";
    std::FILE* file = std::fopen(path.c_str(), "w");
    std::fwrite(text.data(), 1, text.size(), file);
    std::fclose(file);
    return path;
  }

  gradtap::testing::TempDir dir_;
  FakeCollector collector_;
};

TEST_F(CliAlertsTest, AlertsAreRowsAndTheirNamesHarmless) {
  const CliResult result = Run({"alerts", "gpt"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("nonfinite"), HasSubstr("critical"),
                    HasSubstr("active"), HasSubstr("quiet"), HasSubstr("812"),
                    HasSubstr("\\x1b[31mconv1\\n became"),
                    HasSubstr("3 older alerts left out: --limit.\n")));
  EXPECT_THAT(result.out, Not(HasSubstr("\x1b")));
}

TEST_F(CliAlertsTest, WhatIsAskedForIsSent) {
  const CliResult result = Run({"alerts", "gpt", "--active", "--since", "-10m",
                                "--rule", "lost_rank", "--limit", "7"});
  EXPECT_EQ(result.code, 0) << result.err;
  const auto request = collector_.service.Last<v1::ListAlertsRequest>();
  EXPECT_EQ(request.run(), "gpt");
  EXPECT_TRUE(request.active());
  EXPECT_EQ(request.since_unix_ns(),
            kFakeStart + 70'000'000'000 - 600'000'000'000);
  EXPECT_EQ(request.rule(), v1::HEALTH_RULE_LOST_RANK);
  EXPECT_EQ(request.limit(), 7u);
  EXPECT_EQ(Run({"alerts"}).code, 0);
  EXPECT_EQ(collector_.service.Last<v1::ListAlertsRequest>().run(), "");
}

TEST_F(CliAlertsTest, NoAlertsAreASentence) {
  EXPECT_EQ(Run({"alerts", "well"}).out, "No alerts of run well.\n");
  EXPECT_EQ(Run({"alerts", "well", "--active"}).out,
            "No alert of run well is active.\n");
}

TEST_F(CliAlertsTest, AlertsAsCsvHaveOneRowEach) {
  const CliResult result = Run({"alerts", "gpt", "-o", "csv"});
  const auto rows = ReadCsv(result.out);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0][0], "run");
  EXPECT_EQ(rows[1][3], "nonfinite");
  EXPECT_EQ(rows[1][5], "active");
  EXPECT_EQ(rows[1][13], "");  // It has not ended.
  EXPECT_EQ(rows[2][5], "quiet");
  EXPECT_EQ(rows[1][14], "15");
}

TEST_F(CliAlertsTest, ABadQuestionIsAUsageError) {
  EXPECT_EQ(Run({"alerts", "--rule", "nan"}).code, 2);
  EXPECT_THAT(Run({"alerts", "--rule", "nan"}).err, HasSubstr("nonfinite"));
  EXPECT_EQ(Run({"alerts", "--since", "soon"}).code, 2);
  EXPECT_EQ(Run({"alerts", "a/b"}).code, 2);
  EXPECT_EQ(Run({"alerts", "gtp"}).code, 1);
}

TEST_F(CliAlertsTest, FirstBadSaysTiesIntervalsAndWhatIsNotKnown) {
  const CliResult result = Run({"first-bad", "gpt"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(
      result.out,
      AllOf(HasSubstr("801-808"), HasSubstr("3 of 64 elements"),
            HasSubstr("rank of origin unknown: gradients captured after "
                      "reduction\n"),
            HasSubstr("2 are first together"), HasSubstr("were not recorded\n"),
            HasSubstr("Infinity"), HasSubstr("a note\n")));
}

TEST_F(CliAlertsTest, ARunThatIsWellIsASentence) {
  EXPECT_EQ(Run({"first-bad", "well"}).out,
            "Nothing of run well was NaN or infinite up to step 99.\n");
}

TEST_F(CliAlertsTest, FirstBadAsCsvHasOneRowAFinding) {
  const CliResult result = Run({"first-bad", "gpt", "--attempt", "2", "--loss",
                                "train", "--limit", "9", "-o", "csv"});
  const auto rows = ReadCsv(result.out);
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1][4], "808");
  EXPECT_EQ(rows[1][5], "800");
  EXPECT_EQ(rows[1][7], "grad");
  EXPECT_EQ(rows[3][7], "loss");
  EXPECT_EQ(rows[3][9], "Infinity");
  const auto request = collector_.service.Last<v1::GetFirstBadRequest>();
  EXPECT_EQ(request.attempt(), 2u);
  EXPECT_EQ(request.loss(), "train");
  EXPECT_EQ(request.limit(), 9u);
}

TEST_F(CliAlertsTest, AFileOfRulesIsCheckedHere) {
  const std::string good = WriteRules("dead { steps: 5 }");
  const CliResult checked = RunCli({"rules", "check", good});
  EXPECT_EQ(checked.code, 0) << checked.err;
  EXPECT_THAT(checked.out, HasSubstr("the rules are sound\n"));
  const std::string bad = WriteRules("dead { steps: 5 }\nded {}");
  const CliResult refused = RunCli({"rules", "check", bad});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("my.rules:2:"));
  EXPECT_EQ(RunCli({"rules", "check", dir_.path() + "/none"}).code, 1);
  EXPECT_EQ(RunCli({"rules", "check"}).code, 2);
  EXPECT_EQ(RunCli({"rules", "burn", good}).code, 2);
  EXPECT_EQ(RunCli({"rules", "test", good}).code, 2);
}

TEST_F(CliAlertsTest, TheDefaultsAreAFileThatIsSound) {
  const CliResult printed = RunCli({"rules", "defaults"});
  EXPECT_EQ(printed.code, 0);
  EXPECT_EQ(printed.out, PrintRules(DefaultRules()));
  EXPECT_EQ(RunCli({"rules", "check", WriteRules(printed.out)}).code, 0);
}

TEST_F(CliAlertsTest, ATestSendsTheRulesAndShowsWhatTheyRaise) {
  const std::string path = WriteRules("dead { steps: 5 }");
  const CliResult result = Run({"rules", "test", path, "gpt"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("1 alert over 2,000 steps and 6,000 "
                                    "records.\n"));
  const auto sent = ParseRules(
      collector_.service.Last<v1::TestRulesRequest>().rules(), "sent");
  ASSERT_TRUE(sent.ok()) << sent.status();
  EXPECT_EQ(sent->dead().steps(), 5u);
  EXPECT_EQ(
      ReadCsv(Run({"rules", "test", path, "gpt", "-o", "csv"}).out).size(), 2u);
}

}  // namespace
}  // namespace gradtap::client::testing
