// The agent beside others in one process: the query library, and a host program
// with its own protos and gRPC server.

#include <gradtap/client.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "integration/coexist_agent.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

class CoexistTest : public ::testing::Test {
 protected:
  CoexistTest() : collector_(dir_.path()) {}

  client::Result<Client> Connect() {
    client::ClientOptions options;
    options.collector = collector_.address();
    return Client::Connect(options);
  }
  void ExpectBooks(const TrainedRun& trained, const std::string& run) {
    EXPECT_TRUE(trained.delivered);
    EXPECT_EQ(trained.seen, trained.recorded + trained.skipped + trained.lost);
    EXPECT_EQ(trained.recorded, trained.acknowledged);
    EXPECT_EQ(FindRun(collector_.address(), run).stored_steps,
              trained.acknowledged);
  }

  void ExpectHostRuns(const std::string& program, const std::string& run) {
    const Outcome outcome = RunProgram({program, collector_.address(), run});
    EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, "host: 60 30\n");
    EXPECT_EQ(FindRun(collector_.address(), run).stored_steps, 30u);
    // Where an exception of its own left the optimizer.
    const RunRow thrown = FindRun(collector_.address(), run + "-thrown");
    EXPECT_EQ(thrown.stored_steps, 3u);
    EXPECT_EQ(thrown.skipped_steps + thrown.lost_steps, 1u);
  }

  TempDir dir_;
  Collector collector_;
};

TEST_F(CoexistTest, AgentAndClientInOneProcess) {
  // The client asks while the agent trains, at each step.
  auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.error().message;
  std::size_t asked = 0;
  const TrainedRun trained =
      TrainWithAgent(collector_.address(), "both", 40, [&] {
        EXPECT_TRUE(client->Runs().ok());
        ++asked;
      });
  EXPECT_EQ(asked, 40u);
  ExpectBooks(trained, "both");
  client::SeriesQuery query;
  query.runs = {"both"};
  query.statistics = {"grad.l2"};
  query.match = "^fc1.weight$";
  const auto series = client->Series(query);
  ASSERT_TRUE(series.ok()) << series.error().message;
  ASSERT_EQ(series->series.size(), 1u);
  EXPECT_EQ(series->series[0].points.size(), 40u);
}

TEST_F(CoexistTest, AClientThatComesAfterTheAgentAndOutlivesIt) {
  ExpectBooks(TrainWithAgent(collector_.address(), "first", 5), "first");
  auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.error().message;
  ExpectBooks(TrainWithAgent(collector_.address(), "second", 5), "second");
  const auto runs = client->Runs();
  ASSERT_TRUE(runs.ok()) << runs.error().message;
  EXPECT_EQ(runs->size(), 2u);
}

TEST_F(CoexistTest, TheTypeOfTheOptimizerIsShownForEachAttemptAndCompared) {
  ExpectBooks(TrainWithAgent(collector_.address(), "good", 5), "good");
  ExpectBooks(TrainWithAgent(collector_.address(), "other", 5), "other");
  auto client = Connect();
  ASSERT_TRUE(client.ok()) << client.error().message;
  client::CompareQuery query;
  query.good_run = "good";
  query.other_run = "other";
  const auto before = client->Compare(query);
  ASSERT_TRUE(before.ok()) << before.error().message;
  EXPECT_TRUE(before->differences.empty());

  // Another attempt.
  EXPECT_TRUE(
      TrainWithAgent(collector_.address(), "other", 5, {}, [](std::int64_t) {
      }).delivered);
  const auto run = client->Run("other");
  ASSERT_TRUE(run.ok()) << run.error().message;
  ASSERT_EQ(run->attempts.size(), 2u);
  const std::vector<std::string> plain = {"torch::optim::SGD"};
  const std::vector<std::string> own = {"gradtap::testing::Handwritten"};
  EXPECT_EQ(run->attempts[0].streams.at(0).optimizers, plain);
  EXPECT_EQ(run->attempts[1].streams.at(0).optimizers, own);
  const auto after = client->Compare(query);
  ASSERT_TRUE(after.ok()) << after.error().message;
  ASSERT_EQ(after->differences.size(), 1u);
  EXPECT_EQ(after->differences[0].what, "optimizer");
  EXPECT_EQ(after->differences[0].good, plain[0]);
  EXPECT_EQ(after->differences[0].other, own[0]);
  const Outcome table =
      Gradtap(collector_.address(), {"compare", "good", "other"});
  EXPECT_EQ(table.exit.code, 0) << table.err;
  EXPECT_NE(table.out.find("torch::optim::SGD"), std::string::npos)
      << table.out;
  EXPECT_NE(table.out.find(own[0]), std::string::npos) << table.out;
}

TEST_F(CoexistTest,
       AHostWithUnluckyProtosAbseilAServerAndExceptionsOfItsOwnRunsAndExits) {
  ExpectHostRuns(HOST_PROGRAM_PATH, "host");
}

TEST_F(CoexistTest, TheSameHostThatLoadsAndUnloadsTheAgentRunsAndExits) {
  ExpectHostRuns(HOST_LOADER_PATH, "loaded");
}

}  // namespace
}  // namespace gradtap::testing
