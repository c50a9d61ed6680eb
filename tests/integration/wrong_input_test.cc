// Wrong input gets one clear line, the right exit code, and costs nothing.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <string>

#include "integration/house.h"

namespace gradtap::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::chrono::seconds kPatience{60};

// ---- The agent ----

class AgentInputTest : public House {};

TEST_F(AgentInputTest, WithoutACollectorTrainingGoesOnAndNothingIsLostLater) {
  TempDir dir;
  const int port = FreePort();
  const std::string away = "127.0.0.1:" + std::to_string(port);
  Trainer trainer(away, "later");
  trainer.Step(50);
  // Nothing answers there: it says so before long, and once.
  EXPECT_FALSE(trainer.Flush(std::chrono::seconds(2)));
  TrainerStatus status = trainer.Status();
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!status.Says(away) && std::chrono::steady_clock::now() < give_up) {
    status = trainer.Status();
  }
  EXPECT_EQ(status.state(), TrainerStatus::kConnecting);
  EXPECT_EQ(status.At("recorded"), 50u);
  EXPECT_EQ(status.At("at_hand"), 50u);
  EXPECT_TRUE(status.Says(away));
  ExpectBooksBalance(status);
  trainer.Step(50);

  Collector collector(dir.path(), port);
  EXPECT_TRUE(trainer.Flush(std::chrono::seconds(80)));
  status = trainer.Status();
  ExpectBooksBalance(status);
  EXPECT_EQ(status.At("acknowledged"), 100u);
  EXPECT_EQ(status.At("lost"), 0u);
  EXPECT_EQ(FindRun(collector.address(), "later").stored_steps, 100u);
  const Outcome series =
      Gradtap(collector.address(),
              {"series", "later", "--stat", "scalar.loss", "--output", "csv"});
  const Csv csv = Csv::Parse(series.out);
  ASSERT_EQ(csv.rows(), 100u);
  for (std::size_t row = 0; row < csv.rows(); ++row) {
    EXPECT_EQ(csv.At(row, "step"), std::to_string(row));
  }
  EXPECT_EQ(trainer.Quit(), 0);
}

TEST_F(AgentInputTest, WithoutACollectorTheProgramStillEnds) {
  Trainer trainer("127.0.0.1:" + std::to_string(FreePort()), "never", "tiny",
                  {{"GRADTAP_SHUTDOWN_MS", "200"}});
  trainer.Step(5);
  ExpectBooksBalance(trainer.Status());
  EXPECT_EQ(trainer.Quit(), 0);
  EXPECT_THAT(trainer.process().Errors(), HasSubstr("gradtap"));
}

TEST_F(AgentInputTest, ABadAddressIsNamedOnceAndTrainingGoesOn) {
  for (const char* address : {"127.0.0.1:99999", "no such host:1", "[::1"}) {
    Trainer trainer(address, "address", "tiny",
                    {{"GRADTAP_SHUTDOWN_MS", "200"}});
    trainer.Step(5);
    const TrainerStatus status = trainer.Status();
    ExpectBooksBalance(status);
    EXPECT_TRUE(status.Says(address)) << address;
    EXPECT_EQ(trainer.Quit(), 0);
    const std::vector<std::string> lines = Lines(trainer.process().Errors());
    int named = 0;
    for (const std::string& line : lines) {
      named += line.find(address) != std::string::npos;
    }
    EXPECT_EQ(named, 1) << trainer.process().Errors();
  }
}

TEST_F(AgentInputTest, ABadPatternIsNamedAndTrainingGoesOn) {
  Trainer& trainer = Start("pattern", "tiny", {{"GRADTAP_INCLUDE", "we(ight"}});
  trainer.Step(5);
  EXPECT_TRUE(trainer.Status().Says("we(ight"));
  End(trainer);
}

TEST_F(AgentInputTest, ABadRunNameIsNamedAndTrainingGoesOn) {
  Trainer trainer(address(), "../etc", "tiny");
  trainer.Step(5);
  const TrainerStatus status = trainer.Status();
  EXPECT_TRUE(status.Says("../etc"));
  ExpectBooksBalance(status);
  EXPECT_EQ(trainer.Quit(), 0);
  EXPECT_EQ(FindRun(address(), "../etc").state, "");
}

