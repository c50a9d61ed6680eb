// gradtap heatmap against a collector with canned answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "client/cli_run.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;

FakeRun MakeMapped() {
  FakeRun run;
  v1::GetHeatMapResponse& map = run.heat_map;
  map.set_run("mapped");
  map.set_attempt(2);
  map.set_statistic("grad.l2");
  map.set_bucket_steps(64);
  for (int i = 0; i < 2; ++i) {
    v1::HeatMapBucket* bucket = map.add_buckets();
    bucket->set_first_step(64 * i);
    bucket->set_last_step(64 * i + 63);
    bucket->set_recorded(64);
    bucket->set_first_time_unix_ns(1'700'000'000'000'000'000);
  }
  v1::HeatMapRow* row = map.add_rows();
  row->set_parameter("conv.weight");
  row->set_kind(v1::KIND_PARAMETER);
  row->add_worst(1);
  row->add_worst(100);
  row->set_flags(std::string("\0\1", 2));
  row = map.add_rows();
  row->set_parameter("b\033[31m");
  row->add_worst(NAN);
  row->add_worst(100);
  return run;
}

class CliHeatMapTest : public ::testing::Test {
 protected:
  CliHeatMapTest() {
    collector_.service.runs["mapped"] = MakeMapped();
    collector_.Start();
  }

  CliResult Run(std::vector<std::string> args) {
    return RunCli(collector_, std::move(args));
  }

  FakeCollector collector_;
};

TEST_F(CliHeatMapTest, AStripAParameterOnOneScale) {
  const CliResult result = Run({"heatmap", "mapped"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("mapped  attempt 2  rank 0  grad.l2\n"));
  EXPECT_THAT(result.out, HasSubstr("0 to 127, 64 recorded steps a column"));
  EXPECT_THAT(result.out, HasSubstr("\nconv.weight  .x\n"));
  EXPECT_THAT(result.out, HasSubstr("\nb\\x1b[31m     @\n"));
  EXPECT_EQ(collector_.service.Last<v1::GetHeatMapRequest>().max_buckets(),
            64U);
}

TEST_F(CliHeatMapTest, CsvHasARowForEachCellThatHasSomething) {
  const CliResult result = Run({"heatmap", "mapped", "-o", "csv"});
  EXPECT_EQ(result.out,
            "run,attempt,rank,first_step,last_step,recorded,time,param,kind,"
            "stat,worst,nonfinite,absent\n"
            "mapped,2,0,0,63,64,2023-11-14T22:13:20.000000000Z,conv.weight,"
            "parameter,grad.l2,1,0,0\n"
            "mapped,2,0,64,127,64,2023-11-14T22:13:20.000000000Z,conv.weight,"
            "parameter,grad.l2,100,1,0\n"
            "mapped,2,0,64,127,64,2023-11-14T22:13:20.000000000Z,b\033[31m,"
            "unknown,grad.l2,100,0,0\n");
  EXPECT_EQ(collector_.service.Last<v1::GetHeatMapRequest>().max_buckets(), 0U);
}

TEST_F(CliHeatMapTest, OptionsBecomeTheRequest) {
  const CliResult result =
      Run({"heatmap", "mapped", "--stat", "update.ratio", "--match", "conv",
           "--steps", "-100:", "--columns", "7", "--rank", "3", "--attempt",
           "2", "-o", "json"});
  EXPECT_EQ(result.code, 0) << result.err;
  const auto request = collector_.service.Last<v1::GetHeatMapRequest>();
  EXPECT_EQ(request.statistic(), "update.ratio");
  EXPECT_EQ(request.match(), "conv");
  EXPECT_EQ(request.steps().begin(), -100);
  EXPECT_FALSE(request.steps().has_end());
  EXPECT_EQ(request.max_buckets(), 7U);
  EXPECT_EQ(request.rank(), 3U);
  EXPECT_EQ(request.attempt(), 2U);
  EXPECT_THAT(result.out, HasSubstr("\"bucketSteps\":"));
}

TEST_F(CliHeatMapTest, RanksMayBeMerged) {
  collector_.service.runs["mapped"].heat_map.set_rank(4294967295U);
  const CliResult result = Run({"heatmap", "mapped", "--rank", "merged"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("rank merged"));
  EXPECT_TRUE(collector_.service.Last<v1::GetHeatMapRequest>().merged());
  const CliResult both = Run({"heatmap", "mapped", "--rank", "0,merged"});
  EXPECT_EQ(both.code, 2);
  EXPECT_THAT(both.err, HasSubstr("a heat map is of one rank, or merged"));
}

}  // namespace
}  // namespace gradtap::client::testing
