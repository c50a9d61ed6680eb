#include "server/query/compare_query.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <random>

#include "server/query/merge.h"
#include "server/query/query_testing.h"
#include "server/query/run_difference.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Of the gradient of a parameter at a step.
using Scale = std::function<float(std::int64_t step, std::size_t place)>;

class CompareQueryTest : public QueryTest {
 protected:
  CompareQueryTest()
      : schema_(MakeSchema(
            1, {MakeParameter("a"), MakeParameter("b"), MakeParameter("c")})) {}

  // Steps [begin, end) whose gradients have noise of a tenth, times `scale`.
  void Fill(StreamId stream, std::int64_t begin, std::int64_t end,
            unsigned seed, const Scale& scale = {}) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> noise(0, 0.1f);
    for (std::int64_t step = begin; step < end; ++step) {
      StepData data = MakeStep(schema_, step, 1);
      for (std::size_t place = 0; place < 3; ++place) {
        const float factor = scale ? scale(step, place) : 1;
        data.roles[1].Set(place, RecordOf(factor * std::exp(noise(rng)), 0));
      }
      store_.AddStep(stream, 0, data);
    }
  }

  StreamId Add(const std::string& run, std::int64_t steps, unsigned seed,
               const Scale& scale = {}) {
    const StreamId stream = Open(run);
    store_.AddSchema(stream, schema_);
    Fill(stream, 0, steps, seed, scale);
    return stream;
  }

  static v1::CompareRunsRequest Ask(const std::string& statistic = "grad.l2") {
    v1::CompareRunsRequest request;
    request.set_good_run("good");
    request.set_other_run("other");
    request.add_statistics(statistic);
    return request;
  }

  absl::StatusOr<v1::CompareRunsResponse> Get(
      const v1::CompareRunsRequest& request, const Cancelled& cancelled = {}) {
    v1::CompareRunsResponse response;
    absl::Status status =
        CompareRuns(environment_, request, cancelled, &response);
    if (!status.ok()) return status;
    return response;
  }

  static std::vector<std::string> Names(const v1::CompareRunsResponse& answer) {
    std::vector<std::string> names;
    for (const v1::CompareRow& row : answer.rows()) {
      names.push_back(row.parameter());
    }
    return names;
  }

  const Schema schema_;
};

TEST_F(CompareQueryTest, IdenticalRunsDivergeNowhere) {
  Add("good", 200, 1);
  Add("other", 200, 1);
  v1::CompareRunsRequest request = Ask();
  request.clear_statistics();
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(answer->differences(), IsEmpty());
  EXPECT_EQ(answer->compared_steps(), 200u);
  EXPECT_EQ(answer->only_good_steps() + answer->only_other_steps(), 0u);
  EXPECT_THAT(answer->statistics(),
              ElementsAre("grad.l2", "update.ratio", "scalar.*", "agent.lr"));
  EXPECT_EQ(answer->series(), 7u);  // Of three parameters, and the loss.
  EXPECT_EQ(answer->diverged(), 0u);
  EXPECT_FALSE(answer->has_first_diverged_step());
  EXPECT_EQ(answer->noise_factor(), 5);
  EXPECT_EQ(answer->steps_in_a_row(), 5u);
  ASSERT_EQ(answer->rows_size(), 7);
  for (const v1::CompareRow& row : answer->rows()) {
    EXPECT_FALSE(row.has_first_step());
    EXPECT_EQ(row.log2_ratio(), 0);
    EXPECT_EQ(row.steps(), 200u);
    EXPECT_EQ(row.last_step(), 199);
    EXPECT_EQ(row.good_value(), row.other_value());
  }
}

TEST_F(CompareQueryTest, NoiseAloneDivergesNowhere) {
  Add("good", 500, 1);
  Add("other", 500, 2);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->diverged(), 0u);
  EXPECT_EQ(answer->series(), 3u);
  EXPECT_NE(answer->rows(0).log2_ratio(), 0);
}

