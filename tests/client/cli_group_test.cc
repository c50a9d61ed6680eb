// --merge: parameters taken together, against a collector with canned answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CliGroupTest : public ::testing::Test {
 protected:
  CliGroupTest() {
    collector_.service.runs["grouped"] = MakeGrouped();
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args) {
    return RunCli(collector_, std::move(args));
  }

  FakeCollector collector_;
};

TEST_F(CliGroupTest, SeriesAsksForEachPatternAndNamesTheGroup) {
  const CliResult result =
      Run({"series", "grouped", "--stat", "grad.l2", "--merge", "^encoder",
           "--merge", "a{1,2}", "--rank", "merged"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("/^encoder/  grad.l2    2.5\n"));
  EXPECT_THAT(result.out, HasSubstr("\n/^encoder/: 12 parameters together\n"));
  const auto sent = collector_.service.Last<v1::GetSeriesRequest>();
  // A comma is the pattern's.
  EXPECT_THAT(sent.merge_match(), ElementsAre("^encoder", "a{1,2}"));
  EXPECT_TRUE(sent.merged());
}

TEST_F(CliGroupTest, SeriesAsCsvHasTheGroupAsItsParameter) {
  EXPECT_THAT(Run({"series", "grouped", "--stat", "grad.l2", "--merge",
                   "^encoder", "-o", "csv"})
                  .out,
              HasSubstr(",/^encoder/,grad.l2,1.5\n"));
}

TEST_F(CliGroupTest, SnapshotHasARowForTheGroup) {
  const CliResult result =
      Run({"snapshot", "grouped", "--merge", "^encoder", "--sort", "grad.l2"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\n/^encoder/      2.5\n"
                                    "\n/^encoder/: 12 parameters together\n"));
  EXPECT_THAT(collector_.service.Last<v1::GetSnapshotRequest>().merge_match(),
              ElementsAre("^encoder"));
  EXPECT_THAT(
      Run({"snapshot", "grouped", "--merge", "^encoder", "-o", "csv"}).out,
      HasSubstr(",/^encoder/,group,2.5\n"));
}

}  // namespace
}  // namespace gradtap::client::testing
