// Real agents before a real collector that asks for tokens.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "faults/feed.h"
#include "integration/collector.h"
#include "support/certificates.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;

int CountOf(const std::string& what, const std::string& text) {
  int count = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos;
       at += what.size()) {
    ++count;
  }
  return count;
}

class TokenTest : public ::testing::Test {
 protected:
  void SetUp() override {
    writer_ = MakeToken("write", "run");
    reader_ = MakeToken("read", "");
    environment_["GRADTAP_TOKEN_FILE"] = WriteToken("reader", reader_);
  }

  // By `gradtapd token create`.
  std::string MakeToken(const std::string& role, const std::string& runs) {
    std::vector<std::string> command = CollectorCommand(data());
    command = {command[0], "token",  "create", "--data-dir", data(),
               "--name",   "tester", "--role", role};
    if (!runs.empty()) command.insert(command.end(), {"--runs", runs});
    const Outcome made = RunProgram(command);
    EXPECT_EQ(made.exit.code, 0) << made.err;
    EXPECT_EQ(made.out.size(), 61u);
    const std::string token = made.out.substr(0, 60);
    EXPECT_THAT(made.err, Not(HasSubstr(SecretOf(token))));
    return token;
  }
  static std::string SecretOf(const std::string& token) {
    return token.substr(17);
  }

  std::string WriteToken(const std::string& name, const std::string& token) {
    const std::string path = dir_.path() + "/" + name;
    WriteFile(path + ".new", token + "\n");
    fs::rename(path + ".new", path);
    return path;
  }

  void StartWithTls(const MadeCertificate& made) {
    collector_ = std::make_unique<Collector>(
        data(), 0,
        std::vector<std::string>{"--tls-cert", made.cert, "--tls-key",
                                 made.key});
    environment_["GRADTAP_TLS"] = "1";
    environment_["GRADTAP_TLS_CA"] = made.cert;
  }

  std::map<std::string, std::string> FeedOf(const std::string& run) {
    return {{"collector", collector_->address()},
            {"run", run},
            {"launch", "one"},
            {"pace_us", "1000"},
            {"ring_bytes", "16777216"},
            {"spool", dir_.path() + "/spool"},
            {"ring", shared_memory_.path() + "/rings"}};
  }

  // Asks until `done`; false after two minutes.
  template <typename Done>
  static bool Until(Feed* feed, Done done) {
    const auto give_up =
        std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!done(feed->Status())) {
      if (std::chrono::steady_clock::now() > give_up || HasFailure()) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  }

  // All that agents and collector have written anywhere.
  std::string AllBytes() {
    std::string all;
    for (const std::string& root :
         {data(), dir_.path() + "/spool", shared_memory_.path()}) {
      std::error_code error;
      for (fs::recursive_directory_iterator it(root, error), end;
           !error && it != end; it.increment(error)) {
        if (it->is_regular_file()) all += ReadWhole(it->path().string());
      }
    }
    return all;
  }

  std::string data() const { return dir_.path() + "/data"; }

  TempDir dir_;
  TempDir shared_memory_{"/dev/shm"};
  std::string writer_, reader_;
  Environment environment_;  // Of a reader's commands.
  std::unique_ptr<Collector> collector_;
};