TEST_F(CompareQueryTest, WhatIsScaledFromAStepDivergesThere) {
  Add("good", 400, 1);
  Add("other", 400, 2, [](std::int64_t step, std::size_t place) {
    if (place == 1 && step >= 250) return 1'000.0f;
    if (place == 2 && step >= 100) return 0.1f;
    return 1.0f;
  });
  v1::CompareRunsRequest request = Ask();
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->order(), v1::COMPARE_ORDER_DISTANCE);
  EXPECT_THAT(Names(*answer), ElementsAre("b", "c", "a"));
  EXPECT_EQ(answer->rows(0).first_step(), 250);
  EXPECT_EQ(answer->rows(1).first_step(), 100);
  EXPECT_FALSE(answer->rows(2).has_first_step());
  EXPECT_NEAR(answer->rows(0).log2_ratio(), std::log2(1'000), 0.2);
  EXPECT_NEAR(answer->rows(1).log2_ratio(), std::log2(0.1), 0.2);
  EXPECT_EQ(answer->rows(0).steps_beyond(), 150u);
  EXPECT_GT(answer->rows(0).noise_log2(), 0.1);
  EXPECT_EQ(answer->diverged(), 2u);
  EXPECT_EQ(answer->first_diverged_step(), 100);
  request.set_order(v1::COMPARE_ORDER_FIRST_STEP);
  request.set_limit(2);
  const auto by_step = Get(request);
  EXPECT_THAT(Names(*by_step), ElementsAre("c", "b"));
  EXPECT_EQ(by_step->diverged(), 2u);
  EXPECT_EQ(by_step->series(), 3u);
  request.set_noise_factor(1'000);
  EXPECT_EQ(Get(request)->diverged(), 0u);
}

TEST_F(CompareQueryTest, StepsOfOneRunAloneAreCountedAndPassedOver) {
  const StreamId good = Open("good");
  store_.AddSchema(good, schema_);
  const StreamId other = Open("other");
  store_.AddSchema(other, schema_);
  Fill(good, 0, 100, 1);
  Fill(other, 20, 60, 2);
  store_.AddStep(other, 0, MakeSkipped(60, GapCause::kBudget));
  store_.AddGap(other, 0, GapOf(GapCause::kRingFull, 61, 69));
  Fill(other, 70, 90, 3);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->good_first_step(), 0);
  EXPECT_EQ(answer->good_last_step(), 99);
  EXPECT_EQ(answer->other_first_step(), 20);
  EXPECT_EQ(answer->other_last_step(), 89);
  EXPECT_EQ(answer->compared_steps(), 60u);
  EXPECT_EQ(answer->only_good_steps(), 10u);
  EXPECT_EQ(answer->only_other_steps(), 0u);
  EXPECT_EQ(answer->rows(0).steps(), 60u);
  EXPECT_EQ(answer->rows(0).last_step(), 89);
  v1::CompareRunsRequest swapped = Ask();
  swapped.set_good_run("other");
  swapped.set_other_run("good");
  EXPECT_EQ(Get(swapped)->only_other_steps(), 10u);
  v1::CompareRunsRequest cut = Ask();
  cut.mutable_steps()->set_begin(-10);
  EXPECT_EQ(Get(cut)->compared_steps(), 10u);
}

TEST_F(CompareQueryTest, RunsWithoutACommonStepHaveNothingToCompare) {
  const StreamId good = Open("good");
  store_.AddSchema(good, schema_);
  const StreamId other = Open("other");
  store_.AddSchema(other, schema_);
  GRADTAP_EXPECT_OK(Get(Ask()));
  Fill(good, 0, 10, 1);
  EXPECT_EQ(Get(Ask())->other_last_step(), -1);
  Fill(other, 50, 60, 2);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->compared_steps(), 0u);
  EXPECT_THAT(answer->rows(), IsEmpty());
}

