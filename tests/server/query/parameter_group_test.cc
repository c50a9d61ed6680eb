// Parameters taken together: series and snapshots of groups.

#include "server/query/parameter_group.h"

#include <gmock/gmock.h>

#include <cmath>
#include <optional>
#include <random>

#include "core/histogram.h"
#include "core/quantile.h"
#include "core/statistic.h"
#include "server/query/query_testing.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ParameterGroupTest : public QueryTest {
 protected:
  static Parameter Sized(const std::string& name, std::uint64_t numel,
                         Placement placement = Placement::kReplicated) {
    Parameter parameter = MakeParameter(name, placement);
    parameter.numel = numel;
    return parameter;
  }

  static v1::GetSeriesRequest AskSeries(const std::string& statistic,
                                        const std::string& group) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics(statistic);
    request.add_merge_match(group);
    return request;
  }

  absl::StatusOr<v1::GetSeriesResponse> Get(
      const v1::GetSeriesRequest& request) {
    v1::GetSeriesResponse response;
    absl::Status status = GetSeries(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  absl::StatusOr<v1::GetSnapshotResponse> Get(
      const v1::GetSnapshotRequest& request) {
    v1::GetSnapshotResponse response;
    absl::Status status = GetSnapshot(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  // Of the only series.
  v1::Series One(const v1::GetSeriesRequest& request) {
    const auto answer = Get(request);
    GRADTAP_EXPECT_OK(answer);
    if (!answer.ok() || answer->series_size() != 1) {
      ADD_FAILURE() << "not one series";
      return {};
    }
    return answer->series(0);
  }
};

TEST_F(ParameterGroupTest, ANormIsThatOfAllElements) {
  const Schema schema = MakeSchema(
      1, {Sized("b3.w", 100), Sized("b3.b", 7), Sized("head", 1000)});
  AddRun("run", schema, 3);
  const v1::Series series = One(AskSeries("grad.l2", "^b3\\."));
  EXPECT_EQ(series.parameter(), "/^b3\\./");
  EXPECT_EQ(series.members(), 2u);
  EXPECT_EQ(series.statistic(), "grad.l2");
  EXPECT_THAT(series.step(), ElementsAre(0, 1, 2));
  for (int step = 0; step < 3; ++step) {
    // Records of mean 200 + step + place and deviation 1.
    const double w = 100 * (1 + std::pow(200 + step, 2));
    const double b = 7 * (1 + std::pow(201 + step, 2));
    EXPECT_NEAR(series.value(step), std::sqrt(w + b), 1e-6);
  }
}

TEST_F(ParameterGroupTest, CountsAddAndExtremesAreThoseOfAll) {
  const Schema schema = MakeSchema(1, {Sized("a", 10), Sized("b", 20)});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  StepData step = MakeStep(schema, 0, 0);
  step.roles[1].nan[0] = 3;
  step.roles[1].nan[1] = 4;
  step.roles[1].min[0] = -50;
  step.roles[1].max[1] = 900;
  store_.AddStep(stream, 0, step);
  for (const auto& [statistic, value] :
       {std::pair<const char*, double>{"grad.nan", 7},
        {"grad.min", -50},
        {"grad.max", 900},
        {"grad.nonfinite", 7},
        {"grad.finite_fraction", 23.0 / 30}}) {
    EXPECT_EQ(One(AskSeries(statistic, ".")).value(0), value) << statistic;
  }
}

TEST_F(ParameterGroupTest, ARatioIsOfTheGroupsNorms) {
  const Schema schema = MakeSchema(1, {Sized("a", 10), Sized("b", 500)});
  AddRun("run", schema, 1);
  for (const char* role : {"grad", "update"}) {
    const std::string name(role);
    EXPECT_EQ(One(AskSeries(name + ".ratio", ".")).value(0),
              One(AskSeries(name + ".l2", ".")).value(0) /
                  One(AskSeries("weight.l2", ".")).value(0));
  }
}

TEST_F(ParameterGroupTest, AbsentMembersContributeNothing) {
  const Schema schema =
      MakeSchema(1, {Sized("a", 10), Sized("b", 20), Sized("c", 30)});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  StepData step = MakeStep(schema, 0, 0);
  step.roles[1].SetAbsent(1);
  store_.AddStep(stream, 0, step);
  step = MakeStep(schema, 1, 0);
  for (std::size_t i = 0; i < 3; ++i) step.roles[1].SetAbsent(i);
  store_.AddStep(stream, 0, step);
  const v1::Series l2 = One(AskSeries("grad.l2", "."));
  EXPECT_EQ(l2.value(0), One(AskSeries("grad.l2", "a|c")).value(0));
  EXPECT_EQ(l2.members(), 3u);
  EXPECT_THAT(l2.absent(), ElementsAre(1));
  EXPECT_TRUE(std::isnan(l2.value(1)));
  // Nor do their weights, where both are taken.
  const v1::Series ratio = One(AskSeries("grad.ratio", "."));
  EXPECT_EQ(ratio.value(0), One(AskSeries("grad.ratio", "a|c")).value(0));
  EXPECT_THAT(ratio.absent(), ElementsAre(1));
  EXPECT_NE(One(AskSeries("weight.l2", ".")).value(0),
            One(AskSeries("weight.l2", "a|c")).value(0));
}

TEST_F(ParameterGroupTest, AGroupOfOneIsItsParameterExactly) {
  const Schema schema = MakeSchema(1, {Sized("a", 7), Sized("b", 9)});
  AddRun("run", schema, 5);
  for (const char* statistic :
       {"grad.std", "weight.l2", "update.ratio", "grad.mean"}) {
    v1::GetSeriesRequest request = AskSeries(statistic, "^b$");
    const v1::Series group = One(request);
    request.clear_merge_match();
    request.set_match("^b$");
    const v1::Series alone = One(request);
    EXPECT_EQ(group.members(), 1u);
    EXPECT_EQ(alone.members(), 0u);
    ASSERT_EQ(group.value_size(), alone.value_size());
    for (int i = 0; i < group.value_size(); ++i) {
      EXPECT_EQ(group.value(i), alone.value(i));
    }
  }
}

TEST_F(ParameterGroupTest, SeveralGroupsAndRanksAndRunsEachHaveTheirSeries) {
  const Schema schema =
      MakeSchema(1, {Sized("a.w", 10), Sized("b.w", 20), MakeBuffer("a.mean")});
  AddRun("run", schema, 2);
  const StreamId other = Open("run", "one", 1);
  store_.AddSchema(other, schema);
  store_.AddStep(other, 0, MakeStep(schema, 0, 50));
  v1::GetSeriesRequest request = AskSeries("grad.mean", "a");
  request.add_merge_match("b");
  request.add_merge_match("a");  // Twice is once.
  request.add_statistics("scalar.loss");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 6);
  EXPECT_EQ(answer->series(0).parameter(), "");
  EXPECT_EQ(answer->series(1).parameter(), "/a/");
  EXPECT_EQ(answer->series(1).members(), 1u);  // The buffer has no gradient.
  EXPECT_THAT(answer->series(1).value(), ElementsAre(200, 201));
  EXPECT_EQ(answer->series(2).parameter(), "/b/");
  EXPECT_EQ(answer->series(4).rank(), 1u);
  EXPECT_THAT(answer->series(4).value(), ElementsAre(250));
}

TEST_F(ParameterGroupTest, MatchNarrowsTheMembers) {
  const Schema schema = MakeSchema(1, {Sized("a.w", 10), Sized("a.b", 20)});
  AddRun("run", schema, 1);
  v1::GetSeriesRequest request = AskSeries("grad.mean", "a");
  request.set_match("w$");
  EXPECT_THAT(One(request).value(), ElementsAre(200));
  request.set_match("w$");
  request.set_merge_match(0, "b$");
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'b$'")));
}

TEST_F(ParameterGroupTest, OverRanksShardsMergeFirst) {
  const Schema schema = MakeSchema(
      1, {Sized("replica", 10), Sized("shard", 30, Placement::kSharded)});
  std::vector<StreamId> streams;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    streams.push_back(Open("run", "one", rank, kStart, 2));
    store_.AddSchema(streams.back(), schema);
    store_.AddStep(streams.back(), 0,
                   MakeStep(schema, 0, static_cast<float>(10 * rank)));
  }
  store_.AddStep(streams[0], 0, MakeStep(schema, 1, 1));  // Rank 0 alone.
  v1::GetSeriesRequest request = AskSeries("grad.l2", ".");
  request.set_merged(true);
  const v1::Series series = One(request);
  EXPECT_THAT(series.step(), ElementsAre(0));  // A shard is missing at 1.
  Moments all = ToMoments(RecordOf(200), 10);
  Moments shards;
  for (const float mean : {201.0f, 211.0f}) {
    shards = Merge(shards, ToMoments(RecordOf(mean), 30));
  }
  EXPECT_EQ(series.value(0), Derive(Field::kL2, Merge(all, shards)));
  // Replicas alone are all there.
  request.set_merge_match(0, "replica");
  EXPECT_THAT(One(request).step(), ElementsAre(0, 1));
}

// Ranks of a pipeline have different parameters: of what only the rank that is
// missing has, a part is not shown as the whole.
TEST_F(ParameterGroupTest, AStageThatIsMissingMakesTheGroupMissing) {
  const Schema first = MakeSchema(1, {Sized("l0.w", 10), Sized("l1.w", 10)});
  const Schema second = MakeSchema(1, {Sized("l2.w", 10), Sized("head", 10)});
  const StreamId s0 = Open("run", "one", 0, kStart, 2);
  const StreamId s1 = Open("run", "one", 1, kStart, 2);
  store_.AddSchema(s0, first);
  store_.AddSchema(s1, second);
  store_.AddStep(s0, 0, MakeStep(first, 0, 0));
  store_.AddStep(s1, 0, MakeStep(second, 0, 0));
  store_.AddStep(s0, 0, MakeStep(first, 1, 0));
  store_.AddStep(s1, 0, MakeSkipped(1, GapCause::kBudget));
  v1::GetSeriesRequest request = AskSeries("grad.l2", "^l");
  request.set_merged(true);
  EXPECT_THAT(One(request).step(), ElementsAre(0));
  EXPECT_EQ(One(request).members(), 3u);
  request.set_merge_match(0, "^l[01]");
  EXPECT_THAT(One(request).step(), ElementsAre(0, 1));
  request.set_merge_match(0, "^l");
  request.set_match("l[01]");
  EXPECT_THAT(One(request).step(), ElementsAre(0, 1));
  // The newest snapshot is of a step that both stages have.
  v1::GetSnapshotRequest snapshot;
  snapshot.set_run("run");
  snapshot.set_merged(true);
  snapshot.add_statistics("grad.l2");
  snapshot.add_merge_match("^l");
  EXPECT_EQ(Get(snapshot)->step(), 0);
  EXPECT_EQ(Get(snapshot)->rows(0).members(), 3u);
  snapshot.set_step(1);
  EXPECT_THAT(Get(snapshot)->rows(), IsEmpty());
  snapshot.set_merge_match(0, "^l2");  // Nothing of it is at this step.
  GRADTAP_ASSERT_OK(Get(snapshot));
  EXPECT_THAT(Get(snapshot)->rows(), IsEmpty());
}

TEST_F(ParameterGroupTest, ASnapshotHasARowForEachGroup) {
  const Schema schema =
      MakeSchema(1, {Sized("a.w", 10), Sized("b.w", 20), MakeBuffer("a.mean")});
  AddRun("run", schema, 4);
  v1::GetSnapshotRequest request;
  request.set_run("run");
  request.set_step(2);
  for (const char* name : {"grad.l2", "buffer.mean", "grad.ratio"}) {
    request.add_statistics(name);
  }
  request.add_merge_match("b");
  request.add_merge_match("a");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->rank(), 0u);
  EXPECT_EQ(answer->step(), 2);
  EXPECT_EQ(answer->scalars_size(), 3);
  ASSERT_EQ(answer->rows_size(), 2);
  EXPECT_EQ(answer->rows(0).parameter(), "/b/");
  EXPECT_EQ(answer->rows(0).members(), 1u);
  EXPECT_EQ(answer->rows(0).kind(), v1::KIND_UNSPECIFIED);
  EXPECT_THAT(answer->rows(0).absent(), ElementsAre(1));
  EXPECT_EQ(answer->rows(1).parameter(), "/a/");
  EXPECT_EQ(answer->rows(1).members(), 2u);
  EXPECT_EQ(answer->rows(1).absent_size(), 0);
  v1::GetSeriesRequest series = AskSeries("grad.l2", "a");
  EXPECT_EQ(answer->rows(1).value(0), One(series).value(2));
  request.add_merge_match("nothing");
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("'nothing'")));
}

