// A training program with LibTorch and the agent that is killed, again and
// again; what it leaves is drained, and compared with what it had told of each
// step that Agent::Step had returned from.

#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "faults/feed.h"
#include "faults/leftovers.h"
#include "faults/progress.h"
#include "integration/collector.h"
#include "integration/csv.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

namespace fs = std::filesystem;
using std::chrono::microseconds;

constexpr std::chrono::seconds kPatience{60};

// Parameter (empty: a scalar) and statistic -> step -> value.
using Stored = std::map<std::pair<std::string, std::string>,
                        std::map<std::int64_t, double>>;

class TrainerKillTest : public ::testing::Test {
 protected:
  struct Kill {
    bool collector = true;  // Else nobody listens: the ring spills.
    // While the agent attaches and hands over its first steps; else after
    // this many.
    bool early = false;
    std::uint64_t steps = 0;
    microseconds later{0};
  };

  Environment AgentOptions(const std::string& run, bool collector) const {
    return {{"GRADTAP_COLLECTOR", collector ? collector_.address() : nobody_},
            {"GRADTAP_RUN", run},
            // From a quarter on it spills, from a half on steps are thinned:
            // the disk may be busy for as long as the trainer takes in between.
            {"GRADTAP_RING_BYTES", "16777216"},
            {"GRADTAP_RING_FOLDER", rings_},
            {"GRADTAP_SPOOL", spool_},
            {"OMP_NUM_THREADS", "1"}};
  }

  void Await(const Kill& kill, const SharedProgress& progress,
             Process* trainer) const {
    while (kill.early ? !progress->attaching.load(std::memory_order_acquire)
                      : progress->returned.load() < kill.steps) {
      std::this_thread::sleep_for(microseconds(100));
      ASSERT_TRUE(trainer->running()) << trainer->Errors();
    }
    // Its kind is the one whose ring has spilled by then.
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (!kill.collector && !kill.early && !SpoolHasRecords() &&
           std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(microseconds(100));
      ASSERT_TRUE(trainer->running()) << trainer->Errors();
    }
    std::this_thread::sleep_for(kill.later);
  }

