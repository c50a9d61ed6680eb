// Four processes that average their gradients, against one process on the whole
// batch, and against shards of the same parameters.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr int kRanks = 4;
constexpr int kSteps = 30;

// Values by (rank, parameter, statistic, step).
using Key = std::tuple<std::string, std::string, std::string, std::string>;
using Values = std::map<Key, double>;

// Newer versions of Gloo say by themselves that they are connected.
std::string WithoutGloo(const std::string& err) {
  std::string rest;
  for (const std::string& line : Lines(err)) {
    if (line.rfind("[./gloo/", 0) != 0 || line.find("] INFO ") == line.npos) {
      rest += line + '\n';
    }
  }
  return rest;
}

class DataParallelTest : public House {
 protected:
  Outcome Train(const std::string& run, std::vector<std::string> more = {}) {
    std::vector<std::string> argv = {DATA_PARALLEL_PATH, "--quiet", "--steps",
                                     std::to_string(kSteps)};
    argv.insert(argv.end(), more.begin(), more.end());
    return RunProgram(argv, Env(run), std::chrono::seconds(120));
  }
  void MustTrain(const std::string& run, std::vector<std::string> more = {}) {
    const Outcome outcome = Train(run, std::move(more));
    ASSERT_EQ(outcome.exit.code, 0) << outcome.err;
    EXPECT_EQ(WithoutNotes(WithoutGloo(outcome.err)), "");
  }
  Environment Env(const std::string& run) {
    return Patient({{"GRADTAP_COLLECTOR", address()}, {"GRADTAP_RUN", run}});
  }
  Values Series(const std::string& run, const std::string& statistics,
                const std::string& ranks) {
    Values values;
    const Csv csv =
        AskCsv({"series", run, "--stat", statistics, "--rank", ranks});
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      const std::string& value = csv.At(row, "value");
      if (value.empty()) continue;  // Absent: the update of the first step.
      values[{csv.At(row, "rank"), csv.At(row, "param"), csv.At(row, "stat"),
              csv.At(row, "step")}] = Number(value);
    }
    return values;
  }
  // The first step at which `statistic` of `rank` is above 0; -1: none.
  std::int64_t FirstAboveZero(const std::string& run,
                              const std::string& statistic, int rank) {
    std::int64_t first = -1;
    for (const auto& [key, value] :
         Series(run, statistic, std::to_string(rank))) {
      const std::int64_t step = std::stoll(std::get<3>(key));
      if (value > 0 && (first < 0 || step < first)) first = step;
    }
    return first;
  }
};

// Each value of `mine` is within `relative` of the one of `theirs` that has the
// same parameter, statistic and step.
void ExpectNear(const Values& mine, const Values& theirs, double relative) {
  ASSERT_EQ(mine.size(), theirs.size());
  auto other = theirs.begin();
  for (const auto& [key, value] : mine) {
    const auto& [rank, parameter, statistic, step] = key;
    EXPECT_EQ(parameter, std::get<1>(other->first));
    EXPECT_EQ(statistic, std::get<2>(other->first));
    EXPECT_EQ(step, std::get<3>(other->first));
    EXPECT_NEAR(value, other->second, relative * std::abs(value) + 1e-9)
        << parameter << ' ' << statistic << " at step " << step;
    ++other;
  }
}

TEST_F(DataParallelTest, FourRanksAreOneAttemptAndMergeToAnyOfTheReplicas) {
  MustTrain("four");
  const RunRow run = FindRun(address(), "four");
  EXPECT_EQ(run.state, "FINISHED");
  EXPECT_EQ(run.attempts, 1u);
  EXPECT_EQ(run.stored_steps, std::uint64_t{kRanks} * kSteps);
  EXPECT_EQ(run.skipped_steps + run.lost_steps, 0u);

  const std::string statistics =
      "grad.l2,grad.mean,grad.std,grad.min,grad.max,grad.zero,weight.l2,"
      "weight.mean,update.l2";
  const Values merged = Series("four", statistics, "merged");
  // 6 parameters; the first step has no update.
  EXPECT_EQ(merged.size(), 6u * (9 * kSteps - 1));
  for (int rank = 0; rank < kRanks; ++rank) {
    ExpectNear(Series("four", statistics, std::to_string(rank)), merged, 0);
  }
}

