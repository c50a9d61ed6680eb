// gradtap compare against a collector with canned answers.

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class CliCompareTest : public ::testing::Test {
 protected:
  CliCompareTest() {
    collector_.service.runs["compared"] = MakeCompared();
    collector_.service.runs["other"] = MakeCompared();
    FakeRun alike = MakeCompared();
    alike.compared.clear_differences();
    alike.compared.clear_parameter_differences();
    alike.compared.clear_first_diverged_step();
    alike.compared.set_diverged(0);
    collector_.service.runs["alike"] = alike;
    FakeRun empty = alike;
    empty.compared.clear_rows();
    collector_.service.runs["empty"] = empty;
    FakeRun many = MakeCompared();
    for (int i = 0; i < 50; ++i) {
      v1::Difference* one = many.compared.add_differences();
      one->set_parameter("p" + std::to_string(i));
      one->set_what("parameter");
      one->set_other("float32 [1]");
    }
    many.compared.set_parameter_differences(2'000);
    collector_.service.runs["many"] = many;
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args) {
    return RunCli(collector_, std::move(args));
  }

  FakeCollector collector_;
};

TEST_F(CliCompareTest, TheTableSaysWhatDiffersAndWhereSeriesPart) {
  const CliResult result = Run({"compare", "compared", "other"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(
      result.out,
      "compared  beside  other  rank 0  390 steps of both, 10 of the first "
      "alone\n"
      "\n"
      "DIFFERS          compared  other\n"
      "tag.lr           0.1       -\n"
      "fc.weight shape  [3, 4]    [3, 5]\n"
      "\n"
      "PARAM      STAT         DIVERGES AT  RATIO   NOISE  LAST STEP  GOOD  "
      "OTHER  NON-FINITE\n"
      "fc.weight  grad.l2              250     x8  x1.189        389   0.5     "
      " 4        0, 2\n"
      "fc.bias    grad.l2              100     x1  x1.189        389   0.5     "
      " -\n"
      "-          scalar.loss            -      -       -        389   0.5    "
      "0.5\n"
      "\n"
      "3 of 7 series\n"
      "2 of 7 series diverge, the first at step 100: beyond 5 times the noise "
      "of the first for 5 steps in a row.\n");
}

TEST_F(CliCompareTest, RunsThatAreAlikeSaySo) {
  const CliResult result = Run({"compare", "alike", "other"});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("\nSet up alike.\n"));
  EXPECT_THAT(result.out, HasSubstr("\nNone of 7 series diverges: beyond 5"));
  EXPECT_THAT(Run({"compare", "empty", "other"}).out,
              HasSubstr("\nNo series of both to compare.\n"));
}

TEST_F(CliCompareTest, ManyDifferencesAreCounted) {
  const CliResult result = Run({"compare", "many", "other"});
  EXPECT_THAT(result.out, HasSubstr("\np17 "));
  EXPECT_THAT(result.out, Not(HasSubstr("\np18 ")));
  EXPECT_THAT(result.out,
              HasSubstr("\n1,981 more differences; --json lists them\n"));
}

TEST_F(CliCompareTest, CsvHasOneRowASeries) {
  const CliResult result = Run({"compare", "compared", "other", "-o", "csv"});
  EXPECT_EQ(
      result.out,
      "good_run,other_run,rank,param,stat,first_step,steps,steps_beyond,"
      "log2_ratio,noise_log2,last_step,good_value,good_nonfinite,other_value,"
      "other_nonfinite\n"
      "compared,other,0,fc.weight,grad.l2,250,390,140,3,0.25,389,0.5,0,4,2\n"
      "compared,other,0,fc.bias,grad.l2,100,390,140,0,0.25,389,0.5,0,,0\n"
      "compared,other,0,,scalar.loss,,390,140,,,389,0.5,0,0.5,0\n");
}

TEST_F(CliCompareTest, JsonIsTheAnswer) {
  v1::CompareRunsResponse answer;
  const auto status = google::protobuf::util::JsonStringToMessage(
      Run({"compare", "compared", "other", "--json"}).out, &answer);
  ASSERT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(answer.rows_size(), 3);
  EXPECT_FALSE(answer.rows(2).has_first_step());
}

TEST_F(CliCompareTest, EveryOptionReachesTheCollector) {
  EXPECT_EQ(Run({"compare",
                 "compared",
                 "other",
                 "--stat",
                 "grad.rms,scalar.*",
                 "--match",
                 "fc",
                 "--steps",
                 "10:-5",
                 "--rank",
                 "merged",
                 "--attempt",
                 "1",
                 "--other-attempt",
                 "2",
                 "--sort",
                 "step",
                 "-n",
                 "3",
                 "--noise",
                 "6.5",
                 "--in-a-row",
                 "7"})
                .code,
            0);
  const auto sent = collector_.service.Last<v1::CompareRunsRequest>();
  EXPECT_EQ(sent.good_run(), "compared");
  EXPECT_EQ(sent.other_run(), "other");
  EXPECT_THAT(sent.statistics(), ElementsAre("grad.rms", "scalar.*"));
  EXPECT_EQ(sent.match(), "fc");
  EXPECT_EQ(sent.steps().begin(), 10);
  EXPECT_EQ(sent.steps().end(), -5);
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.good_attempt(), 1u);
  EXPECT_EQ(sent.other_attempt(), 2u);
  EXPECT_EQ(sent.order(), v1::COMPARE_ORDER_FIRST_STEP);
  EXPECT_EQ(sent.limit(), 3u);
  EXPECT_EQ(sent.noise_factor(), 6.5);
  EXPECT_EQ(sent.steps_in_a_row(), 7u);
}

TEST_F(CliCompareTest, AnUnknownRunIsNamed) {
  const CliResult result = Run({"compare", "compared", "othr"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("'othr'"));
}

}  // namespace
}  // namespace gradtap::client::testing
