// What dead processes have left, delivered by `gradtap drain` and
// `gradtap import` to a real collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "integration/collector.h"
#include "integration/csv.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class Spooling {
 public:
  Spooling(const std::string& root, const std::string& run, int rank = 0,
           int world_size = 1, const std::string& nonce_or_collector = "a")
      : process_({SPOOLING_PATH, root, run, "launch", std::to_string(rank),
                  std::to_string(world_size), nonce_or_collector}) {}

  // Returns the spool's folder, once all is in it.
  std::string PutSteps(int count) {
    process_.Write(std::to_string(count) + "\n");
    return process_.ReadLine().value_or("");
  }
  void Kill() {
    process_.Signal(SIGKILL);
    EXPECT_EQ(process_.Wait().value_or(Exit()).code, -SIGKILL);
  }
  Process& process() { return process_; }
  pid_t pid() const { return process_.pid(); }

 private:
  Process process_;
};

class LeftoversTest : public ::testing::Test {
 protected:
  LeftoversTest() : collector_(dir_.path() + "/data") {}

  Outcome Ask(std::vector<std::string> args) {
    return Gradtap(collector_.address(), args);
  }
  Csv AskCsv(std::vector<std::string> args, int code = 0) {
    args.insert(args.end(), {"--output", "csv"});
    const Outcome outcome = Ask(args);
    EXPECT_EQ(outcome.exit.code, code) << outcome.err;
    return Csv::Parse(outcome.out);
  }
  // How often each step of a rank is stored.
  void ExpectSteps(const std::string& run, int rank, int steps) {
    const Csv csv = AskCsv({"series", run, "--stat", "scalar.loss", "--rank",
                            std::to_string(rank)});
    std::set<std::string> seen;
    for (std::size_t row = 0; row < csv.rows(); ++row) {
      EXPECT_TRUE(seen.insert(csv.At(row, "step")).second) << "twice";
    }
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(steps));
    EXPECT_EQ(FindRun(collector_.address(), run).lost_steps, 0u);
  }
  // A dead process's spool.
  std::string Leave(const std::string& run, int steps, int rank = 0,
                    int world_size = 1, char nonce = 'a',
                    const std::string& collector = "") {
    Spooling process(root_, run, rank, world_size,
                     std::string(1, nonce) + "=" + collector);
    const std::string folder = process.PutSteps(steps);
    process.Kill();
    EXPECT_TRUE(fs::exists(folder)) << folder;
    return folder;
  }
  static std::map<std::string, std::string> Bytes(const std::string& folder) {
    std::map<std::string, std::string> bytes;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      bytes[entry.path().string()] = ReadFile(entry.path().string());
    }
    return bytes;
  }

  TempDir dir_;
  const std::string root_ = dir_.path() + "/spool";
  Collector collector_;
};

TEST_F(LeftoversTest, AKilledProcessIsDrainedOnceAndItsFolderIsGone) {
  const std::string folder = Leave("killed", 300);
  // And another one, which was killed before it had made its folder.
  const std::string unowned = root_ + "/." + std::string(32, 'b') + ".new";
  fs::create_directory(unowned);
  fs::permissions(unowned, fs::perms::owner_all);
  Csv csv = AskCsv({"drain", root_});
  ASSERT_EQ(csv.rows(), 1u);
  EXPECT_EQ(csv.At(0, "run"), "killed");
  EXPECT_EQ(csv.At(0, "attempt"), "1");
  EXPECT_EQ(csv.At(0, "rank"), "0");
  EXPECT_EQ(csv.At(0, "process"), fs::path(folder).filename());
  EXPECT_EQ(csv.At(0, "state"), "delivered");
  EXPECT_EQ(csv.At(0, "steps_sent"), "300");
  EXPECT_EQ(csv.At(0, "problems"), "");
  ExpectSteps("killed", 0, 300);
  EXPECT_TRUE(fs::is_empty(root_));
  const Outcome again = Ask({"drain", root_});
  EXPECT_EQ(again.exit.code, 0);
  EXPECT_EQ(again.out, "Nothing is left.\n");
  ExpectSteps("killed", 0, 300);
}