TEST_F(DataParallelTest, TheMeanOfTheLocalGradientsIsWhatTheOptimizerGets) {
  MustTrain("four");
  const Values averaged = Series("four", "grad.mean", "merged");
  EXPECT_EQ(averaged.size(), 6u * kSteps);
  const Values local =
      Series("four", "grad_local.mean,grad_local.abs_mean", "0,1,2,3");
  bool ranks_differ = false;
  for (const auto& [key, mean] : averaged) {
    const std::string& parameter = std::get<1>(key);
    const std::string& step = std::get<3>(key);
    double sum = 0, size = 0, first = 0;
    for (int rank = 0; rank < kRanks; ++rank) {
      const std::string r = std::to_string(rank);
      const auto of = [&](const char* what) {
        const auto found = local.find({r, parameter, what, step});
        EXPECT_NE(found, local.end()) << what << ' ' << parameter << ' ' << r;
        return found == local.end() ? NAN : found->second;
      };
      const double value = of("grad_local.mean");
      if (rank == 0) first = value;
      ranks_differ |= value != first;
      sum += value;
      size += of("grad_local.abs_mean");
    }
    EXPECT_NEAR(sum / kRanks, mean, 1e-5 * size / kRanks)
        << parameter << " at step " << step;
  }
  EXPECT_TRUE(ranks_differ);
}

TEST_F(DataParallelTest, RanksAndShardsAnswerLikeOneProcessOnTheWholeBatch) {
  MustTrain("one", {"--spawn", "1"});
  MustTrain("four");
  MustTrain("sharded", {"--shard"});
  EXPECT_EQ(FindRun(address(), "one").stored_steps, std::uint64_t{kSteps});
  EXPECT_EQ(FindRun(address(), "sharded").stored_steps,
            std::uint64_t{kRanks} * kSteps);
  const std::string statistics =
      "weight.l2,weight.l1,weight.abs_max,grad.l2,grad.abs_mean,update.l2,"
      "update.ratio";
  const Values one = Series("one", statistics, "0");
  EXPECT_EQ(one.size(), 6u * (7 * kSteps - 2));
  ExpectNear(one, Series("four", statistics, "merged"), 1e-3);
  ExpectNear(one, Series("sharded", statistics, "merged"), 1e-3);
  // A shard alone is less than the whole.
  const Values shard = Series("sharded", "weight.l2", "2");
  for (const auto& [key, whole] : Series("sharded", "weight.l2", "merged")) {
    const auto& [rank, parameter, statistic, step] = key;
    (void)rank;
    const auto part = shard.find({"2", parameter, statistic, step});
    ASSERT_NE(part, shard.end());
    EXPECT_LT(part->second, whole);
  }
}

TEST_F(DataParallelTest, ShardsAreOfOneModelWithTheirPlacement) {
  MustTrain("sharded", {"--shard"});
  const ParamTable table =
      ParseParams(AskText({"params", "sharded", "--output", "json"}));
  ASSERT_EQ(table.parameter_count, 6u);
  EXPECT_THAT(AskText({"params", "sharded", "--output", "json"}),
              HasSubstr("PLACEMENT_SHARDED"));
  // 10 rows among 4 ranks: 2, 3, 2, 3.
  EXPECT_THAT(table.rows.back().name, "fc3.bias");
  EXPECT_THAT(table.rows.back().shape, ElementsAre(2));
}

TEST_F(DataParallelTest, TheLocalGradientTellsWhichRankWentNanFirst) {
  MustTrain("poisoned", {"--poison-rank", "2", "--poison-step", "20"});
  for (int rank = 0; rank < kRanks; ++rank) {
    EXPECT_EQ(FirstAboveZero("poisoned", "grad.nan", rank), 20) << rank;
    // Of the others, the NaN weights of that step make it the next.
    EXPECT_EQ(FirstAboveZero("poisoned", "grad_local.nan", rank),
              rank == 2 ? 20 : 21)
        << rank;
    EXPECT_EQ(FirstAboveZero("poisoned", "weight.nan", rank), 20) << rank;
  }
}

