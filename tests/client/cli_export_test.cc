#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "client/cli_run.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class CliExportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = MakeMnist();
    std::vector<double> values(1000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = i * 0.5;
    collector_.service.runs["long"] = MakeValues("long", values);
    collector_.Start();
  }
  FakeCollector collector_;
};

TEST_F(CliExportTest, EverythingStoredIsThereOnce) {
  const auto rows = ReadCsv(RunCli(collector_, {"export", "mnist"}).out);
  std::vector<std::vector<std::string>> expected;
  std::size_t values = 0;
  for (const v1::Series& series : MakeMnist().series) {
    // Derived ones are not stored.
    if (series.statistic() != "grad.l2") values += series.step_size();
  }
  EXPECT_EQ(rows.size(), values + 1);
  auto sorted = rows;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::adjacent_find(sorted.begin(), sorted.end()), sorted.end());
}

TEST_F(CliExportTest, APatternThatMatchesNothingWritesNothing) {
  const CliResult result =
      RunCli(collector_, {"export", "mnist", "--match", "zzz"});
  EXPECT_EQ(result.code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(RunCli(collector_, {"export", "mnist", "--file", ""}).code, 2);
  EXPECT_EQ(RunCli(collector_, {"export", "mnist", "--rank", "0,merged"}).code,
            2);
}

TEST_F(CliExportTest, OlderAttemptsAreNamed) {
  EXPECT_EQ(RunCli(collector_, {"export", "mnist"}).err, "");
  collector_.service.runs["mnist"].info.add_attempts()->set_attempt(2);
  const CliResult result = RunCli(collector_, {"export", "mnist"});
  EXPECT_EQ(result.code, 0);
  EXPECT_NE(result.err.find("--attempt 1"), std::string::npos) << result.err;
}

TEST_F(CliExportTest, StepsComeInOrder) {
  const auto rows = ReadCsv(RunCli(collector_, {"export", "long"}).out);
  ASSERT_EQ(rows.size(), 1000u * 18 + 1);
  for (std::size_t i = 2; i < rows.size(); ++i) {
    EXPECT_LE(std::stoll(rows[i - 1][3]), std::stoll(rows[i][3]));
  }
}

TEST_F(CliExportTest, ChunksShrinkUntilTheCollectorAgrees) {
  const std::string whole = RunCli(collector_, {"export", "long"}).out;
  const int calls = collector_.service.calls;
  collector_.service.most_values = 100;
  const CliResult result = RunCli(collector_, {"export", "long"});
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, whole);
  EXPECT_GT(collector_.service.calls - calls, 100);
}

TEST_F(CliExportTest, AStepThatIsTooLargeAloneIsRefused) {
  collector_.service.most_values = 5;
  const CliResult result = RunCli(collector_, {"export", "long"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("more than 5 values"));
}

TEST_F(CliExportTest, StepsSliceLikePython) {
  const auto count = [&](const char* slice) {
    return ReadCsv(RunCli(collector_, {"export", "long", "--stat",
                                       "weight.mean", "--steps", slice})
                       .out)
               .size() -
           1;
  };
  EXPECT_EQ(count("10:20"), 10u);
  EXPECT_EQ(count("-100:"), 100u);
  EXPECT_EQ(count(":50"), 50u);
  EXPECT_EQ(count(":-990"), 10u);
  EXPECT_EQ(count("20:10"), 0u);
  EXPECT_EQ(count("5000:"), 0u);
  EXPECT_EQ(count("-5000:3"), 3u);
  EXPECT_EQ(count(":"), 1000u);
}

TEST_F(CliExportTest, JsonLinesHaveOneObjectAParameterAndStep) {
  const auto lines =
      Lines(RunCli(collector_, {"export", "mnist", "--format", "jsonl"}).out);
  // Four steps of: a weight, a buffer, the scalars.
  EXPECT_EQ(lines.size(), 12u);
  EXPECT_THAT(lines[0],
              StartsWith("{\"run\":\"mnist\",\"attempt\":1,\"rank\":0,"
                         "\"step\":0,\"time\":\"2023-11-14T22:13:20.123456789Z"
                         "\",\"param\":\"encoder.0.weight\","));
  EXPECT_EQ(lines,
            Lines(RunCli(collector_, {"export", "mnist", "--json"}).out));
}

TEST_F(CliExportTest, AFileAppearsCompleteOrNotAtAll) {
  gradtap::testing::TempDir dir;
  const std::string path = dir.path() + "/out.csv";
  const CliResult result =
      RunCli(collector_, {"export", "long", "--file", path});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "gradtap: 18,000 values written to " + path + "\n");
  EXPECT_EQ(ReadAll(path), RunCli(collector_, {"export", "long"}).out);
  EXPECT_NE(::access((path + ".part").c_str(), F_OK), 0);

  const std::string other = dir.path() + "/other.csv";
  collector_.service.most_values = 5;
  EXPECT_EQ(RunCli(collector_, {"export", "long", "--file", other}).code, 1);
  EXPECT_NE(::access(other.c_str(), F_OK), 0);
  EXPECT_NE(::access((other + ".part").c_str(), F_OK), 0);
}

TEST_F(CliExportTest, DashIsStandardOutput) {
  const CliResult dash = RunCli(collector_, {"export", "mnist", "--file", "-"});
  const CliResult plain = RunCli(collector_, {"export", "mnist"});
  EXPECT_EQ(dash.code, 0) << dash.err;
  EXPECT_EQ(plain.code, 0) << plain.err;
  EXPECT_EQ(dash.out, plain.out);
}

TEST_F(CliExportTest, AFileThatCannotBeMadeIsNamed) {
  const CliResult result =
      RunCli(collector_, {"export", "mnist", "--file", "/nowhere/x.csv"});
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, HasSubstr("'/nowhere/x.csv': No such file"));
}

TEST_F(CliExportTest, ARunWithoutStepsIsAHeaderAlone) {
  FakeRun empty = MakeValues("empty", {});
  empty.series.clear();
  collector_.service.runs["empty"] = empty;
  const CliResult result = RunCli(collector_, {"export", "empty"});
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.out, "run,attempt,rank,step,time,param,stat,value\n");
}

}  // namespace
}  // namespace gradtap::client::testing
