#include "client/cli/audit_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "support/status_matchers.h"

namespace gradtap::client {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void AddPoint(v1::Series* series, std::int64_t step, double value) {
  series->add_attempt(1);
  series->add_step(step);
  series->add_time_unix_ns(step);
  series->add_value(value);
}

void AddGap(v1::GetSeriesResponse* response, v1::GapCause cause,
            std::int64_t first, std::int64_t last, std::uint32_t rank = 0) {
  v1::GapInfo* info = response->add_gaps();
  info->set_attempt(1);
  info->set_rank(rank);
  info->mutable_gap()->set_cause(cause);
  info->mutable_gap()->set_first_step(first);
  info->mutable_gap()->set_last_step(last);
  info->mutable_gap()->set_steps(static_cast<std::uint64_t>(last - first + 1));
}

v1::GetSeriesResponse Answer(std::int64_t steps) {
  v1::GetSeriesResponse response;
  for (const char* name : {"agent.step_seconds", "agent.capture_seconds"}) {
    v1::Series* series = response.add_series();
    series->set_statistic(name);
    for (std::int64_t step = 0; step < steps; ++step) {
      AddPoint(series, step,
               *name == 'a' && name[6] == 's' ? 1.0 + step : 0.25);
    }
  }
  return response;
}

AuditResult Result(double difference, double lower, double upper) {
  AuditResult result;
  result.block_steps = 50;
  result.comparisons = 19;
  result.with_blocks = 19;
  result.without_blocks = 20;
  result.with_steps = 855;
  result.without_steps = 900;
  result.without_seconds = 0.1;
  result.with_seconds = 0.1 + difference;
  result.difference_seconds = difference;
  result.own_seconds = difference;
  result.lower_seconds = lower;
  result.upper_seconds = upper;
  return result;
}

TEST(AuditStepsTest, CausesOfGapsTellTheBlocks) {
  v1::GetSeriesResponse response = Answer(12);
  AddGap(&response, v1::GAP_CAUSE_AUDIT, 4, 5);
  AddGap(&response, v1::GAP_CAUSE_LOOP, 6, 6);
  AddGap(&response, v1::GAP_CAUSE_AUDIT, 7, 7);
  AddGap(&response, v1::GAP_CAUSE_INTERVAL, 9, 9);
  AddGap(&response, v1::GAP_CAUSE_AUDIT, 10, 10, /*rank=*/3);
  const auto steps = AuditStepsOf(response, 0);
  GRADTAP_ASSERT_OK(steps);
  ASSERT_EQ(steps->size(), 12u);
  std::string kinds;
  for (const AuditStep& step : *steps) {
    kinds += "+-."[static_cast<int>(step.kind)];
    EXPECT_EQ(step.seconds, 1.0 + static_cast<double>(step.step));
    EXPECT_EQ(step.capture_seconds, 0.25);
  }
  EXPECT_EQ(kinds, "++++--.-++++");
}

TEST(AuditStepsTest, JoinedGapsAndStrangeTimesAreNotCounted) {
  v1::GetSeriesResponse response = Answer(6);
  AddGap(&response, v1::GAP_CAUSE_AUDIT, 1, 3);
  response.mutable_gaps(0)->mutable_gap()->set_steps(2);  // Two of the three.
  response.mutable_series(0)->set_value(
      4, std::numeric_limits<double>::quiet_NaN());
  response.mutable_series(0)->set_value(5, -1);
  response.mutable_series(1)->set_value(
      0, std::numeric_limits<double>::infinity());
  const auto steps = AuditStepsOf(response, 0);
  GRADTAP_ASSERT_OK(steps);
  std::string kinds;
  for (const AuditStep& step : *steps) {
    kinds += "+-."[static_cast<int>(step.kind)];
  }
  EXPECT_EQ(kinds, "+.....");
  EXPECT_EQ((*steps)[0].capture_seconds, 0);
}

TEST(AuditStepsTest, WithoutAnAuditItSaysHowToMakeOne) {
  v1::GetSeriesResponse response = Answer(6);
  AddGap(&response, v1::GAP_CAUSE_BUDGET, 1, 3);
  EXPECT_THAT(
      AuditStepsOf(response, 0),
      StatusIs(absl::StatusCode::kNotFound,
               AllOf(HasSubstr("GRADTAP_AUDIT=50"), HasSubstr("audit_steps"))));
}

TEST(AuditReportTest, TheSentenceSaysWhetherThereIsASlowdown) {
  EXPECT_EQ(AuditSentence(Result(0.0004, -0.0003, 0.0011)),
            "Capture costs 0.4 % of step time (95 % interval -0.3 % to 1.1 %): "
            "no slowdown can be told from noise.");
  EXPECT_EQ(AuditSentence(Result(0.003, 0.0025, 0.0035)),
            "Capture costs 3.0 % of step time (95 % interval 2.5 % to 3.5 %).");
  EXPECT_EQ(AuditSentence(Result(0.00004, 0.00002, 0.00006)),
            "Capture costs 0.04 % of step time (95 % interval 0.02 % to 0.06 "
            "%).");
  EXPECT_THAT(AuditSentence(Result(-0.003, -0.004, -0.002)),
              AllOf(HasSubstr("3.0 % shorter"), HasSubstr("cannot do that")));
  EXPECT_THAT(AuditSentence(Result(0.001, -0.05, 0.052)),
              AllOf(HasSubstr("from noise"), HasSubstr("interval is wide")));
}

TEST(AuditReportTest, TooFewBlocksSaysHowManyStepsMore) {
  AuditReport report;
  report.result = Result(0, 0, 0);
  GRADTAP_EXPECT_OK(CheckEnough(report));
  report.result.comparisons = 1;
  EXPECT_THAT(CheckEnough(report),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("1 block with capture"),
                             HasSubstr("200 steps"), HasSubstr("than 50"))));
}