TEST_F(AgentInputTest, DisabledThereIsNoThreadNoFileAndNoSocket) {
  Trainer trainer(address(), "disabled", "tiny", {{"GRADTAP_DISABLED", "1"}});
  trainer.Step(20);
  EXPECT_EQ(trainer.Status().state(), TrainerStatus::kDisabled);
  EXPECT_EQ(trainer.Quit(), 0);
  EXPECT_EQ(trainer.process().Errors(), "");
  EXPECT_EQ(FindRun(address(), "disabled").state, "");
}

// ---- The command line ----

class CommandInputTest : public House {
 protected:
  void SetUp() override {
    Trainer& trainer = Start("fashion-mnist");
    trainer.Step(3);
    End(trainer);
  }
  // Fails with `code` and one line that has all of `texts`.
  void ExpectRefused(const Outcome& outcome, int code,
                     const std::vector<std::string>& texts) {
    EXPECT_EQ(outcome.exit.code, code) << outcome.out << outcome.err;
    EXPECT_EQ(Lines(outcome.err).size(), 1u) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    for (const std::string& text : texts) {
      EXPECT_THAT(outcome.err, HasSubstr(text));
    }
  }
};

TEST_F(CommandInputTest, AnUnknownRunIsAnsweredWithTheNearestOne) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"params", "fashion-mnits"},
           {"series", "fashion-mnits", "--stat", "grad.l2"},
           {"snapshot", "fashion-mnits"},
           {"top", "fashion-mnits"},
           {"compare", "fashion-mnist", "fashion-mnits"},
           {"watch", "fashion-mnits"},
           {"gaps", "fashion-mnits"},
           {"export", "fashion-mnits", "--format", "csv"},
           {"delete", "fashion-mnits", "--yes"}}) {
    SCOPED_TRACE(args[0]);
    ExpectRefused(Ask(args), 1, {"fashion-mnits", "fashion-mnist"});
  }
}

TEST_F(CommandInputTest, AnUnknownStatisticIsAnsweredWithTheNearestOne) {
  ExpectRefused(Ask({"series", "fashion-mnist", "--stat", "grad.l3"}), 1,
                {"grad.l3", "grad.l2"});
  ExpectRefused(Ask({"snapshot", "fashion-mnist", "--stat", "weight.meen"}), 1,
                {"weight.meen", "weight.mean"});
  ExpectRefused(Ask({"top", "fashion-mnist", "--stat", "weight.meen"}), 1,
                {"weight.meen", "weight.mean"});
}

TEST_F(CommandInputTest, AnUnknownParameterIsAnsweredWithTheNearestOne) {
  ExpectRefused(Ask({"series", "fashion-mnist", "--stat", "grad.l2", "--match",
                     "fc1.wieght"}),
                1, {"fc1.wieght", "fc1.weight"});
  ExpectRefused(Ask({"snapshot", "fashion-mnist", "--match", "fc1.wieght"}), 1,
                {"fc1.wieght", "fc1.weight"});
}

TEST_F(CommandInputTest, ABadPatternIsNamed) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"params", "fashion-mnist", "--match", "we(ight"},
           {"series", "fashion-mnist", "--stat", "grad.l2", "--match",
            "we(ight"},
           {"snapshot", "fashion-mnist", "--match", "we(ight"},
           {"watch", "fashion-mnist", "--match", "we(ight"}}) {
    SCOPED_TRACE(args[0]);
    ExpectRefused(Ask(args), 2, {"we(ight"});
  }
}

TEST_F(CommandInputTest, UsageErrorsExitWith2) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {},
           {"no-such-command"},
           {"runs", "--no-such-option"},
           {"runs", "--output", "xml"},
           {"series", "fashion-mnist"},
           {"series", "fashion-mnist", "--stat", "grad.l2", "--steps", "a:b"},
           {"snapshot"},
           {"snapshot", "fashion-mnist", "--step", "x"}}) {
    const Outcome outcome = Ask(args);
    EXPECT_EQ(outcome.exit.code, 2)
        << (args.empty() ? "" : args.back()) << ": " << outcome.err;
    EXPECT_NE(outcome.err, "");
  }
  ExpectRefused(Gradtap("127.0.0.1:99999", {"runs"}), 2, {"127.0.0.1:99999"});
}

