// gradtap top against a collector with canned answers.

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class CliTopTest : public ::testing::Test {
 protected:
  CliTopTest() {
    collector_.service.runs["ranked"] = MakeRanked();
    FakeRun value = MakeRanked();
    value.top.clear_since_step();
    value.top.set_order(v1::TOP_ORDER_VALUE);
    value.top.set_ranked(3);
    collector_.service.runs["value"] = value;
    FakeRun difference = MakeRanked();
    difference.top.set_order(v1::TOP_ORDER_DIFFERENCE);
    difference.top.mutable_rows(1)->set_score(3.5);
    collector_.service.runs["difference"] = difference;
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args) {
    return RunCli(collector_, std::move(args));
  }

  FakeCollector collector_;
};

TEST_F(CliTopTest, AChangeShowsBothValuesAndHowManyTimes) {
  const CliResult result = Run({"top", "ranked", "--since-step", "20"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out,
            "ranked  attempt 1  rank 0  step 40  2023-11-14 22:14:00.000Z  "
            "since step 20\n"
            "grad.l2\n"
            "\n"
            "PARAM        AT 20  AT 40  CHANGE  NON-FINITE\n"
            "conv.weight   0.25    NaN       -          12\n"
            "fc.weight      0.5      4      x8\n"
            "fc.bias          -      -       -\n"
            "\n"
            "3 of 9 parameters; 1 parameter with what is not finite\n");
  EXPECT_THAT(Run({"top", "difference", "--since-step", "20"}).out,
              HasSubstr("fc.weight      0.5      4    +3.5\n"));
}

TEST_F(CliTopTest, AValueIsOneColumn) {
  const CliResult result = Run({"top", "value"});
  EXPECT_THAT(result.out, HasSubstr("\nPARAM        grad.l2  NON-FINITE\n"
                                    "conv.weight      NaN          12\n"
                                    "fc.weight          4\n"));
  EXPECT_THAT(result.out, HasSubstr("\n1 parameter with what is not finite\n"));
}

TEST_F(CliTopTest, CsvTellsAbsentFromNotANumber) {
  const CliResult result =
      Run({"top", "ranked", "--since-step", "20", "-o", "csv"});
  EXPECT_EQ(
      result.out,
      "run,attempt,rank,step,time,param,kind,stat,value,nonfinite,since_step,"
      "since_value,since_nonfinite,score\n"
      "ranked,1,0,40,2023-11-14T22:14:00.000000000Z,conv.weight,parameter,"
      "grad.l2,NaN,12,20,0.25,0,\n"
      "ranked,1,0,40,2023-11-14T22:14:00.000000000Z,fc.weight,parameter,"
      "grad.l2,4,0,20,0.5,0,3\n"
      "ranked,1,0,40,2023-11-14T22:14:00.000000000Z,fc.bias,parameter,"
      "grad.l2,,0,20,,0,\n");
  EXPECT_THAT(Run({"top", "value", "-o", "csv"}).out,
              HasSubstr("fc.weight,parameter,grad.l2,4,0,,,,3\n"));
}

TEST_F(CliTopTest, JsonIsTheAnswer) {
  v1::GetTopResponse answer;
  const auto status = google::protobuf::util::JsonStringToMessage(
      Run({"top", "ranked", "--json"}).out, &answer);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(answer.rows_size(), 3);
  EXPECT_EQ(answer.since_step(), 20);
}

TEST_F(CliTopTest, EveryOptionReachesTheCollector) {
  EXPECT_EQ(Run({"top", "ranked", "--stat", "grad.rms", "--step", "-1",
                 "--since-step", "-9", "--by", "growth", "--ascending", "-n",
                 "5", "--match", "conv", "--rank", "merged", "--attempt", "2"})
                .code,
            0);
  const auto sent = collector_.service.Last<v1::GetTopRequest>();
  EXPECT_EQ(sent.statistic(), "grad.rms");
  EXPECT_EQ(sent.step(), -1);
  EXPECT_EQ(sent.since_step(), -9);
  EXPECT_EQ(sent.order(), v1::TOP_ORDER_GROWTH);
  EXPECT_TRUE(sent.ascending());
  EXPECT_EQ(sent.limit(), 5u);
  EXPECT_EQ(sent.match(), "conv");
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.attempt(), 2u);
  Run({"top", "ranked"});
  const auto plain = collector_.service.Last<v1::GetTopRequest>();
  EXPECT_FALSE(plain.has_step());
  EXPECT_FALSE(plain.has_since_step());
  EXPECT_EQ(plain.order(), v1::TOP_ORDER_UNSPECIFIED);
}

TEST_F(CliTopTest, NothingToRankIsNoError) {
  collector_.service.runs["value"].top.clear_rows();
  const CliResult result = Run({"top", "value"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("No parameter has it"));
  EXPECT_THAT(Run({"top", "value", "-o", "csv"}).out, StartsWith("run,"));
}

}  // namespace
}  // namespace gradtap::client::testing
