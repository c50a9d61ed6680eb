// The agent beside others in one process: the query library, and a host program
// with its own protos and gRPC server.

#include <gradtap/client.h>
#include <gtest/gtest.h>

#include <string>

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

TEST_F(CoexistTest, AHostProgramWithProtosAndAServerOfItsOwnRunsAndExits) {
  const Outcome outcome =
      RunProgram({HOST_PROGRAM_PATH, collector_.address(), "host"});
  EXPECT_EQ(outcome.exit.code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "host: 60 30\n");
  EXPECT_EQ(FindRun(collector_.address(), "host").stored_steps, 30u);
}

}  // namespace
}  // namespace gradtap::testing