TEST_F(CommandInputTest, AnUnreachableCollectorExitsWith3) {
  const std::string away = "127.0.0.1:" + std::to_string(FreePort());
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"runs"}, {"status"}, {"params", "x"}, {"watch", "x"}}) {
    SCOPED_TRACE(args[0]);
    ExpectRefused(Gradtap(away, args), 3, {away});
  }
}

TEST_F(CommandInputTest, HelpHasAnExampleForEveryCommand) {
  for (const char* command :
       {"runs", "params", "series", "snapshot", "top", "compare", "watch",
        "gaps", "status", "export", "delete"}) {
    const Outcome outcome = Ask({command, "--help"});
    EXPECT_EQ(outcome.exit.code, 0) << command;
    EXPECT_THAT(outcome.out, HasSubstr(std::string("gradtap ") + command))
        << command;
  }
}

// ---- The collector ----

class CollectorInputTest : public House {
 protected:
  // A second collector does not start, and says in one line why; the first one
  // still answers.
  void ExpectNoStart(const std::vector<std::string>& command, int code,
                     const std::vector<std::string>& texts) {
    const Outcome outcome = RunProgram(command, {}, std::chrono::seconds(20));
    EXPECT_EQ(outcome.exit.code, code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(Lines(outcome.err).size(), 1u) << outcome.err;
    for (const std::string& text : texts) {
      EXPECT_THAT(outcome.err, HasSubstr(text));
    }
    EXPECT_EQ(Ask({"runs"}).exit.code, 0);
  }
  TempDir other_;
};

TEST_F(CollectorInputTest, APortInUseIsNamed) {
  ExpectNoStart(CollectorCommand(other_.path(), collector().port()), 1,
                {address()});
}

TEST_F(CollectorInputTest, ADataFolderThatCannotBeMadeIsNamed) {
  WriteFile(other_.path() + "/file", "");
  const std::string beneath = other_.path() + "/file/data";
  ExpectNoStart(CollectorCommand(beneath), 1,
                {other_.path() + "/file", "Not a directory"});
}

TEST_F(CollectorInputTest, AFolderOfAnotherCollectorIsRefused) {
  ExpectNoStart(CollectorCommand(data_dir()), 1,
                {data_dir(), std::to_string(collector().process().pid())});
  Trainer& trainer = Start("untouched");
  trainer.Step(5);
}

TEST_F(CollectorInputTest, AFolderOfANewerFormatIsRefusedAndLeftAsItIs) {
  {
    Collector first(other_.path());
    EXPECT_EQ(first.Terminate(), 0);
  }
  const std::string format = other_.path() + "/FORMAT";
  ASSERT_THAT(ReadFile(format), HasSubstr("gradtap-data"));
  WriteFile(format, "gradtap-data 999\n");
  ExpectNoStart(CollectorCommand(other_.path()), 1, {other_.path(), "999"});
  EXPECT_EQ(ReadFile(format), "gradtap-data 999\n");
}

TEST_F(CollectorInputTest, AnOpenAddressNeedsAnExplicitWord) {
  ExpectNoStart({CollectorCommand("x")[0], "--data-dir", other_.path(),
                 "--grpc-listen", "0.0.0.0:0"},
                2, {"0.0.0.0"});
}

TEST_F(CollectorInputTest, UsageErrorsExitWith2) {
  for (const std::vector<std::string>& args :
       std::vector<std::vector<std::string>>{
           {"--no-such-option"}, {"--grpc-listen", "127.0.0.1:99999"}}) {
    std::vector<std::string> command = {CollectorCommand("x")[0], "--data-dir",
                                        other_.path()};
    command.insert(command.end(), args.begin(), args.end());
    const Outcome outcome = RunProgram(command, {}, std::chrono::seconds(20));
    EXPECT_EQ(outcome.exit.code, 2) << args[0] << ": " << outcome.err;
    EXPECT_NE(outcome.err, "");
  }
}

}  // namespace
}  // namespace gradtap::testing
