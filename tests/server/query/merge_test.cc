// Merged series and snapshots: shards merge, of replicas the lowest rank.

#include "server/query/merge.h"

#include <cmath>
#include <random>

#include "server/query/query_testing.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MergeTest : public QueryTest {
 protected:
  MergeTest()
      : schema_(MakeSchema(1, {MakeParameter("replica"),
                               MakeParameter("shard", Placement::kSharded)})) {}

  // Opens `n` ranks of a world of `world_size`.
  void OpenRanks(std::uint32_t n, std::uint32_t world_size) {
    for (std::uint32_t rank = 0; rank < n; ++rank) {
      streams_.push_back(Open("run", "one", rank, kStart, world_size));
      store_.AddSchema(streams_.back(), schema_);
    }
  }

  // Its records have mean `value` plus place plus 100 for each role.
  void AddStep(std::size_t rank, std::int64_t step, float value) {
    store_.AddStep(streams_[rank], 0, MakeStep(schema_, step, value));
  }

  v1::GetSeriesResponse Merged(const std::string& statistic,
                               const std::string& match,
                               std::vector<std::uint32_t> ranks = {}) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics(statistic);
    request.set_match(match);
    request.set_merged(true);
    for (const std::uint32_t rank : ranks) request.add_ranks(rank);
    v1::GetSeriesResponse response;
    GRADTAP_EXPECT_OK(GetSeries(environment_, request, {}, &response));
    return response;
  }

  v1::GetSnapshotResponse Snapshot(std::optional<std::int64_t> step = {}) {
    return SnapshotOf("weight.mean", step);
  }

  v1::GetSnapshotResponse SnapshotOf(const std::string& statistic,
                                     std::optional<std::int64_t> step) {
    v1::GetSnapshotRequest request;
    request.set_run("run");
    request.set_merged(true);
    request.add_statistics(statistic);
    if (step.has_value()) request.set_step(*step);
    v1::GetSnapshotResponse response;
    GRADTAP_EXPECT_OK(GetSnapshot(environment_, request, {}, &response));
    return response;
  }

  const Schema schema_;
  std::vector<StreamId> streams_;
};

TEST_F(MergeTest, OfReplicasTheLowestRankThatHasTheStepIsTaken) {
  OpenRanks(2, 2);
  AddStep(0, 0, 1);
  AddStep(1, 0, 2);
  AddStep(1, 1, 3);
  const v1::GetSeriesResponse answer = Merged("weight.mean", "replica");
  ASSERT_EQ(answer.series_size(), 1);
  EXPECT_EQ(answer.series(0).rank(), kMergedRank);
  EXPECT_THAT(answer.series(0).step(), ElementsAre(0, 1));
  EXPECT_THAT(answer.series(0).value(), ElementsAre(101, 103));
}

TEST_F(MergeTest, LocalGradientsOfReplicasMergeSoThatNoRankHides) {
  Parameter parameter = MakeParameter("replica");
  parameter.roles = {Role::kGrad, Role::kGradLocal};
  const Schema schema = MakeSchema(1, {parameter});
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    streams_.push_back(Open("run", "one", rank, kStart, 2));
    store_.AddSchema(streams_.back(), schema);
  }
  StepData step = MakeStep(schema, 0, 1);
  store_.AddStep(streams_[0], 0, step);
  for (RoleColumns& columns : step.roles) {
    Record record = columns.Get(0);
    record.mean += 10;
    record.nan = 3;
    columns.Set(0, record);
  }
  store_.AddStep(streams_[1], 0, step);
  store_.AddStep(streams_[0], 0, MakeStep(schema, 1, 1));  // Rank 0 alone.

  const auto nan = Merged("grad_local.nan", "replica");
  ASSERT_EQ(nan.series_size(), 1);
  EXPECT_THAT(nan.series(0).step(), ElementsAre(0));
  EXPECT_THAT(nan.series(0).value(), ElementsAre(3));
  EXPECT_THAT(Merged("grad.nan", "replica").series(0).value(),
              ElementsAre(0, 0));
  // The newest step that both ranks have.
  EXPECT_EQ(SnapshotOf("grad_local.nan", {}).step(), 0);
  EXPECT_EQ(SnapshotOf("grad_local.nan", {}).rows(0).value(0), 3);
  EXPECT_EQ(SnapshotOf("grad_local.nan", 1).rows(0).absent_size(), 1);
}

TEST_F(MergeTest, ShardsMergeAndAMissingShardMakesTheStepMissing) {
  OpenRanks(3, 3);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    AddStep(rank, 0, static_cast<float>(rank));
    if (rank != 1) AddStep(rank, 1, static_cast<float>(rank));
    AddStep(rank, 2, static_cast<float>(rank));
  }
  const v1::GetSeriesResponse answer = Merged("weight.mean", "shard");
  ASSERT_EQ(answer.series_size(), 1);
  EXPECT_THAT(answer.series(0).step(), ElementsAre(0, 2));
  EXPECT_EQ(answer.series(0).value(0), 102);  // Of 101, 102 and 103.
  Moments all;
  for (int rank = 0; rank < 3; ++rank) {
    all = Merge(all, ToMoments(RecordOf(101.0f + rank), kNumel));
  }
  EXPECT_EQ(Merged("weight.l2", "shard").series(0).value(0),
            Derive(Field::kL2, all));
}