TEST_F(DataParallelTest, FirstBadNamesRankParameterAndStepAndThereIsOneAlert) {
  MustTrain("poisoned", {"--poison-rank", "2", "--poison-step", "20"});
  const Csv bad = AskCsv({"first-bad", "poisoned"});
  ASSERT_GT(bad.rows(), 0u);
  int local = 0;
  for (std::size_t row = 0; row < bad.rows(); ++row) {
    // Nothing went before step 20, and what was local to it was rank 2's.
    EXPECT_GE(std::stoll(bad.At(row, "step")), 20);
    if (bad.At(row, "what") != "grad_local") continue;
    if (bad.At(row, "step") != "20") continue;
    ++local;
    EXPECT_EQ(bad.At(row, "rank"), "2");
    EXPECT_EQ(bad.At(row, "after_step"), "19");
    EXPECT_NE(bad.At(row, "param"), "");
  }
  EXPECT_GT(local, 0);
  EXPECT_EQ(bad.At(0, "rank"), "2");
  EXPECT_THAT(AskText({"first-bad", "poisoned"}),
              Not(HasSubstr("rank of origin unknown")));
  // The rules are a moment behind what is stored.
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::seconds(120);
  Csv alerts = AskCsv({"alerts", "poisoned"});
  while ((alerts.rows() == 0 || alerts.At(0, "state") == "active") &&
         std::chrono::steady_clock::now() < deadline) {
    alerts = AskCsv({"alerts", "poisoned"});
  }
  ASSERT_EQ(alerts.rows(), 1u);
  EXPECT_EQ(alerts.At(0, "rule"), "nonfinite");
  EXPECT_EQ(alerts.At(0, "first_step"), "20");
  EXPECT_EQ(alerts.At(0, "rank"), "2");
  EXPECT_THAT(alerts.At(0, "summary"), HasSubstr("step 20 on rank 2"));
  EXPECT_EQ(alerts.At(0, "ranks"), "4");
  EXPECT_EQ(alerts.At(0, "state"), "run ended");
}

TEST_F(DataParallelTest, AnInterruptEndsAllRanksAfterTheSameStep) {
  Process process({DATA_PARALLEL_PATH, "--steps", "10000000"},
                  Env("interrupted"));
  ASSERT_THAT(process.ReadLine().value_or(""), StartsWith("step 1/"));
  process.Signal(SIGTERM);
  const std::string rest = process.ReadAll();
  const auto exit = process.Wait();
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->code, 0) << process.Errors();
  EXPECT_THAT(rest, HasSubstr("interrupted\n"));
  const RunRow run = FindRun(address(), "interrupted");
  EXPECT_EQ(run.stored_steps,
            kRanks * static_cast<std::uint64_t>(run.last_step + 1));
}

TEST_F(DataParallelTest, ARankThatIsKilledEndsTheOthersAndTheirStepsAreStored) {
  Process process({DATA_PARALLEL_PATH, "--steps", "10000000"}, Env("killed"));
  ASSERT_THAT(process.ReadLine().value_or(""), StartsWith("step 1/"));
  const std::string pid = std::to_string(process.pid());
  std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
  std::vector<pid_t> ranks;
  for (pid_t rank = 0; children >> rank;) ranks.push_back(rank);
  ASSERT_EQ(ranks.size(), std::size_t{kRanks});
  ASSERT_EQ(::kill(ranks[1], SIGKILL), 0);
  const auto exit = process.Wait();
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->code, 128 + SIGKILL) << process.Errors();
  EXPECT_GE(FindRun(address(), "killed").stored_steps, 1u);
}

TEST_F(DataParallelTest, WrongPlacesAreNamed) {
  const auto says = [&](std::vector<std::string> more, Environment env,
                        int exit_code, const std::string& text) {
    more.insert(more.begin(), DATA_PARALLEL_PATH);
    const Outcome outcome = RunProgram(more, env);
    EXPECT_EQ(outcome.exit.code, exit_code) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(text));
    EXPECT_EQ(Lines(outcome.err).size(), 1u) << outcome.err;
  };
  says({"--batch", "66"}, {}, 2, "--batch 66 cannot be divided among 4 ranks");
  says({"--poison-rank", "4"}, {}, 2, "--poison-rank 4");
  says({}, {{"RANK", "1"}, {"WORLD_SIZE", "2"}}, 2, "--store");
  says({}, {{"RANK", "2"}, {"WORLD_SIZE", "2"}}, 2, "RANK is 2");
  says({"--data", "/nowhere"}, {}, 1, "/nowhere/train-images-idx3-ubyte.gz");
}

}  // namespace
}  // namespace gradtap::testing