TEST(AuditReportTest, TableCsvAndJsonSayTheSame) {
  AuditReport report;
  report.run = "=evil\x1b[31m";
  report.rank = 2;
  report.last_step = 1999;
  report.result = Result(0.0004, -0.0003, 0.0011);
  EXPECT_EQ(AuditTable(report, {}),
            "=evil\\x1b[31m  rank 2  steps 0-1999  blocks of 50 steps\n"
            "\n"
            "               STEP TIME  BLOCKS  STEPS\n"
            "with capture  100.400 ms      19    855\n"
            "without       100.000 ms      20    900\n"
            "\n"
            "difference  +0.400 ms (0.4 %) a step, 95 % interval -0.300 ms to "
            "+1.100 ms\n"
            "the agent itself says +0.400 ms (0.4 %)\n"
            "\n"
            "Capture costs 0.4 % of step time (95 % interval -0.3 % to 1.1 %): "
            "no slowdown can be told from noise.\n");
  CsvOptions guarded;
  guarded.spreadsheet = true;
  const std::string csv = AuditCsv(report, guarded);
  EXPECT_THAT(csv,
              AllOf(HasSubstr("run,rank,first_step,last_step,block_steps,"
                              "comparisons,with_blocks,"),
                    HasSubstr("\n'=evil"), HasSubstr(",4e-04,-3e-04,0.0011,")));
  const std::string json = AuditJson(report);
  EXPECT_THAT(json, AllOf(HasSubstr("\"withSteps\": \"855\""),
                          HasSubstr("\"differenceSeconds\": 4e-04,"),
                          HasSubstr("\"summary\": \"Capture costs"),
                          Not(HasSubstr("\x1b"))));
  report.result.lower_seconds = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(AuditJson(report), HasSubstr("\"lowerSeconds\": \"NaN\""));
}

}  // namespace
}  // namespace gradtap::client