TEST_F(MergeTest, ARatioOfShardsIsTheRatioOfTheMergedNorms) {
  OpenRanks(2, 2);
  AddStep(0, 0, 1);
  AddStep(1, 0, 5);
  const double ratio = Merged("grad.ratio", "shard").series(0).value(0);
  EXPECT_EQ(ratio, Merged("grad.l2", "shard").series(0).value(0) /
                       Merged("weight.l2", "shard").series(0).value(0));
}

TEST_F(MergeTest, AnAbsentShardMakesTheValueAbsent) {
  OpenRanks(2, 2);
  AddStep(0, 0, 1);
  StepData step = MakeStep(schema_, 0, 1);
  step.roles[1].SetAbsent(1);
  store_.AddStep(streams_[1], 0, step);
  const v1::GetSeriesResponse grad = Merged("grad.l2", "shard");
  EXPECT_THAT(grad.series(0).absent(), ElementsAre(0));
  EXPECT_TRUE(std::isnan(grad.series(0).value(0)));
  EXPECT_EQ(Merged("weight.l2", "shard").series(0).absent_size(), 0);
}

TEST_F(MergeTest, ARankThatWasNeverSeenLeavesShardsMissing) {
  OpenRanks(2, 4'000'000'000u);
  AddStep(0, 0, 1);
  AddStep(1, 0, 2);
  EXPECT_EQ(Merged("weight.mean", "shard").series_size(), 0);
  EXPECT_EQ(Merged("weight.mean", "replica").series_size(), 1);
  // Asked for the two ranks there are, their part is the answer.
  EXPECT_THAT(Merged("weight.mean", "shard", {0, 1}).series(0).value(),
              ElementsAre(102.5));
}

TEST_F(MergeTest, ARankWhoseModelLacksTheParameterIsNotWaitedFor) {
  OpenRanks(2, 3);
  const StreamId other = Open("run", "one", 2, kStart, 3);
  store_.AddSchema(other, MakeSchema(1, {MakeParameter("elsewhere")}));
  AddStep(0, 0, 1);
  AddStep(1, 0, 3);
  EXPECT_THAT(Merged("weight.mean", "shard").series(0).value(),
              ElementsAre(103));
}

TEST_F(MergeTest, ASkippedStepOfOneRankIsAMissingShard) {
  OpenRanks(2, 2);
  AddStep(0, 0, 1);
  store_.AddStep(streams_[1], 0, MakeSkipped(0, GapCause::kBudget));
  EXPECT_EQ(Merged("weight.mean", "shard").series_size(), 0);
  const v1::GetSeriesResponse answer = Merged("weight.mean", "replica");
  EXPECT_EQ(answer.series_size(), 1);
  ASSERT_EQ(answer.gaps_size(), 1);
  EXPECT_EQ(answer.gaps(0).rank(), 1u);
}

TEST_F(MergeTest, RandomShardsEqualAPairwiseMergeInDouble) {
  OpenRanks(4, 4);
  std::mt19937 rng(3);
  std::vector<double> expected;
  for (int step = 0; step < 200; ++step) {
    Moments all;
    bool complete = true;
    for (std::size_t rank = 0; rank < 4; ++rank) {
      if (std::uniform_int_distribution<int>(0, 9)(rng) == 0) {
        complete = false;
        continue;
      }
      const float value = std::normal_distribution<float>(0, 50)(rng);
      AddStep(rank, step, value);
      all = Merge(all, ToMoments(RecordOf(value + 201), kNumel));
    }
    if (complete) expected.push_back(Derive(Field::kStd, all));
  }
  const v1::GetSeriesResponse answer = Merged("grad.std", "shard");
  ASSERT_EQ(answer.series_size(), 1);
  ASSERT_EQ(answer.series(0).value_size(), static_cast<int>(expected.size()));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(answer.series(0).value(static_cast<int>(i)), expected[i]);
  }
}

TEST_F(MergeTest, TheNewestMergedSnapshotIsTheNewestThatAllShardsHave) {
  OpenRanks(2, 2);
  AddStep(0, 0, 1);
  AddStep(1, 0, 3);
  AddStep(0, 1, 1);
  const v1::GetSnapshotResponse newest = Snapshot();
  EXPECT_EQ(newest.step(), 0);
  EXPECT_EQ(newest.rank(), kMergedRank);
  ASSERT_EQ(newest.rows_size(), 2);
  EXPECT_EQ(newest.rows(0).parameter(), "replica");
  EXPECT_EQ(newest.rows(0).value(0), 101);
  EXPECT_EQ(newest.rows(1).value(0), 103);
  // At step 1 a shard is missing: no row for it.
  const v1::GetSnapshotResponse last = Snapshot(1);
  ASSERT_EQ(last.rows_size(), 1);
  EXPECT_EQ(last.rows(0).parameter(), "replica");
}

}  // namespace
}  // namespace gradtap::server::testing
