// The query library's heat maps.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>

#include "client/fake_query_service.h"
#include "client/include/gradtap/client.h"

namespace gradtap::client {
namespace {

using testing::FakeCollector;
using testing::FakeRun;
using ::testing::HasSubstr;

// Three buckets. "full" has all states; "short" has one bucket and no flags;
// "long" one more than there are.
FakeRun MakeMapped() {
  FakeRun run;
  v1::GetHeatMapResponse& map = run.heat_map;
  map.set_run("mapped");
  map.set_attempt(2);
  map.set_rank(1);
  map.set_statistic("grad.mean");
  map.set_bucket_steps(64);
  for (int i = 0; i < 3; ++i) {
    v1::HeatMapBucket* bucket = map.add_buckets();
    bucket->set_first_step(100 * i);
    bucket->set_last_step(100 * i + 70);
    bucket->set_recorded(64);
    bucket->set_first_time_unix_ns(1'700'000'000'000'000'000 + i);
  }
  v1::HeatMapRow* row = map.add_rows();
  row->set_parameter("full");
  row->set_kind(v1::KIND_BUFFER);
  for (const float worst : {-2.5F, NAN, NAN}) row->add_worst(worst);
  row->set_flags(std::string("\1\2\0", 3));
  row = map.add_rows();
  row->set_parameter("short");
  row->add_worst(7);
  row = map.add_rows();
  row->set_parameter("long");
  for (const float worst : {1.F, 2.F, 3.F, 4.F}) row->add_worst(worst);
  row->set_flags(std::string("\0\0\1\1", 4));
  v1::GapInfo* gap = map.add_gaps();
  gap->set_lost(true);
  gap->mutable_gap()->set_first_step(71);
  gap->mutable_gap()->set_last_step(99);
  gap->mutable_gap()->set_steps(29);
  return run;
}

class ClientHeatMapTest : public ::testing::Test {
 protected:
  void SetUp() override {
    collector_.service.runs["mapped"] = MakeMapped();
    collector_.Start();
    ClientOptions options;
    options.collector = collector_.address();
    auto client = Client::Connect(options);
    ASSERT_TRUE(client.ok()) << client.error().message;
    client_.emplace(*std::move(client));
    query_.run = "mapped";
  }

  FakeCollector collector_;
  std::optional<Client> client_;
  HeatMapQuery query_;
};

TEST_F(ClientHeatMapTest, ColumnsAndGapsSayWhichStepsTheyAre) {
  const auto map = client_->HeatMap(query_);
  ASSERT_TRUE(map.ok()) << map.error().message;
  EXPECT_EQ(map->run, "mapped");
  EXPECT_EQ(map->attempt, 2u);
  EXPECT_EQ(map->rank, 1u);
  EXPECT_EQ(map->statistic, "grad.mean");
  EXPECT_EQ(map->bucket_steps, 64u);
  ASSERT_EQ(map->buckets.size(), 3u);
  EXPECT_EQ(map->buckets[2].first_step, 200);
  EXPECT_EQ(map->buckets[2].last_step, 270);
  EXPECT_EQ(map->buckets[2].recorded, 64u);
  EXPECT_EQ(map->buckets[2].first_time_unix_ns, 1'700'000'000'000'000'002);
  ASSERT_EQ(map->gaps.size(), 1u);
  EXPECT_TRUE(map->gaps[0].lost);
  EXPECT_EQ(map->gaps[0].first_step, 71);
  EXPECT_EQ(map->gaps[0].steps, 29u);
}

TEST_F(ClientHeatMapTest, NonFiniteAbsentAndMissingAreToldApart) {
  const auto map = client_->HeatMap(query_);
  ASSERT_TRUE(map.ok()) << map.error().message;
  ASSERT_EQ(map->rows.size(), 3u);
  const HeatMapRow& row = map->rows[0];
  EXPECT_EQ(row.parameter, "full");
  EXPECT_EQ(row.kind, ParameterKind::kBuffer);
  ASSERT_EQ(row.worst.size(), 3u);
  EXPECT_EQ(row.worst[0], -2.5F);
  EXPECT_TRUE(row.nonfinite(0));
  EXPECT_FALSE(row.absent(0));
  EXPECT_FALSE(row.missing(0));
  EXPECT_TRUE(std::isnan(row.worst[1]));
  EXPECT_FALSE(row.nonfinite(1));
  EXPECT_TRUE(row.absent(1));
  EXPECT_FALSE(row.missing(1));
  EXPECT_FALSE(row.nonfinite(2));
  EXPECT_FALSE(row.absent(2));
  EXPECT_TRUE(row.missing(2));
  EXPECT_TRUE(row.missing(3));  // No such bucket.
}

TEST_F(ClientHeatMapTest, ARowOfAnotherLengthIsMadeToFitTheBuckets) {
  const auto map = client_->HeatMap(query_);
  ASSERT_TRUE(map.ok()) << map.error().message;
  const HeatMapRow& cut = map->rows[1];
  ASSERT_EQ(cut.worst.size(), 3u);
  EXPECT_EQ(cut.worst[0], 7);
  EXPECT_FALSE(cut.missing(0));
  EXPECT_TRUE(cut.missing(1));
  EXPECT_TRUE(cut.missing(2));
  const HeatMapRow& longer = map->rows[2];
  EXPECT_EQ(longer.worst.size(), 3u);
  EXPECT_EQ(longer.flags.size(), 3u);
  EXPECT_FALSE(longer.nonfinite(1));
  EXPECT_TRUE(longer.nonfinite(2));
}

TEST_F(ClientHeatMapTest, TheQueryBecomesTheRequest) {
  ASSERT_TRUE(client_->HeatMap(query_).ok());
  const auto plain = collector_.service.Last<v1::GetHeatMapRequest>();
  EXPECT_EQ(plain.statistic(), "grad.l2");
  EXPECT_EQ(plain.max_buckets(), 0u);
  query_.statistic = "update.ratio";
  query_.match = "conv";
  query_.steps.begin = -100;
  query_.max_buckets = 7;
  query_.rank = 3;
  query_.merged = true;
  query_.attempt = 2;
  ASSERT_TRUE(client_->HeatMap(query_).ok());
  const auto sent = collector_.service.Last<v1::GetHeatMapRequest>();
  EXPECT_EQ(sent.run(), "mapped");
  EXPECT_EQ(sent.statistic(), "update.ratio");
  EXPECT_EQ(sent.match(), "conv");
  EXPECT_EQ(sent.steps().begin(), -100);
  EXPECT_FALSE(sent.steps().has_end());
  EXPECT_EQ(sent.max_buckets(), 7u);
  EXPECT_EQ(sent.rank(), 3u);
  EXPECT_TRUE(sent.merged());
  EXPECT_EQ(sent.attempt(), 2u);
}

TEST_F(ClientHeatMapTest, ARefusalIsAnErrorWithItsReason) {
  query_.run = "maped";
  EXPECT_EQ(client_->HeatMap(query_).error().code, ErrorCode::kNotFound);
  query_.run = "mapped";
  collector_.service.failure = {grpc::StatusCode::RESOURCE_EXHAUSTED,
                                "more than 4 parameters in 7 columns"};
  const auto refused = client_->HeatMap(query_);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kRefused);
  EXPECT_THAT(refused.error().message, HasSubstr("in 7 columns"));
}

}  // namespace
}  // namespace gradtap::client