  // All that is stored of a run; what comes twice fails the test.
  Stored Export(const std::string& run) const {
    const Outcome out = Gradtap(collector_.address(),
                                {"export", run, "--format", "csv", "--stat",
                                 "scalar.loss,grad.max,weight.max"});
    EXPECT_EQ(out.exit.code, 0) << out.err;
    const Csv csv = Csv::Parse(out.out);
    Stored stored;
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      const std::int64_t step = std::stoll(csv.At(row, "step"));
      const bool first = stored[{csv.At(row, "param"), csv.At(row, "stat")}]
                             .emplace(step, Number(csv.At(row, "value")))
                             .second;
      EXPECT_TRUE(first) << csv.At(row, "stat") << " of step " << step
                         << " twice";
    }
    return stored;
  }

  // That each step that the trainer has told of is stored with the values that
  // it has told, and at most one more. Returns how many are.
  std::uint64_t Check(const std::string& run,
                      const SharedProgress& progress) const {
    const std::uint64_t returned = progress->returned.load();
    const RunRow row = FindRun(collector_.address(), run);
    if (row.stored_steps == 0) {  // Killed before there was one.
      EXPECT_EQ(returned, 0u);
      return 0;
    }
    EXPECT_EQ(row.lost_steps, 0u);
    EXPECT_EQ(row.skipped_steps, 0u);
    const std::uint64_t steps = row.stored_steps;
    EXPECT_GE(steps, returned);
    EXPECT_LE(steps, returned + 1);
    Stored told;
    for (std::uint64_t n = 0; n < steps; ++n) {
      const auto step = static_cast<std::int64_t>(n);
      const StepReport& report = progress->steps[n];
      told[{"", "scalar.loss"}][step] = report.loss;
      for (std::size_t i = 0; i < kTrained.size(); ++i) {
        told[{kTrained[i], "grad.max"}][step] = report.largest_grad[i];
        told[{kTrained[i], "weight.max"}][step] = report.largest_weight[i];
      }
    }
    Stored stored = Export(run);
    if (steps > returned) {  // Nobody has told what became of the weights.
      for (const char* parameter : kTrained) {
        const auto last = static_cast<std::int64_t>(returned);
        const auto what =
            std::pair<std::string, std::string>(parameter, "weight.max");
        EXPECT_EQ(stored[what].erase(last), 1u);
        told[what].erase(last);
      }
    }
    EXPECT_TRUE(stored == told) << Difference(stored, told);
    return steps;
  }

  // The first one, for a person.
  static std::string Difference(const Stored& stored, const Stored& told) {
    for (const auto& [what, line] : told) {
      const auto found = stored.find(what);
      const std::string name = what.first + " " + what.second;
      if (found == stored.end()) return name + " is not stored";
      for (const auto& [step, value] : line) {
        const auto at = found->second.find(step);
        const std::string of = name + " of step " + std::to_string(step);
        if (at == found->second.end()) return of + " is not stored";
        if (at->second != value) return of + " is another one";
      }
      if (found->second.size() > line.size()) return name + " has more steps";
    }
    return "there are more of them than told";
  }

  // Also while a program makes and removes files there.
  bool SpoolHasRecords() const {
    std::error_code gone;
    auto file = fs::recursive_directory_iterator(spool_, gone);
    for (; !gone && file != fs::recursive_directory_iterator();
         file.increment(gone)) {
      std::error_code none;
      if (file->path().filename() != "owner" &&
          file->path().extension() != ".schema" &&
          file->is_regular_file(none)) {
        return true;
      }
    }
    return false;
  }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
  const std::string spool_ = dir_.path() + "/spool";
  const std::string rings_ = shared_memory_.path() + "/rings";
  const std::string nobody_ = "127.0.0.1:" + std::to_string(FreePort());
  Collector collector_{dir_.path() + "/data"};
};

TEST_F(TrainerKillTest, EveryStepThatReturnedIsStoredOnceItIsDrained) {
  const int kills = ShortOrLong(6, 200);
  std::mt19937 random(11);
  std::uint64_t steps = 0, in_step = 0, without_step = 0, spilled = 0;
  for (int i = 0; i < kills && !HasFailure(); ++i) {
    SCOPED_TRACE("kill " + std::to_string(i));
    Kill kill;
    kill.collector = i % 2 == 0;
    kill.early = i % 3 == 2;
    kill.steps = 1 + random() % 3000;
    kill.later = microseconds(random() % (kill.early ? 100'000 : 1'000));
    const std::string run = "doomed-" + std::to_string(i);
    const std::string told = shared_memory_.path() + "/progress";
    const SharedProgress progress(told);
    Process trainer({DOOMED_TRAINER_PATH, told, std::to_string(i)},
                    AgentOptions(run, kill.collector));
    Await(kill, progress, &trainer);
    trainer.Signal(SIGKILL);
    ASSERT_EQ(trainer.Wait().value_or(Exit()).code, -SIGKILL)
        << trainer.Errors();
    fs::remove(told);
    spilled += SpoolHasRecords() ? 1 : 0;
    Drain(collector_.address(), spool_, rings_);
    const std::uint64_t stored = Check(run, progress);
    ExpectNothingLeft(spool_, rings_);
    steps += stored;
    in_step += stored > progress->returned.load() ? 1 : 0;
    without_step += stored == 0 ? 1 : 0;
  }
  std::cout << kills << " kills, " << steps << " steps; " << without_step
            << " times before the first, " << in_step
            << " times within a step that is stored too, " << spilled
            << " times records were in the spool\n";
  EXPECT_GT(spilled, 0u);
}

}  // namespace
}  // namespace gradtap::testing
