// The examples as their users meet them: piped, interrupted,
// without data, without a collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>
#include <utility>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Of a program that trains, on a machine that does much else.
constexpr std::chrono::seconds kLongestRun{280};

class ExamplesTest : public House {
 protected:
  Environment Env(const std::string& run, Environment more = {}) {
    more.emplace("GRADTAP_COLLECTOR", address());
    more.emplace("GRADTAP_RUN", run);
    return Patient(std::move(more));
  }
  // The run holds exactly `steps` steps and has ended.
  void ExpectFinished(const std::string& run, std::uint64_t steps) {
    EXPECT_TRUE(WaitForState(address(), run, "FINISHED"));
    const RunRow row = FindRun(address(), run);
    EXPECT_EQ(row.stored_steps, steps);
    EXPECT_EQ(row.skipped_steps + row.lost_steps, 0u);
  }
};

TEST_F(ExamplesTest, FashionMnistPipedPrintsPlainLinesAndIsRecorded) {
  const Outcome outcome = RunProgram({FASHION_MNIST_PATH, "--steps", "12"},
                                     Env("fashion"), kLongestRun);
  ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("step 1/12  loss "));
  EXPECT_THAT(outcome.out, HasSubstr("step 12/12  loss "));
  EXPECT_THAT(outcome.out, HasSubstr("steps/s"));
  EXPECT_THAT(outcome.out, HasSubstr("12 steps recorded"));
  // How many of them are stored by then, nobody can say.
  EXPECT_THAT(outcome.out, ContainsRegex(" [0-9]+ stored by " + address()));
  EXPECT_THAT(outcome.out, HasSubstr("test accuracy "));
  EXPECT_EQ(outcome.out.find('\x1b'), std::string::npos);
  EXPECT_EQ(outcome.out.find('\r'), std::string::npos);
  EXPECT_EQ(WithoutNotes(outcome.err), "");
  ExpectFinished("fashion", 12);
  const ParamTable table =
      ParseParams(AskText({"params", "fashion", "--output", "json"}));
  EXPECT_EQ(table.parameter_numel, 206346u);
  EXPECT_EQ(table.buffer_count, 9u);
}

TEST_F(ExamplesTest, CharGptTiesItsWeightsAndPrintsASample) {
  const Outcome outcome =
      RunProgram({CHAR_GPT_PATH, "--steps", "5"}, Env("gpt"), kLongestRun);
  ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("GNU GENERAL"));
  ExpectFinished("gpt", 5);
  const ParamTable table =
      ParseParams(AskText({"params", "gpt", "--output", "json"}));
  for (const ParamRow& row : table.rows) {
    if (row.name == "tokens.weight") {
      EXPECT_EQ(row.aliases, std::vector<std::string>{"head.weight"});
    }
    EXPECT_NE(row.name, "head.weight");
  }
  EXPECT_GT(table.parameter_numel, 650000u);
  EXPECT_LT(table.parameter_numel, 750000u);
}

TEST_F(ExamplesTest, EqualSeedsGiveEqualRuns) {
  for (const char* run : {"one", "two"}) {
    const Outcome outcome =
        RunProgram({CHAR_GPT_PATH, "--steps", "4", "--seed", "9", "--quiet"},
                   Env(run), kLongestRun);
    ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
  }
  const auto losses = [&](const std::string& run) {
    std::vector<std::string> values;
    const Csv csv = AskCsv({"series", run, "--stat", "scalar.loss"});
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      values.push_back(csv.At(row, "value"));
    }
    return values;
  };
  EXPECT_EQ(losses("one").size(), 4u);
  EXPECT_EQ(losses("one"), losses("two"));
}

TEST_F(ExamplesTest, AnInterruptEndsTheLoopAndFinishesTheRun) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run = "interrupted" + std::to_string(signal);
    Process process({CHAR_GPT_PATH, "--steps", "100000"}, Env(run));
    ASSERT_THAT(process.ReadLine().value_or(""), StartsWith("step 1/"));
    process.Signal(signal);
    const std::string rest = process.ReadAll();
    const auto exit = process.Wait();
    ASSERT_TRUE(exit.has_value());
    EXPECT_EQ(exit->code, 0) << process.Errors();
    EXPECT_THAT(rest, HasSubstr("interrupted\n"));
    const RunRow row = FindRun(address(), run);
    EXPECT_THAT(
        rest, HasSubstr(std::to_string(row.stored_steps) + " steps recorded"));
    // Both end the run in order; neither leaves it to be taken for lost.
    EXPECT_NE(row.state, "RUNNING");
    EXPECT_NE(row.state, "LOST");
  }
}

TEST_F(ExamplesTest, DisabledAndWithoutACollectorTheyTrainOn) {
  const Outcome disabled = RunProgram({CHAR_GPT_PATH, "--steps", "2"},
                                      Env("off", {{"GRADTAP_DISABLED", "1"}}));
  EXPECT_EQ(disabled.exit.code, 0);
  EXPECT_THAT(disabled.out, HasSubstr("agent: disabled"));
  EXPECT_EQ(disabled.err, "");
  const std::string away = "127.0.0.1:" + std::to_string(FreePort());
  const Outcome alone =
      RunProgram({CHAR_GPT_PATH, "--steps", "2"},
                 {{"GRADTAP_COLLECTOR", away}, {"GRADTAP_SHUTDOWN_MS", "200"}});
  EXPECT_EQ(alone.exit.code, 0);
  EXPECT_THAT(alone.out, HasSubstr("2 steps recorded, 0 skipped, 0 lost"));
  EXPECT_THAT(alone.err, HasSubstr(away));
}

TEST_F(ExamplesTest, MissingDataNamesThePackageAndTheFile) {
  const Outcome images = RunProgram({FASHION_MNIST_PATH, "--data", "/nowhere"});
  EXPECT_EQ(images.exit.code, 1);
  EXPECT_THAT(images.err, HasSubstr("/nowhere/train-images-idx3-ubyte.gz"));
  EXPECT_THAT(images.err, HasSubstr("dataset-fashion-mnist"));
  EXPECT_EQ(Lines(images.err).size(), 1u);
  const Outcome text = RunProgram({CHAR_GPT_PATH, "/nowhere.txt"});
  EXPECT_EQ(text.exit.code, 1);
  EXPECT_THAT(text.err, HasSubstr("/nowhere.txt"));
  const Outcome usage = RunProgram({CHAR_GPT_PATH, "--steps", "-1"});
  EXPECT_EQ(usage.exit.code, 2);
  const Outcome help = RunProgram({FASHION_MNIST_PATH, "--help"});
  EXPECT_EQ(help.exit.code, 0);
  EXPECT_THAT(help.out, HasSubstr("fashion_mnist --steps"));
}

TEST_F(ExamplesTest, DamagedDataIsNamed) {
  TempDir dir;
  const std::string path = dir.path() + "/train-images-idx3-ubyte.gz";
  for (const std::string& content :
       {std::string("not an idx file"), std::string("\0\0\x08\x03", 4),
        std::string("\0\0\x08\x03\x7f\xff\xff\xff\x7f\xff\xff\xff\0\0\0\1",
                    16)}) {
    WriteFile(path, content);
    WriteFile(dir.path() + "/train-labels-idx1-ubyte.gz", content);
    const Outcome outcome =
        RunProgram({FASHION_MNIST_PATH, "--data", dir.path()});
    EXPECT_EQ(outcome.exit.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(path));
  }
}

}  // namespace
}  // namespace gradtap::testing
