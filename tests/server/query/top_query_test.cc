#include "server/query/top_query.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <random>

#include "core/statistic.h"
#include "server/query/merge.h"
#include "server/query/query_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TopQueryTest : public QueryTest {
 protected:
  // A run "run" whose parameters have only gradients.
  void Start(const std::vector<std::string>& names) {
    std::vector<Parameter> parameters;
    for (const std::string& name : names) {
      parameters.push_back(MakeParameter(name));
      parameters.back().roles = {Role::kGrad};
    }
    schema_ = MakeSchema(1, parameters);
    stream_ = Open("run");
    store_.AddSchema(stream_, schema_);
  }

  // A step whose gradients have these means and no deviation.
  void AddStep(std::int64_t step, const std::vector<float>& means) {
    StepData data = MakeStep(schema_, step, 0);
    for (std::size_t i = 0; i < means.size(); ++i) {
      data.roles[0].Set(i, RecordOf(means[i], 0));
    }
    store_.AddStep(stream_, 0, data);
  }

  static v1::GetTopRequest Ask(const std::string& statistic) {
    v1::GetTopRequest request;
    request.set_run("run");
    request.set_statistic(statistic);
    return request;
  }
  static v1::GetTopRequest Since(const std::string& statistic,
                                 std::int64_t since, v1::TopOrder order = {}) {
    v1::GetTopRequest request = Ask(statistic);
    request.set_since_step(since);
    request.set_order(order);
    return request;
  }

  absl::StatusOr<v1::GetTopResponse> Get(const v1::GetTopRequest& request,
                                         const Cancelled& cancelled = {}) {
    v1::GetTopResponse response;
    absl::Status status = GetTop(environment_, request, cancelled, &response);
    if (!status.ok()) return status;
    return response;
  }

  std::vector<std::string> Names(const v1::GetTopRequest& request) {
    const auto answer = Get(request);
    GRADTAP_EXPECT_OK(answer);
    std::vector<std::string> names;
    if (!answer.ok()) return names;
    for (const v1::TopRow& row : answer->rows()) {
      names.push_back(row.parameter());
    }
    return names;
  }

  Schema schema_;
  StreamId stream_ = 0;
};

TEST_F(TopQueryTest, RanksTheLastStepByValueTheLargestFirst) {
  Start({"a", "b", "c"});
  AddStep(0, {9, 8, 7});
  AddStep(1, {1, 3, -2});
  const auto answer = Get(Ask("grad.l2"));
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->step(), 1);
  EXPECT_EQ(answer->order(), v1::TOP_ORDER_VALUE);
  EXPECT_EQ(answer->ranked(), 3u);
  EXPECT_EQ(answer->ranked_nonfinite(), 0u);
  EXPECT_FALSE(answer->has_since_step());
  ASSERT_EQ(answer->rows_size(), 3);
  EXPECT_EQ(answer->rows(0).parameter(), "b");
  EXPECT_EQ(answer->rows(0).value(), answer->rows(0).score());
  EXPECT_EQ(answer->rows(0).kind(), v1::KIND_PARAMETER);
  EXPECT_THAT(Names(Ask("grad.l2")), ElementsAre("b", "c", "a"));
  EXPECT_THAT(Names(Ask("grad.mean")), ElementsAre("b", "a", "c"));
  v1::GetTopRequest ascending = Ask("grad.mean");
  ascending.set_ascending(true);
  ascending.set_step(0);
  ascending.set_limit(2);
  EXPECT_THAT(Names(ascending), ElementsAre("c", "b"));
  EXPECT_EQ(Get(ascending)->ranked(), 3u);
  // The default is grad.l2.
  EXPECT_EQ(Get(Ask(""))->statistic(), "grad.l2");
}