TEST_F(ParameterGroupTest, QuantilesOfAGroupAreThoseOfAllElements) {
  const Schema schema = MakeSchema(1, {Sized("a", 4), Sized("b", 4)});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  StepData step = MakeStep(schema, 0, 0);
  BinCounts all{};
  for (std::uint32_t place = 0; place < 2; ++place) {
    HistogramData histogram;
    histogram.role = Role::kGrad;
    histogram.place = place;
    histogram.bin = {kBinPositive + 120 + 5 * place};
    histogram.count = {4};
    AddBins(histogram.bin, histogram.count, &all);
    step.histograms.push_back(histogram);
  }
  store_.AddStep(stream, 0, step);
  store_.AddStep(stream, 0, MakeStep(schema, 1, 0));  // Without.
  const v1::Series series = One(AskSeries("grad.p75", "."));
  EXPECT_THAT(series.step(), ElementsAre(0));
  const Record a = RecordOf(200);
  const Record b = RecordOf(201);
  EXPECT_EQ(series.value(0), QuantileOf(all, 75'000'000, a.min, b.max).value);
  v1::GetSnapshotRequest request;
  request.set_run("run");
  request.add_statistics("grad.p75");
  request.add_merge_match(".");
  EXPECT_EQ(Get(request)->rows(0).value(0), series.value(0));
}