TEST_F(CompareQueryTest, WhatIsNotFiniteInOneAloneComesFirst) {
  Add("good", 100, 1);
  const StreamId other = Open("other");
  store_.AddSchema(other, schema_);
  std::mt19937 rng(2);
  for (std::int64_t step = 0; step < 100; ++step) {
    StepData data = MakeStep(schema_, step, 1);
    for (std::size_t place = 0; place < 3; ++place) {
      data.roles[1].Set(place, RecordOf(1e6f, 0));
    }
    // A norm of what is finite looks calm.
    if (step >= 60) data.roles[1].Set(2, RecordOf(1, 0));
    if (step >= 60) data.roles[1].nan[2] = 1;
    if (step >= 80) data.roles[1].SetAbsent(1);
    store_.AddStep(other, 0, data);
  }
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(Names(*answer), ElementsAre("c", "b", "a"));
  EXPECT_EQ(answer->rows(0).other_nonfinite(), 1u);
  EXPECT_EQ(answer->rows(0).good_nonfinite(), 0u);
  EXPECT_TRUE(answer->rows(1).other_absent());
  EXPECT_TRUE(std::isnan(answer->rows(1).other_value()));
  // The count itself: zeros, then none.
  const auto counts = Get(Ask("grad.nan"));
  GRADTAP_ASSERT_OK(counts);
  EXPECT_EQ(counts->rows(0).parameter(), "b");  // Absent.
  EXPECT_EQ(counts->rows(1).parameter(), "c");
  EXPECT_EQ(counts->rows(1).first_step(), 60);
  EXPECT_EQ(counts->rows(1).other_value(), 1);
  EXPECT_FALSE(counts->rows(2).has_first_step());
}

TEST_F(CompareQueryTest, ScalarsAreCompared) {
  const auto add = [this](const std::string& run, double rate,
                          const std::string& extra) {
    const StreamId stream = Open(run);
    store_.AddSchema(stream, schema_);
    for (std::int64_t step = 0; step < 60; ++step) {
      StepData data = MakeStep(schema_, step, 1);
      data.scalars = {{"loss", 2},
                      {"agent.lr", step < 30 ? 0.1 : rate},
                      {"agent.step_seconds", rate},
                      {extra, 1}};
      store_.AddStep(stream, 0, data);
    }
  };
  add("good", 0.1, "mine");
  add("other", 0.2, "theirs");
  v1::CompareRunsRequest request = Ask();
  request.clear_statistics();
  request.set_match("^a$");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->rows_size(), 4);
  EXPECT_EQ(answer->rows(0).statistic(), "agent.lr");
  EXPECT_EQ(answer->rows(0).parameter(), "");
  EXPECT_EQ(answer->rows(0).first_step(), 30);
  EXPECT_NEAR(answer->rows(0).log2_ratio(), 1, 1e-6);
  EXPECT_EQ(answer->diverged(), 1u);
  EXPECT_EQ(Get(Ask("scalar.loss"))->series(), 1u);
  EXPECT_EQ(Get(Ask("agent.*"))->series(), 2u);
  EXPECT_EQ(Get(Ask("scalar.mine"))->series(), 0u);
  EXPECT_THAT(Get(Ask("scalar.los")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("scalar.loss")));
}

TEST_F(CompareQueryTest, TagsVersionsAndHostsThatDifferAreNamed) {
  const auto open = [this](const std::string& run, const std::string& torch,
                           std::map<std::string, std::string> tags) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "one";
    hello.process_nonce = "nonce-of-" + run;
    hello.agent_version = "1.0";
    hello.torch_version = torch;
    hello.host = run + "-host";
    hello.tags = std::move(tags);
    return store_.OpenStream(hello, kStart)->id;
  };
  store_.AddSchema(open("good", "1.13", {{"lr", "0.1"}, {"data", "x"}}),
                   schema_);
  store_.AddSchema(
      open("other", "2.6", {{"lr", "0.2"}, {"data", "x"}, {"seed", "7"}}),
      schema_);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->differences_size(), 4);
  EXPECT_EQ(answer->differences(0).what(), "tag.lr");
  EXPECT_EQ(answer->differences(0).good(), "0.1");
  EXPECT_EQ(answer->differences(0).other(), "0.2");
  EXPECT_EQ(answer->differences(1).what(), "tag.seed");
  EXPECT_FALSE(answer->differences(1).has_good());
  EXPECT_EQ(answer->differences(1).other(), "7");
  EXPECT_EQ(answer->differences(2).what(), "torch_version");
  EXPECT_EQ(answer->differences(3).what(), "host");
  EXPECT_EQ(answer->parameter_differences(), 0u);
}