TEST_F(TokenTest, ARefusedAgentKeepsItsStepsUntilTheTokenIsPutRight) {
  const MadeCertificate made = MakeCertificate(dir_.path(), "server");
  StartWithTls(made);
  auto arguments = FeedOf("run-1");
  arguments["tls_ca"] = made.cert;
  // A reader's: another one than is wanted.
  arguments["token_file"] = WriteToken("agent", reader_);
  Feed feed(arguments);
  ASSERT_TRUE(Until(&feed, [&](const FeedCounts& counts) {
    return counts.seen > 1000 &&
           CountOf("refuses the token", feed.process().Errors()) > 0;
  }));
  const FeedCounts refused = feed.Status();
  EXPECT_EQ(refused.acknowledged, 0u);
  EXPECT_EQ(refused.lost, 0u);
  EXPECT_THAT(feed.process().Errors(), HasSubstr("role write"));
  const std::string kept = AllBytes();
  EXPECT_GT(kept.size(), std::size_t{100'000});
  for (const std::string& text :
       {kept, feed.process().Errors(), collector_->process().Errors()}) {
    EXPECT_THAT(text, Not(HasSubstr(SecretOf(reader_))));
  }

  WriteToken("agent", writer_);
  EXPECT_TRUE(Until(
      &feed, [](const FeedCounts& counts) { return counts.acknowledged > 0; }));
  const FeedCounts counts = feed.End();
  EXPECT_EQ(counts.acknowledged, counts.seen);
  EXPECT_EQ(counts.lost, 0u);
  EXPECT_EQ(CheckSteps(collector_->address(), "run-1", 0, environment_),
            counts.seen);
  EXPECT_EQ(CountOf("refuses the token", feed.process().Errors()), 1);
  for (const std::string& text :
       {AllBytes(), feed.process().Errors(), collector_->process().Errors()}) {
    EXPECT_THAT(text, Not(HasSubstr(SecretOf(writer_))));
  }
}

TEST_F(TokenTest, WhatARefusedAgentHasLeftIsDeliveredWithAGoodToken) {
  const MadeCertificate made = MakeCertificate(dir_.path(), "server");
  StartWithTls(made);
  auto arguments = FeedOf("run-3");
  arguments["tls_ca"] = made.cert;
  arguments["token_file"] = WriteToken("agent", reader_);
  arguments["steps"] = "500";
  Feed feed(arguments);
  ASSERT_TRUE(Until(&feed, [&](const FeedCounts& counts) {
    return counts.seen == 500 &&
           CountOf("refuses the token", feed.process().Errors()) > 0;
  }));
  feed.process().CloseInput();
  ASSERT_EQ(feed.process().Wait().value_or(Exit()).code, 0);
  EXPECT_THAT(AllBytes(), Not(HasSubstr(SecretOf(reader_))));

  Environment environment = environment_;
  environment["GRADTAP_SPOOL"] = dir_.path() + "/spool";
  environment["GRADTAP_RING_FOLDER"] = shared_memory_.path() + "/rings";
  const auto drain = [&] {
    return RunProgram(GradtapCommand(collector_->address(), {"drain"}),
                      environment);
  };
  const Outcome refused = drain();
  EXPECT_EQ(refused.exit.code, 1) << refused.err;
  EXPECT_THAT(refused.out + refused.err, HasSubstr("role write"));
  environment["GRADTAP_TOKEN_FILE"] = WriteToken("writer", writer_);
  const Outcome delivered = drain();
  EXPECT_EQ(delivered.exit.code, 0) << delivered.err;
  EXPECT_EQ(CheckSteps(collector_->address(), "run-3", 0, environment_), 500u);
}

TEST_F(TokenTest, ATokenOfOtherRunsDeliversNothing) {
  const MadeCertificate made = MakeCertificate(dir_.path(), "server");
  StartWithTls(made);
  auto arguments = FeedOf("other");
  arguments["tls_ca"] = made.cert;
  arguments["token_file"] = WriteToken("agent", writer_);
  Feed feed(arguments);
  ASSERT_TRUE(Until(&feed, [&](const FeedCounts&) {
    return CountOf("begin with 'run'", feed.process().Errors()) > 0;
  }));
  EXPECT_EQ(feed.Status().acknowledged, 0u);
  const Outcome runs = RunProgram(
      GradtapCommand(collector_->address(), {"runs", "--output", "csv"}),
      environment_);
  EXPECT_EQ(runs.exit.code, 0) << runs.err;
  EXPECT_EQ(CountOf("\n", runs.out), 1) << runs.out;  // The names of columns.
}

// Collector, agent and reader at work, with tokens in files; and a reader with
// its token in the environment, which is its owner's to read.
TEST_F(TokenTest, NoProcessHasATokenWherePsLooks) {
  const MadeCertificate made = MakeCertificate(dir_.path(), "server");
  StartWithTls(made);
  auto arguments = FeedOf("run-4");
  arguments["tls_ca"] = made.cert;
  arguments["token_file"] = WriteToken("agent", writer_);
  Feed feed(arguments);
  ASSERT_TRUE(Until(
      &feed, [](const FeedCounts& counts) { return counts.acknowledged > 0; }));
  const std::vector<std::string> command =
      GradtapCommand(collector_->address(), {"watch", "run-4"});
  Process by_file(command, environment_);
  Environment with_token = environment_;
  with_token.erase("GRADTAP_TOKEN_FILE");
  with_token["GRADTAP_TOKEN"] = reader_;
  Process by_environment(command, with_token);
  ASSERT_TRUE(by_file.ReadLine().has_value()) << by_file.Errors();
  ASSERT_TRUE(by_environment.ReadLine().has_value()) << by_environment.Errors();

  for (Process* process :
       {&collector_->process(), &feed.process(), &by_file, &by_environment}) {
    const std::string proc = "/proc/" + std::to_string(process->pid());
    const std::string words = ReadFile(proc + "/cmdline");
    EXPECT_FALSE(words.empty());
    const std::string environment = ReadFile(proc + "/environ");
    for (const std::string& token : {writer_, reader_}) {
      EXPECT_THAT(words, Not(HasSubstr(SecretOf(token))));
      if (process == &by_environment) continue;
      EXPECT_THAT(environment, Not(HasSubstr(SecretOf(token))));
    }
    EXPECT_EQ(fs::status(proc + "/environ").permissions(),
              fs::perms::owner_read);
  }
}

TEST_F(TokenTest, OverASocketATokenNeedsNoTls) {
  const std::string socket = "unix:" + dir_.path() + "/run/grpc";
  collector_ = std::make_unique<Collector>(
      data(), 0, std::vector<std::string>{"--grpc-listen", socket});
  auto arguments = FeedOf("run-2");
  arguments["collector"] = socket;
  arguments["token_file"] = WriteToken("agent", writer_);
  Feed feed(arguments);
  EXPECT_TRUE(Until(&feed, [](const FeedCounts& counts) {
    return counts.acknowledged > 100;
  }));
  const FeedCounts counts = feed.End();
  EXPECT_EQ(counts.acknowledged, counts.seen);
  EXPECT_EQ(CheckSteps(socket, "run-2", 0, environment_), counts.seen);
}

TEST_F(TokenTest, ACertificateThatIsReplacedCostsNoAgentAStep) {
  const MadeCertificate made = MakeCertificate(dir_.path(), "server");
  const MadeCertificate next = MakeCertificate(dir_.path(), "next");
  const std::string old_authority = dir_.path() + "/old.pem";
  fs::copy_file(made.cert, old_authority);
  StartWithTls(made);
  std::vector<std::unique_ptr<Feed>> feeds;
  const auto start = [&](const std::string& run, const std::string& authority) {
    auto arguments = FeedOf(run);
    arguments["tls_ca"] = authority;
    arguments["token_file"] = WriteToken("agent", writer_);
    feeds.push_back(std::make_unique<Feed>(arguments));
    EXPECT_TRUE(Until(feeds.back().get(), [](const FeedCounts& counts) {
      return counts.acknowledged > 500;
    }));
  };
  start("run-old-1", old_authority);
  start("run-old-2", old_authority);
  next.CopyTo(made);
  const auto begin = std::chrono::steady_clock::now();
  start("run-new", next.cert);
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - begin;
  std::printf("a new agent has 500 steps acknowledged after %.2f s\n",
              took.count());
  for (const auto& feed : feeds) {
    const auto then = feed->Status().acknowledged;
    EXPECT_TRUE(Until(feed.get(), [then](const FeedCounts& counts) {
      return counts.acknowledged > then + 500;
    }));
  }
  const char* const runs[] = {"run-old-1", "run-old-2", "run-new"};
  for (std::size_t i = 0; i < feeds.size(); ++i) {
    const FeedCounts counts = feeds[i]->End();
    EXPECT_EQ(counts.acknowledged, counts.seen);
    EXPECT_EQ(counts.lost, 0u);
    EXPECT_EQ(CheckSteps(collector_->address(), runs[i], 0, environment_),
              counts.seen);
    // None was away for a moment.
    if (i < 2) {
      EXPECT_THAT(feeds[i]->process().Errors(), Not(HasSubstr("is away")));
    }
  }
}

}  // namespace
}  // namespace gradtap::testing
