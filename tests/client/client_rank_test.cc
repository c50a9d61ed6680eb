// The query library's rankings, comparisons and groups.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "client/fake_query_service.h"
#include "client/include/gradtap/client.h"

namespace gradtap::client {
namespace {

using ::testing::ElementsAre;
using testing::FakeCollector;

class ClientRankTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mnist"] = testing::MakeRanked();
    collector_.service.runs["grouped"] = testing::MakeGrouped();
    collector_.service.runs["compared"] = testing::MakeCompared();
    collector_.Start();
    ClientOptions options;
    options.collector = collector_.address();
    auto client = Client::Connect(options);
    ASSERT_TRUE(client.ok()) << client.error().message;
    client_.emplace(*std::move(client));
  }

  FakeCollector collector_;
  std::optional<Client> client_;
};

TEST_F(ClientRankTest, TopKeepsValueAbsentAndUnrankedApart) {
  TopQuery query;
  query.run = "mnist";
  query.statistic = "grad.rms";
  query.step = 40;
  query.since_step = -7;
  query.order = TopOrder::kGrowth;
  query.ascending = true;
  query.limit = 3;
  query.match = "conv";
  query.merged = true;
  query.attempt = 2;
  const auto answer = client_->Top(query);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->step, 40);
  EXPECT_EQ(answer->since_step, 20);
  EXPECT_EQ(answer->ranked, 9u);
  ASSERT_EQ(answer->rows.size(), 3u);
  EXPECT_TRUE(std::isnan(*answer->rows[0].value));
  EXPECT_EQ(answer->rows[0].nonfinite, 12u);
  EXPECT_FALSE(answer->rows[0].score.has_value());
  EXPECT_EQ(answer->rows[1].score, 3);
  EXPECT_EQ(answer->rows[1].since_value, 0.5);
  EXPECT_FALSE(answer->rows[2].value.has_value());
  EXPECT_FALSE(answer->rows[2].since_value.has_value());
  const auto sent = collector_.service.Last<v1::GetTopRequest>();
  EXPECT_EQ(sent.statistic(), "grad.rms");
  EXPECT_EQ(sent.step(), 40);
  EXPECT_EQ(sent.since_step(), -7);
  EXPECT_EQ(sent.order(), v1::TOP_ORDER_GROWTH);
  EXPECT_TRUE(sent.ascending());
  EXPECT_EQ(sent.limit(), 3u);
  EXPECT_EQ(sent.match(), "conv");
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.attempt(), 2u);
}

TEST_F(ClientRankTest, CompareKeepsWhatIsNotKnownApart) {
  CompareQuery query;
  query.good_run = "compared";
  query.other_run = "mnist";
  query.statistics = {"grad.rms"};
  query.match = "fc";
  query.steps.begin = -5;
  query.merged = true;
  query.good_attempt = 1;
  query.other_attempt = 2;
  query.order = CompareOrder::kFirstStep;
  query.limit = 4;
  query.noise_factor = 6;
  query.steps_in_a_row = 7;
  const auto answer = client_->Compare(query);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  ASSERT_EQ(answer->differences.size(), 2u);
  EXPECT_EQ(answer->differences[0].good, "0.1");
  EXPECT_FALSE(answer->differences[0].other.has_value());
  EXPECT_EQ(answer->differences[1].parameter, "fc.weight");
  EXPECT_EQ(answer->compared_steps, 390u);
  EXPECT_EQ(answer->first_diverged_step, 100);
  ASSERT_EQ(answer->rows.size(), 3u);
  EXPECT_EQ(answer->rows[0].first_step, 250);
  EXPECT_EQ(answer->rows[0].log2_ratio, 3);
  EXPECT_EQ(answer->rows[0].other_nonfinite, 2u);
  EXPECT_FALSE(answer->rows[1].other_value.has_value());
  EXPECT_FALSE(answer->rows[2].first_step.has_value());
  EXPECT_FALSE(answer->rows[2].log2_ratio.has_value());
  EXPECT_FALSE(answer->rows[2].noise_log2.has_value());
  const auto sent = collector_.service.Last<v1::CompareRunsRequest>();
  EXPECT_EQ(sent.other_run(), "mnist");
  EXPECT_THAT(sent.statistics(), ElementsAre("grad.rms"));
  EXPECT_EQ(sent.match(), "fc");
  EXPECT_EQ(sent.steps().begin(), -5);
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.good_attempt(), 1u);
  EXPECT_EQ(sent.other_attempt(), 2u);
  EXPECT_EQ(sent.order(), v1::COMPARE_ORDER_FIRST_STEP);
  EXPECT_EQ(sent.limit(), 4u);
  EXPECT_EQ(sent.noise_factor(), 6);
  EXPECT_EQ(sent.steps_in_a_row(), 7u);
}

TEST_F(ClientRankTest, GroupsSayOfHowManyParametersTheyAre) {
  SeriesQuery series;
  series.runs = {"grouped"};
  series.statistics = {"grad.l2"};
  const auto lines = client_->Series(series);
  ASSERT_TRUE(lines.ok()) << lines.error().message;
  EXPECT_EQ(lines->series.at(0).parameter, "/^encoder/");
  EXPECT_EQ(lines->series.at(0).members, 12u);
  SnapshotQuery snapshot;
  snapshot.run = "grouped";
  snapshot.merge = {"^encoder"};
  const auto rows = client_->Snapshot(snapshot);
  ASSERT_TRUE(rows.ok()) << rows.error().message;
  EXPECT_EQ(rows->rows.at(0).members, 12u);
  EXPECT_THAT(collector_.service.Last<v1::GetSnapshotRequest>().merge_match(),
              ElementsAre("^encoder"));
}

}  // namespace
}  // namespace gradtap::client