TEST_F(CompareQueryTest, OptimizersThatDifferAreNamedIfBothAreKnown) {
  Schema schema = schema_;
  schema.optimizers = {"torch::optim::SGD"};
  const StreamId good = Open("good");
  store_.AddSchema(good, schema);
  const StreamId other = Open("other");
  store_.AddSchema(other, schema_);  // Of an older agent.
  const auto differences = [this] {
    std::vector<std::string> lines;
    const auto answer = Get(Ask());
    for (const v1::Difference& one : answer->differences()) {
      lines.push_back(one.parameter() + one.what() + ": " + one.good() + " / " +
                      one.other());
    }
    return lines;
  };
  EXPECT_THAT(differences(), IsEmpty());
  schema.schema_id = 2;
  store_.AddSchema(other, schema);
  EXPECT_THAT(differences(), IsEmpty());
  schema.schema_id = 3;
  schema.optimizers.push_back("Lion");
  store_.AddSchema(other, schema);
  EXPECT_THAT(differences(), ElementsAre("optimizer: torch::optim::SGD / "
                                         "torch::optim::SGD, Lion"));
}

TEST_F(CompareQueryTest, ParametersThatDifferAreNamed) {
  Parameter grown = MakeParameter("grown");
  Parameter frozen = MakeParameter("frozen");
  const StreamId good = Open("good");
  store_.AddSchema(good, MakeSchema(1, {MakeParameter("gone"), grown, frozen}));
  grown.shape = {4, 5};
  grown.dtype = "bfloat16";
  grown.placement = Placement::kSharded;
  frozen.requires_grad = false;
  const StreamId other = Open("other");
  store_.AddSchema(other, MakeSchema(1, {MakeParameter("new"), frozen, grown}));
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  std::vector<std::string> lines;
  for (const v1::Difference& one : answer->differences()) {
    lines.push_back(one.parameter() + " " + one.what() + ": " +
                    (one.has_good() ? one.good() : "-") + " / " +
                    (one.has_other() ? one.other() : "-"));
  }
  EXPECT_THAT(lines, ElementsAre("gone parameter: float32 [10] / -",
                                 "grown shape: [10] / [4, 5]",
                                 "grown dtype: float32 / bfloat16",
                                 "grown placement: replicated / sharded",
                                 "frozen requires_grad: true / false",
                                 "new parameter: - / float32 [10]"));
  EXPECT_EQ(answer->parameter_differences(), 6u);
  v1::CompareRunsRequest request = Ask();
  request.set_match("frozen");
  EXPECT_EQ(Get(request)->parameter_differences(), 1u);
}

TEST_F(CompareQueryTest, ManyDifferencesAreCountedNotListed) {
  std::vector<Parameter> parameters;
  for (int i = 0; i < 1'500; ++i) {
    parameters.push_back(MakeParameter("p" + std::to_string(i)));
  }
  store_.AddSchema(Open("good"), schema_);
  store_.AddSchema(Open("other"), MakeSchema(1, parameters));
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->parameter_differences(), 1'503u);
  EXPECT_EQ(answer->differences_size(),
            static_cast<int>(kMaxListedDifferences));
}

TEST_F(CompareQueryTest, OnlyParametersOfBothAreCompared) {
  Add("good", 50, 1);
  const Schema theirs = MakeSchema(1, {MakeParameter("x"), MakeParameter("c")});
  AddRun("other", theirs, 50);
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(Names(*answer), ElementsAre("c"));
}