TEST_F(LeftoversTest, ImportLeavesTheCopyAsItIsAndTheOriginalHasNothingNew) {
  const std::string folder = Leave("copied", 100);
  const std::string copy = dir_.path() + "/copy";
  fs::copy(folder, copy);
  const auto before = Bytes(copy);
  EXPECT_EQ(AskCsv({"import", copy}).At(0, "steps_sent"), "100");
  const Csv again = AskCsv({"import", copy});
  EXPECT_EQ(again.At(0, "state"), "up_to_date");
  EXPECT_EQ(again.At(0, "steps_sent"), "0");
  EXPECT_EQ(again.At(0, "steps_there"), "100");
  EXPECT_EQ(Bytes(copy), before);
  EXPECT_EQ(AskCsv({"drain", folder}).At(0, "state"), "up_to_date");
  EXPECT_FALSE(fs::exists(folder));
  ExpectSteps("copied", 0, 100);
}

TEST_F(LeftoversTest, ACopyOfALivingSpoolIsImportedWhileItsProcessGoesOn) {
  Spooling process(root_, "alive");
  const std::string folder = process.PutSteps(50);
  const std::string copy = dir_.path() + "/copy";
  fs::copy(folder, copy);
  EXPECT_EQ(AskCsv({"import", copy}).At(0, "steps_sent"), "50");
  // The living folder itself is not for others.
  const Csv living = AskCsv({"drain", root_});
  EXPECT_EQ(living.At(0, "state"), "running");
  EXPECT_EQ(living.At(0, "pid"), std::to_string(process.pid()));
  EXPECT_THAT(Ask({"drain", root_}).out,
              HasSubstr("still running, pid " + std::to_string(process.pid())));
  const Outcome refused = Ask({"import", folder});
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("import a copy"));
  process.PutSteps(50);
  process.Kill();
  const Csv rest = AskCsv({"drain", root_});
  EXPECT_EQ(rest.At(0, "steps_sent"), "50");
  EXPECT_EQ(rest.At(0, "steps_there"), "50");
  ExpectSteps("alive", 0, 100);
}

TEST_F(LeftoversTest, TheSpoolsOfThreeRanksAreImportedTogether) {
  for (int rank = 0; rank < 3; ++rank) {
    Leave("ranks", 40 + rank, rank, 3, static_cast<char>('a' + rank));
  }
  const Csv csv = AskCsv({"import", root_});
  ASSERT_EQ(csv.rows(), 3u);
  for (int rank = 0; rank < 3; ++rank) ExpectSteps("ranks", rank, 40 + rank);
  EXPECT_EQ(FindRun(collector_.address(), "ranks").attempts, 1u);
}

TEST_F(LeftoversTest, ADamagedSpoolIsDeliveredButForTheDamage) {
  const std::string folder = Leave("damaged", 300);
  std::vector<std::string> segments;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".seg") segments.push_back(entry.path());
  }
  std::sort(segments.begin(), segments.end());
  ASSERT_GT(segments.size(), 3u);
  std::string bytes = ReadFile(segments[1]);
  bytes[bytes.size() / 2] ^= 1;
  WriteFile(segments[1], bytes);
  const Outcome outcome = Ask({"drain", root_});
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr(folder));
  EXPECT_THAT(outcome.err, HasSubstr("checksum"));
  const RunRow row = FindRun(collector_.address(), "damaged");
  EXPECT_GT(row.lost_steps, 0u);
  EXPECT_EQ(row.stored_steps + row.lost_steps, 300u);
  const std::string bad = segments[1].substr(0, segments[1].size() - 3) + "bad";
  EXPECT_EQ(ReadFile(bad), bytes);
  const Csv again = AskCsv({"drain", root_});
  EXPECT_EQ(again.At(0, "state"), "set_aside");
}

TEST_F(LeftoversTest, TheDoctorCountsWhatIsLeftAndChangesNothing) {
  const std::string folder = Leave("killed", 300);
  Spooling living(root_, "alive", 0, 1, "b");
  living.PutSteps(10);
  const auto before = Bytes(folder);
  const auto ask = [&] {
    return RunProgram(
        GradtapCommand(collector_.address(), {"doctor"}),
        {{"GRADTAP_SPOOL", root_}, {"GRADTAP_RING_FOLDER", "off"}});
  };
  const Outcome outcome = ask();
  EXPECT_EQ(outcome.exit.code, 0) << outcome.out << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("1 ended process has left 300 steps"),
                    HasSubstr("none is needed to write"),
                    HasSubstr("it agrees with the collector's")));
  EXPECT_EQ(Bytes(folder), before);
  EXPECT_EQ(AskCsv({"drain", folder}).At(0, "steps_sent"), "300");
  collector_.Kill();
  EXPECT_EQ(ask().exit.code, 3);
}