TEST_F(ParameterGroupTest, WhatMakesNoSenseIsNamed) {
  const Schema schema = MakeSchema(1, {Sized("fc.weight", 4)});
  AddRun("run", schema, 1);
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unknown = absl::StatusCode::kNotFound;
  EXPECT_THAT(Get(AskSeries("grad.l2", "(")),
              StatusIs(invalid, HasSubstr("'('")));
  EXPECT_THAT(Get(AskSeries("grad.l2", "")),
              StatusIs(invalid, HasSubstr("empty")));
  EXPECT_THAT(Get(AskSeries("grad.l2", "fc.wieght")),
              StatusIs(unknown, HasSubstr("'fc.weight'")));
  EXPECT_THAT(Get(AskSeries("buffer.mean", ".")),
              StatusIs(unknown, HasSubstr("buffer.mean")));
  v1::GetSeriesRequest request = AskSeries("grad.l2", "a");
  for (int i = 0; i < 64; ++i) request.add_merge_match(std::to_string(i));
  EXPECT_THAT(Get(request), StatusIs(invalid, AllOf(HasSubstr("65"),
                                                    HasSubstr("at most 64"))));
  v1::GetSeriesRequest large;
  for (int i = 0; i < 64; ++i) {
    large.add_merge_match(".{999}" + std::to_string(i));
  }
  large.mutable_runs()->CopyFrom(request.runs());
  large.mutable_statistics()->CopyFrom(request.statistics());
  EXPECT_THAT(Get(large), StatusIs(invalid, HasSubstr("too large together")));
}