TEST_F(CompareQueryTest, AttemptsOfOneRunCanBeCompared) {
  const StreamId first = Open("good");
  store_.AddSchema(first, schema_);
  Fill(first, 0, 200, 1);
  const StreamId second = Open("good", "two", 0, kStart + kSecond);
  store_.AddSchema(second, schema_);
  Fill(second, 0, 200, 2,
       [](std::int64_t step, std::size_t) { return step < 90 ? 1 : 50; });
  v1::CompareRunsRequest request = Ask();
  request.set_other_run("good");
  request.set_good_attempt(1);
  request.set_other_attempt(2);
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->diverged(), 3u);
  EXPECT_EQ(answer->first_diverged_step(), 90);
}

TEST_F(CompareQueryTest, MergedComparesShardsAsOne) {
  const Schema schema =
      MakeSchema(1, {MakeParameter("shard", Placement::kSharded)});
  for (const std::string run : {"good", "other"}) {
    for (std::uint32_t rank = 0; rank < 2; ++rank) {
      const StreamId stream = Open(run, "one", rank, kStart, 2);
      store_.AddSchema(stream, schema);
      for (std::int64_t step = 0; step < 100; ++step) {
        if (rank == 1 && step == 50) continue;  // A shard is missing.
        StepData data = MakeStep(schema, step, 1);
        const bool bad = run == "other" && rank == 1 && step >= 40;
        data.roles[1].Set(0, RecordOf(bad ? 100.0f : 1.0f, 0));
        store_.AddStep(stream, 0, data);
      }
    }
  }
  v1::CompareRunsRequest request = Ask();
  EXPECT_EQ(Get(request)->diverged(), 0u);  // Rank 0 alone.
  request.set_merged(true);
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->rank(), kMergedRank);
  EXPECT_EQ(answer->rows(0).first_step(), 40);
  EXPECT_EQ(answer->rows(0).steps(), 99u);
  EXPECT_NEAR(answer->rows(0).log2_ratio(), std::log2(std::sqrt(5000.5)), 1e-5);
}

TEST_F(CompareQueryTest, WhatMakesNoSenseIsNamed) {
  Add("good", 2, 1);
  Add("other", 2, 1);
  const auto invalid = absl::StatusCode::kInvalidArgument;
  const auto unknown = absl::StatusCode::kNotFound;
  v1::CompareRunsRequest request = Ask("grad.p50");
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("'grad.p50'")));
  EXPECT_THAT(Get(Ask("grad.l3")), StatusIs(unknown, HasSubstr("grad.l2")));
  EXPECT_THAT(Get(Ask("buffer.mean")),
              StatusIs(unknown, HasSubstr("buffer.mean")));
  request = Ask();
  request.set_noise_factor(-1);
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("-1")));
  request.set_noise_factor(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("nan")));
  request = Ask();
  request.set_steps_in_a_row(20'000);
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("20000")));
  request = Ask();
  request.set_order(static_cast<v1::CompareOrder>(9));
  EXPECT_THAT(Get(request), StatusIs(invalid, HasSubstr("9")));
  request = Ask();
  request.set_other_run("othr");
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("'othr'")));
  request = Ask();
  request.set_good_attempt(3);
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("attempt 3")));
  request = Ask();
  request.set_rank(1);
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("rank 1")));
  request = Ask();
  request.set_match("nothing");
  EXPECT_THAT(Get(request), StatusIs(unknown, HasSubstr("'nothing'")));
}

TEST_F(CompareQueryTest, ItIsLimitedAndCanBeGivenUp) {
  Add("good", 50, 1);
  Add("other", 50, 2);
  int asked = 0;
  EXPECT_THAT(Get(Ask(), [&asked] { return ++asked > 1; }),
              StatusIs(absl::StatusCode::kCancelled, ::testing::_));
  environment_.limits.max_read_bytes = 2'000;
  EXPECT_THAT(Get(Ask()),
              StatusIs(absl::StatusCode::kResourceExhausted, ::testing::_));
}

}  // namespace
}  // namespace gradtap::server::testing