TEST_F(LeftoversTest, TheNextAgentOnTheHostDeliversWhatAKilledOneHasLeft) {
  const std::string folder = Leave("first", 300);
  Spooling agent(root_, "second", 0, 1, collector_.address());
  EXPECT_EQ(agent.PutSteps(10), "delivered");
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (fs::exists(folder) && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  ExpectSteps("first", 0, 300);
  EXPECT_EQ(agent.PutSteps(10), "delivered");
  agent.process().CloseInput();
  EXPECT_EQ(agent.process().Wait().value_or(Exit()).code, 0);
  ExpectSteps("second", 0, 20);
  EXPECT_THAT(agent.process().Errors(),
              HasSubstr("gradtap: delivers 300 steps that process "));
}

TEST_F(LeftoversTest, ARingWaitsForItsSpoolUnlessThatIsGivenUp) {
  const std::string rings = dir_.path() + "/rings";
  ASSERT_EQ(::setenv("LEAVE_RING_IN", rings.c_str(), 1), 0);
  Leave("waits", 100, 0, 1, 'a');
  fs::rename(root_, dir_.path() + "/away");
  Csv csv = AskCsv({"drain", rings}, 1);
  ASSERT_EQ(csv.rows(), 1u);
  EXPECT_EQ(csv.At(0, "state"), "failed");
  EXPECT_THAT(csv.At(0, "problems"), HasSubstr(root_));
  fs::rename(dir_.path() + "/away", root_);
  csv = AskCsv({"drain", rings});
  EXPECT_EQ(csv.At(0, "state"), "delivered");
  EXPECT_EQ(csv.At(0, "steps_sent"), "100");
  ExpectSteps("waits", 0, 100);
  EXPECT_TRUE(fs::is_empty(rings));
  EXPECT_TRUE(fs::is_empty(root_));

  Leave("lost", 100, 0, 1, 'b');
  fs::remove_all(root_);
  // With the spool its schema is gone: so says another word.
  csv = AskCsv({"drain", "--without-spool", rings}, 1);
  EXPECT_EQ(csv.At(0, "state"), "failed");
  EXPECT_THAT(csv.At(0, "problems"), HasSubstr("--without-schema"));
  csv = AskCsv({"drain", "--without-spool", "--without-schema", rings});
  EXPECT_EQ(csv.At(0, "state"), "delivered");
  EXPECT_EQ(csv.At(0, "steps_sent"), "0");
  EXPECT_EQ(csv.At(0, "steps_refused"), "42");
  EXPECT_EQ(FindRun(collector_.address(), "lost").lost_steps, 100u);
  EXPECT_TRUE(fs::is_empty(rings));
  ::unsetenv("LEAVE_RING_IN");
}

TEST_F(LeftoversTest, WhatIsForAnotherCollectorIsDrainedOnlyWhenThatIsMeant) {
  Leave("ours", 100, 0, 1, 'a', collector_.address());
  const std::string folder = Leave("theirs", 200, 0, 1, 'b', "gpu7:7317");
  const auto before = Bytes(folder);
  const Csv csv = AskCsv({"drain", root_}, 1);
  ASSERT_EQ(csv.rows(), 2u);
  EXPECT_EQ(csv.At(0, "state"), "delivered");
  EXPECT_EQ(csv.At(0, "collector"), collector_.address());
  EXPECT_EQ(csv.At(1, "state"), "for_another");
  EXPECT_EQ(csv.At(1, "collector"), "gpu7:7317");
  EXPECT_EQ(csv.At(1, "run"), "theirs");
  const Outcome refused = Ask({"drain", root_});
  EXPECT_EQ(refused.exit.code, 1);
  EXPECT_THAT(refused.out, HasSubstr("for gpu7:7317"));
  EXPECT_THAT(refused.err,
              HasSubstr("is for the collector gpu7:7317, not for " +
                        collector_.address() +
                        ": `gradtap --collector gpu7:7317 drain " + root_ +
                        "` delivers it there"));
  EXPECT_EQ(Bytes(folder), before);
  ExpectSteps("ours", 0, 100);
  EXPECT_EQ(FindRun(collector_.address(), "theirs").state, "");
  // Wherever a copy is brought, it is brought on purpose.
  const std::string copy = dir_.path() + "/copy";
  fs::copy(folder, copy);
  EXPECT_EQ(AskCsv({"import", copy}).At(0, "steps_sent"), "200");
  const Csv meant = AskCsv({"drain", "--any-collector", root_});
  EXPECT_EQ(meant.At(0, "state"), "up_to_date");
  EXPECT_EQ(meant.At(0, "steps_there"), "200");
  EXPECT_FALSE(fs::exists(folder));
  ExpectSteps("theirs", 0, 200);
}

TEST_F(LeftoversTest, AnAgentLeavesWhatIsForAnotherCollector) {
  const std::string first = Leave("first", 100, 0, 1, 'a', "gpu7:7317");
  const std::string next = Leave("next", 100, 0, 1, 'b', collector_.address());
  const auto before = Bytes(first);
  Spooling agent(root_, "second", 0, 1, collector_.address());
  EXPECT_EQ(agent.PutSteps(10), "delivered");
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (fs::exists(next) && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  agent.process().CloseInput();
  EXPECT_EQ(agent.process().Wait().value_or(Exit()).code, 0);
  EXPECT_EQ(Bytes(first), before);
  ExpectSteps("next", 0, 100);
  EXPECT_EQ(FindRun(collector_.address(), "first").state, "");
  EXPECT_THAT(agent.process().Errors(),
              HasSubstr("`gradtap --collector gpu7:7317 drain` delivers it"));
}

TEST_F(LeftoversTest, AnUnreachableCollectorCostsNothing) {
  const std::string folder = Leave("away", 100);
  const auto before = Bytes(folder);
  const Outcome outcome =
      Gradtap("127.0.0.1:" + std::to_string(FreePort()), {"drain", root_});
  EXPECT_EQ(outcome.exit.code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("no collector at"));
  EXPECT_EQ(Bytes(folder), before);
  EXPECT_EQ(AskCsv({"drain", root_}).At(0, "steps_sent"), "100");
}

TEST_F(LeftoversTest, ACollectorThatIsThereAndRefusesIsNoneThatIsNotThere) {
  const std::string folder = Leave("second", 100);
  const auto before = Bytes(folder);
  Collector full(dir_.path() + "/full", 0, {"--max-runs", "1"});
  const std::string first = Leave("first", 100, 0, 1, 'b');
  EXPECT_EQ(Gradtap(full.address(), {"drain", first}).exit.code, 0);
  const Outcome outcome =
      Gradtap(full.address(), {"drain", folder, "--timeout", "2"});
  EXPECT_EQ(outcome.exit.code, 1) << outcome.err;
  EXPECT_THAT(outcome.err, AllOf(HasSubstr("refuses this process (code 5)"),
                                 HasSubstr("at most 1 runs"),
                                 Not(HasSubstr("start gradtapd")),
                                 Not(HasSubstr("gradtap doctor"))));
  EXPECT_EQ(Bytes(folder), before);
  EXPECT_EQ(AskCsv({"drain", root_}).At(0, "steps_sent"), "100");
}

TEST_F(LeftoversTest, ACollectorThatStopsAnsweringIsGivenUp) {
  const std::string folder = Leave("silent", 100);
  const auto before = Bytes(folder);
  // It accepts connections, and no more.
  collector_.process().Signal(SIGSTOP);
  const Outcome outcome = Ask({"drain", root_, "--timeout", "1"});
  collector_.process().Signal(SIGCONT);
  EXPECT_EQ(outcome.exit.code, 3) << outcome.err;
  EXPECT_EQ(Bytes(folder), before);
  EXPECT_EQ(AskCsv({"drain", root_}).At(0, "steps_sent"), "100");
  ExpectSteps("silent", 0, 100);
}

TEST_F(LeftoversTest, AWrongFolderIsNamed) {
  const std::string none = dir_.path() + "/none";
  for (const std::string command : {"drain", "import"}) {
    const Outcome outcome = Ask({command, none});
    EXPECT_EQ(outcome.exit.code, 1);
    EXPECT_THAT(outcome.err, HasSubstr(none));
  }
  const Outcome empty = Ask({"import", dir_.path()});
  EXPECT_EQ(empty.exit.code, 1);
  EXPECT_THAT(empty.err, HasSubstr("no spool"));
  EXPECT_EQ(Ask({"import"}).exit.code, 2);
}

TEST_F(LeftoversTest, OneFailureDoesNotKeepTheOthersBack) {
  const std::string open = Leave("open", 10, 0, 1, 'a');
  Leave("fine", 20, 0, 1, 'b');
  fs::permissions(open, fs::perms::all);
  const Csv csv = AskCsv({"drain", root_}, 1);
  ASSERT_EQ(csv.rows(), 2u);
  EXPECT_EQ(csv.At(0, "state"), "failed");
  EXPECT_THAT(csv.At(0, "problems"), HasSubstr("0700 is expected"));
  EXPECT_EQ(csv.At(1, "state"), "delivered");
  ExpectSteps("fine", 0, 20);
}

}  // namespace
}  // namespace gradtap::testing