TEST_F(TopQueryTest, AChangeIsHowManyTimesLargerOrSmaller) {
  Start({"grew4", "shrank16", "same", "fell"});
  AddStep(0, {1, 32, 5, 100});
  AddStep(1, {4, 2, 5, 50});
  const auto answer = Get(Since("grad.l2", 0));
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->order(), v1::TOP_ORDER_CHANGE);
  EXPECT_EQ(answer->since_step(), 0);
  EXPECT_THAT(Names(Since("grad.l2", 0)),
              ElementsAre("shrank16", "grew4", "fell", "same"));
  EXPECT_NEAR(answer->rows(0).score(), 4, 1e-12);
  EXPECT_NEAR(answer->rows(1).score(), 2, 1e-12);
  EXPECT_EQ(answer->rows(3).score(), 0);
  EXPECT_THAT(Names(Since("grad.l2", 0, v1::TOP_ORDER_GROWTH)),
              ElementsAre("grew4", "same", "fell", "shrank16"));
  EXPECT_THAT(Names(Since("grad.mean", 0, v1::TOP_ORDER_DIFFERENCE)),
              ElementsAre("grew4", "same", "shrank16", "fell"));
  v1::GetTopRequest shrunk = Since("grad.l2", -2, v1::TOP_ORDER_GROWTH);
  shrunk.set_ascending(true);
  EXPECT_THAT(Names(shrunk), ElementsAre("shrank16", "fell", "same", "grew4"));
}

TEST_F(TopQueryTest, FromAndToZeroIsInfiniteAndFromZeroToZeroNothing) {
  Start({"still", "woke", "died", "grew"});
  AddStep(0, {0, 0, 1, 1});
  AddStep(1, {0, 1, 0, 8});
  const auto answer = Get(Since("grad.l2", 0));
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(Names(Since("grad.l2", 0)),
              ElementsAre("woke", "died", "grew", "still"));
  EXPECT_TRUE(std::isinf(answer->rows(0).score()));
  EXPECT_EQ(answer->rows(3).score(), 0);
  EXPECT_THAT(Names(Since("grad.l2", 0, v1::TOP_ORDER_GROWTH)),
              ElementsAre("woke", "grew", "still", "died"));
}

// A norm is over the finite elements: it looks calm where a NaN sits.
TEST_F(TopQueryTest, WhatIsNotFiniteComesFirstAndWhatIsAbsentLast) {
  Start({"absent", "large", "one_nan", "small", "all_nan", "was_nan"});
  StepData before = MakeStep(schema_, 0, 0);
  for (std::size_t i = 0; i < 6; ++i) before.roles[0].Set(i, RecordOf(1, 0));
  before.roles[0].nan[5] = 2;
  store_.AddStep(stream_, 0, before);
  StepData now = MakeStep(schema_, 1, 0);
  now.roles[0].SetAbsent(0);
  now.roles[0].Set(1, RecordOf(1000, 0));
  now.roles[0].Set(2, RecordOf(1, 0));
  now.roles[0].pos_inf[2] = 1;
  now.roles[0].Set(3, RecordOf(0.001f, 0));
  now.roles[0].Set(4, Record{});
  now.roles[0].nan[4] = kNumel;
  now.roles[0].Set(5, RecordOf(1, 0));
  now.roles[0].nan[5] = 2;
  store_.AddStep(stream_, 0, now);
  for (const char* statistic : {"grad.l2", "grad.mean"}) {
    for (const bool ascending : {false, true}) {
      v1::GetTopRequest request = Ask(statistic);
      request.set_ascending(ascending);
      const auto names = Names(request);
      EXPECT_THAT(names, ElementsAre("one_nan", "all_nan", "was_nan",
                                     ascending ? "small" : "large",
                                     ascending ? "large" : "small", "absent"));
    }
  }
  const auto answer = Get(Since("grad.l2", 0));
  GRADTAP_ASSERT_OK(answer);
  // What was not finite before either is no news.
  EXPECT_THAT(
      Names(Since("grad.l2", 0)),
      ElementsAre("one_nan", "all_nan", "was_nan", "large", "small", "absent"));
  EXPECT_EQ(answer->ranked(), 6u);
  EXPECT_EQ(answer->ranked_nonfinite(), 3u);
  EXPECT_EQ(answer->rows(1).nonfinite(), kNumel);
  EXPECT_EQ(answer->rows(2).since_nonfinite(), 2u);
  EXPECT_TRUE(answer->rows(5).absent());
  EXPECT_TRUE(std::isnan(answer->rows(5).value()));
  EXPECT_TRUE(std::isnan(answer->rows(5).score()));
  // A count ranks by the count.
  EXPECT_THAT(
      Names(Ask("grad.nan")),
      ElementsAre("all_nan", "was_nan", "large", "one_nan", "small", "absent"));
}