// Random shapes, statistics and states against a merge of the raw records by
// the formulas of core/record.h.
class NaiveMergeTest : public ParameterGroupTest {
 protected:
  struct Raw {
    std::optional<Record> record[kRoleCount];  // By role; nothing: absent.
  };

  Record RandomRecord(std::uint64_t numel) {
    std::uniform_int_distribution<int> small(0, 5);
    Record record =
        RecordOf(std::normal_distribution<float>(0, 30)(rng_),
                 std::uniform_real_distribution<float>(0, 10)(rng_));
    record.abs_mean = std::fabs(record.mean) + record.std / 2;
    if (small(rng_) == 0) {
      record.nan = std::uniform_int_distribution<std::uint64_t>(0, numel)(rng_);
      if (record.nan == numel) record = Record{};
      if (record.zero + record.nan == 0) record.nan = numel;
    }
    if (small(rng_) == 0) record.zero = numel / 3;
    return record;
  }

  // Of the group's members that have the roles of the statistic.
  static std::optional<double> Naive(const Statistic& statistic,
                                     const std::vector<Raw>& raw,
                                     const std::vector<std::uint64_t>& numel) {
    Moments own;
    Moments weight;
    bool any = false;
    const bool ratio = statistic.field == Field::kRatio;
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const auto& a = raw[i].record[static_cast<int>(statistic.role)];
      const auto& b = raw[i].record[static_cast<int>(Role::kWeight)];
      if (!a.has_value() || (ratio && !b.has_value())) continue;
      any = true;
      own = Merge(own, ToMoments(*a, numel[i]));
      if (ratio) weight = Merge(weight, ToMoments(*b, numel[i]));
    }
    if (!any) return std::nullopt;
    if (!ratio) return Derive(statistic.field, own);
    return Derive(Field::kL2, own) / Derive(Field::kL2, weight);
  }

  static constexpr int kSteps = 60;
  static constexpr std::size_t kMembers = 9;

  // Steps of members "m0", "m1", ... of random sizes, and of others between
  // them. Any of a member's records may be absent.
  void Fill() {
    std::vector<Parameter> parameters;
    for (std::size_t i = 0; i < kMembers; ++i) {
      numel_.push_back(
          std::uniform_int_distribution<std::uint64_t>(1, 500)(rng_));
      parameters.push_back(Sized("m" + std::to_string(i), numel_.back()));
      parameters.push_back(Sized("x" + std::to_string(i), 3));
    }
    const Schema schema = MakeSchema(1, parameters);
    const StreamId stream = Open("run");
    store_.AddSchema(stream, schema);
    for (int step = 0; step < kSteps; ++step) {
      StepData data = MakeStep(schema, step, 1);
      const int absent = std::uniform_int_distribution<int>(0, 3)(rng_);
      for (RoleColumns& columns : data.roles) {
        for (std::size_t i = 0; i < kMembers; ++i) {
          std::optional<Record>& raw =
              raw_[step][i].record[static_cast<int>(columns.role)];
          raw = RandomRecord(numel_[i]);
          columns.Set(2 * i, *raw);
          if (std::uniform_int_distribution<int>(0, 2)(rng_) < absent) {
            columns.SetAbsent(2 * i);
            raw.reset();
          }
        }
      }
      store_.AddStep(stream, 0, data);
    }
  }

  std::vector<std::uint64_t> numel_;
  std::vector<std::vector<Raw>> raw_ =
      std::vector<std::vector<Raw>>(kSteps, std::vector<Raw>(kMembers));
  std::mt19937 rng_{17};
};