TEST_F(TopQueryTest, WhatWasFiniteComesBeforeWhatWasNot) {
  Start({"old", "fresh"});
  for (std::int64_t step = 0; step < 2; ++step) {
    StepData data = MakeStep(schema_, step, 1);
    data.roles[0].nan[0] = 1;
    data.roles[0].nan[1] = static_cast<std::uint64_t>(step);
    store_.AddStep(stream_, 0, data);
  }
  EXPECT_THAT(Names(Ask("grad.l2")), ElementsAre("old", "fresh"));
  EXPECT_THAT(Names(Since("grad.l2", 0)), ElementsAre("fresh", "old"));
}

TEST_F(TopQueryTest, WhatWasNotFiniteOnceIsComparedAgainOnlyByItsValue) {
  Start({"old", "fresh", "recovered"});
  StepData before = MakeStep(schema_, 0, 0);
  before.roles[0].Set(0, RecordOf(1, 0));
  before.roles[0].Set(1, RecordOf(1, 0));
  before.roles[0].Set(2, Record{});
  before.roles[0].nan[2] = kNumel;
  store_.AddStep(stream_, 0, before);
  AddStep(1, {2, 4, 3});
  const auto answer = Get(Since("grad.mean", 0));
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(Names(Since("grad.mean", 0)),
              ElementsAre("fresh", "old", "recovered"));
  EXPECT_TRUE(std::isnan(answer->rows(2).score()));
  EXPECT_TRUE(std::isnan(answer->rows(2).since_value()));
  EXPECT_FALSE(answer->rows(2).since_absent());
}

TEST_F(TopQueryTest, EqualsKeepTheSchemasOrder) {
  Start({"d", "a", "c", "b"});
  AddStep(0, {1, 1, 1, 1});
  EXPECT_THAT(Names(Ask("grad.l2")), ElementsAre("d", "a", "c", "b"));
  v1::GetTopRequest ascending = Ask("grad.l2");
  ascending.set_ascending(true);
  EXPECT_THAT(Names(ascending), ElementsAre("d", "a", "c", "b"));
}

TEST_F(TopQueryTest, AParameterThatIsNewHasNothingToCompareWith) {
  Start({"a"});
  AddStep(0, {1});
  Parameter added = MakeParameter("new");
  added.roles = {Role::kGrad};
  Parameter kept = MakeParameter("a");
  kept.roles = {Role::kGrad};
  schema_ = MakeSchema(2, {added, kept});
  store_.AddSchema(stream_, schema_);
  AddStep(1, {5, 3});
  const auto answer = Get(Since("grad.mean", 0));
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->rows_size(), 2);
  EXPECT_EQ(answer->rows(0).parameter(), "a");
  EXPECT_NEAR(answer->rows(0).score(), std::log2(3), 1e-12);
  EXPECT_EQ(answer->rows(1).parameter(), "new");
  EXPECT_TRUE(answer->rows(1).since_absent());
  EXPECT_EQ(answer->rows(1).value(), 5);
}

TEST_F(TopQueryTest, OnlyParametersWithTheRolesAreRanked) {
  const Schema schema =
      MakeSchema(1, {MakeParameter("fc.weight"), MakeBuffer("bn.mean"),
                     MakeParameter("fc.bias")});
  AddRun("run", schema, 3);
  EXPECT_THAT(Names(Ask("update.ratio")), ElementsAre("fc.weight", "fc.bias"));
  EXPECT_THAT(Names(Ask("buffer.mean")), ElementsAre("bn.mean"));
  v1::GetTopRequest request = Ask("grad.l2");
  request.set_match("weight$");
  EXPECT_THAT(Names(request), ElementsAre("fc.weight"));
}

TEST_F(TopQueryTest, MergedShardsRankAsOneAndMissingOnesAreLeftOut) {
  const Schema schema = MakeSchema(
      1,
      {MakeParameter("replica"), MakeParameter("shard", Placement::kSharded)});
  std::vector<StreamId> streams;
  for (std::uint32_t rank = 0; rank < 2; ++rank) {
    streams.push_back(Open("run", "one", rank, kStart, 2));
    store_.AddSchema(streams.back(), schema);
    store_.AddStep(streams.back(), 0, MakeStep(schema, 0, 1.0f + 2 * rank));
  }
  store_.AddStep(streams[0], 0, MakeStep(schema, 1, 1));
  v1::GetTopRequest request = Ask("grad.mean");
  request.set_merged(true);
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->step(), 0);
  EXPECT_EQ(answer->rank(), kMergedRank);
  ASSERT_EQ(answer->rows_size(), 2);
  EXPECT_EQ(answer->rows(0).parameter(), "shard");
  EXPECT_EQ(answer->rows(0).value(), 203);  // Of 202 and 204.
  request.set_step(1);
  EXPECT_THAT(Names(request), ElementsAre("replica"));
  EXPECT_EQ(Get(request)->ranked(), 1u);
}