TEST_F(NaiveMergeTest, RandomGroupsEqualAMergeOfTheRawRecords) {
  std::vector<std::string> statistics;
  for (const std::string& name : AllStatisticNames()) {
    if (name.starts_with("grad.") || name.starts_with("update.")) {
      statistics.push_back(name);
    }
  }
  ASSERT_GT(statistics.size(), 30u);
  Fill();
  v1::GetSeriesRequest request;
  request.add_runs("run");
  request.add_merge_match("^m");
  int absent_seen = 0;
  for (const std::string& name : statistics) {
    request.clear_statistics();
    request.add_statistics(name);
    const v1::Series series = One(request);
    ASSERT_EQ(series.value_size(), kSteps) << name;
    const Statistic statistic = *ParseStatistic(name);
    int absent = 0;
    for (int step = 0; step < kSteps; ++step) {
      const std::optional<double> naive = Naive(statistic, raw_[step], numel_);
      const bool is_absent =
          absent < series.absent_size() &&
          series.absent(absent) == static_cast<std::uint32_t>(step);
      absent += is_absent ? 1 : 0;
      EXPECT_EQ(is_absent, !naive.has_value()) << name << " " << step;
      if (!naive.has_value()) continue;
      if (std::isnan(*naive)) {
        EXPECT_TRUE(std::isnan(series.value(step))) << name << " " << step;
      } else {
        EXPECT_EQ(series.value(step), *naive) << name << " " << step;
      }
    }
    absent_seen += absent;
  }
  EXPECT_GT(absent_seen, 0);
}

}  // namespace
}  // namespace gradtap::server::testing