TEST_F(TopQueryTest, AnOlderAttemptCanBeRanked) {
  Start({"a", "b"});
  AddStep(0, {1, 2});
  const StreamId second = Open("run", "two", 0, kStart + kSecond);
  store_.AddSchema(second, schema_);
  StepData data = MakeStep(schema_, 0, 0);
  store_.AddStep(second, 0, data);
  v1::GetTopRequest request = Ask("grad.mean");
  EXPECT_EQ(Get(request)->rows(0).value(), 201);
  request.set_attempt(1);
  EXPECT_EQ(Get(request)->rows(0).value(), 2);
}

TEST_F(TopQueryTest, WhatMakesNoSenseIsNamed) {
  Start({"fc.weight", "fc.bias"});
  AddStep(0, {1, 2});
  AddStep(5, {1, 2});
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unknown = absl::StatusCode::kNotFound;
  EXPECT_THAT(Get(Ask("scalar.loss")),
              StatusIs(invalid, HasSubstr("'scalar.loss'")));
  EXPECT_THAT(Get(Ask("grad.l3")), StatusIs(unknown, HasSubstr("grad.l2")));
  EXPECT_THAT(Get(Ask("weight.l2")), StatusIs(unknown, HasSubstr("weight.l2")));
  v1::GetTopRequest request = Ask("grad.l2");
  request.set_order(v1::TOP_ORDER_GROWTH);
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("since_step")));
  request.set_order(static_cast<v1::TopOrder>(77));
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("77")));
  EXPECT_THAT(Get(Since("grad.l2", 5)),
              StatusIs(invalid, AllOf(HasSubstr("5 and then 5"))));
  EXPECT_THAT(Get(Since("grad.l2", 3)),
              StatusIs(unknown, HasSubstr("0 and 5")));
  request = Ask("grad.l2");
  request.set_match("fc.wieght");
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("'fc.weight'")));
  request.set_match("(");
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("'('")));
  request = Ask("grad.l2");
  request.set_rank(3);
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("rank 3")));
  request.set_run("rnu");
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("'rnu'")));
}

TEST_F(TopQueryTest, ItIsLimitedAndCanBeGivenUp) {
  Start({"a", "b", "c"});
  AddStep(0, {1, 2, 3});
  environment_.limits.max_values = 2;
  EXPECT_THAT(Get(Ask("grad.l2")),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("3 rows"), HasSubstr("--limit"))));
  v1::GetTopRequest request = Ask("grad.l2");
  request.set_limit(2);
  EXPECT_THAT(Names(request), ElementsAre("c", "b"));
  EXPECT_THAT(Get(request, [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  environment_.limits.max_read_bytes = 1;
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
}

// Against a sort of what a snapshot's values say.
TEST_F(TopQueryTest, RandomStepsRankAsASortOfTheirValues) {
  std::vector<std::string> names;
  for (int i = 0; i < 60; ++i) names.push_back("p" + std::to_string(i));
  Start(names);
  std::mt19937 rng(11);
  std::vector<std::vector<float>> means(2, std::vector<float>(names.size()));
  for (int step = 0; step < 2; ++step) {
    for (float& mean : means[step]) {
      mean = std::ldexp(1.0f, std::uniform_int_distribution<int>(-3, 3)(rng));
    }
    AddStep(step, means[step]);
  }
  std::vector<std::size_t> order(names.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return std::fabs(std::log2(means[1][a] / means[0][a])) >
           std::fabs(std::log2(means[1][b] / means[0][b]));
  });
  v1::GetTopRequest request = Since("grad.abs_mean", 0);
  request.set_limit(60);
  const std::vector<std::string> answer = Names(request);
  ASSERT_EQ(answer.size(), order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    EXPECT_EQ(answer[i], names[order[i]]) << i;
  }
}

}  // namespace
}  // namespace gradtap::server::testing
