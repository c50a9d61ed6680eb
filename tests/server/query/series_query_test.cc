#include "server/query/series_query.h"

#include <cmath>
#include <functional>
#include <map>
#include <random>

#include "core/statistic.h"
#include "server/query/line.h"
#include "server/query/query_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SeriesQueryTest : public QueryTest {
 protected:
  absl::StatusOr<v1::GetSeriesResponse> Get(const v1::GetSeriesRequest& request,
                                            const Cancelled& cancelled = {}) {
    v1::GetSeriesResponse response;
    absl::Status status =
        GetSeries(environment_, request, cancelled, &response);
    if (!status.ok()) return status;
    return response;
  }

  static v1::GetSeriesRequest Ask(const std::string& run,
                                  const std::string& statistic,
                                  const std::string& match = "") {
    v1::GetSeriesRequest request;
    request.add_runs(run);
    request.add_statistics(statistic);
    request.set_match(match);
    return request;
  }
};

TEST_F(SeriesQueryTest, AStoredFieldIsItsFloatExactly) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  const std::vector<float> odd = {0.1f, -0.0f, 1e-45f,
                                  std::numeric_limits<float>::max()};
  for (std::size_t i = 0; i < odd.size(); ++i) {
    StepData step = MakeStep(schema, static_cast<std::int64_t>(i), 0);
    step.roles[0].mean[0] = odd[i];
    store_.AddStep(stream, 0, step);
  }
  const auto answer = Get(Ask("run", "weight.mean"));
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 1);
  for (std::size_t i = 0; i < odd.size(); ++i) {
    const double value = answer->series(0).value(static_cast<int>(i));
    EXPECT_EQ(value, static_cast<double>(odd[i]));
    EXPECT_EQ(std::signbit(value), std::signbit(odd[i]));
  }
}

TEST_F(SeriesQueryTest, ARatioComesFromTwoRolesOfTheSameRow) {
  const Schema schema = MakeSchema(1, {MakeParameter("a"), MakeParameter("b")});
  AddRun("run", schema, 1);
  v1::GetSeriesRequest request = Ask("run", "update.ratio", "^b$");
  request.add_statistics("update.l2");
  request.add_statistics("weight.l2");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 3);
  EXPECT_EQ(answer->series(0).parameter(), "b");
  EXPECT_EQ(answer->series(0).value(0),
            answer->series(1).value(0) / answer->series(2).value(0));
}

TEST_F(SeriesQueryTest, ValueAbsentAndMissingAreThreeThings) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  StepData nothing_finite = MakeStep(schema, 0, 1);
  nothing_finite.roles[1].Set(0, Record{});
  nothing_finite.roles[1].nan[0] = kNumel;
  store_.AddStep(stream, 0, nothing_finite);
  StepData absent = MakeStep(schema, 1, 1);
  absent.roles[1].SetAbsent(0);
  store_.AddStep(stream, 0, absent);
  store_.AddGap(stream, 0, GapOf(GapCause::kRingFull, 2, 4));
  store_.AddStep(stream, 0, MakeStep(schema, 5, 1));
  v1::GetSeriesRequest request = Ask("run", "grad.mean");
  request.add_statistics("grad.ratio");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  const v1::Series& mean = answer->series(0);
  EXPECT_THAT(mean.step(), ElementsAre(0, 1, 5));
  EXPECT_THAT(mean.absent(), ElementsAre(1));
  EXPECT_TRUE(std::isnan(mean.value(0)));
  EXPECT_TRUE(std::isnan(mean.value(1)));
  EXPECT_EQ(mean.value(2), 201);
  EXPECT_THAT(answer->series(1).absent(), ElementsAre(1));
  ASSERT_EQ(answer->gaps_size(), 1);
  EXPECT_TRUE(answer->gaps(0).lost());
  EXPECT_EQ(answer->gaps(0).gap().first_step(), 2);
  EXPECT_EQ(answer->gaps(0).gap().last_step(), 4);
}

// Such a run has lost nothing, and no row says that it skipped something.
TEST_F(SeriesQueryTest, AGapThatIsNoLossIsAnsweredToo) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = AddRun("run", schema, 2);
  store_.AddGap(stream, 0, GapOf(GapCause::kOptimizerThrew, 2, 2));
  store_.AddStep(stream, 0, MakeStep(schema, 3, 1));
  const auto answer = Get(Ask("run", "grad.mean"));
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->gaps_size(), 1);
  EXPECT_FALSE(answer->gaps(0).lost());
  EXPECT_EQ(answer->gaps(0).gap().first_step(), 2);
}

TEST_F(SeriesQueryTest, ASkippedStepHasItsScalarAndIsAGap) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = AddRun("run", schema, 1);
  for (int step = 1; step < 4; ++step) {
    store_.AddStep(stream, 0, MakeSkipped(step, GapCause::kBudget, 0.5f));
  }
  v1::GetSeriesRequest request = Ask("run", "weight.mean");
  request.add_statistics("scalar.loss");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 2);
  for (const v1::Series& series : answer->series()) {
    EXPECT_EQ(series.step_size(), series.statistic() == "scalar.loss" ? 4 : 1);
  }
  ASSERT_EQ(answer->gaps_size(), 1);
  EXPECT_EQ(answer->gaps(0).gap().cause(), v1::GAP_CAUSE_BUDGET);
  EXPECT_EQ(answer->gaps(0).gap().first_step(), 1);
  EXPECT_EQ(answer->gaps(0).gap().last_step(), 3);
  EXPECT_EQ(answer->gaps(0).gap().steps(), 3u);
  EXPECT_FALSE(answer->gaps(0).lost());
}

TEST_F(SeriesQueryTest, ScalarsByStarAndByNameComeOnce) {
  AddRun("run", MakeSchema(1, {MakeParameter("w")}), 3);
  v1::GetSeriesRequest request = Ask("run", "scalar.*");
  request.add_statistics("scalar.loss");
  request.add_statistics("agent.*");
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  std::vector<std::string> names;
  for (const v1::Series& series : answer->series()) {
    names.push_back(series.statistic());
    EXPECT_EQ(series.parameter(), "");
    EXPECT_EQ(series.step_size(), 3);
  }
  EXPECT_THAT(names, ElementsAre("scalar.loss", "agent.step_seconds",
                                 "agent.capture_seconds"));
}

TEST_F(SeriesQueryTest, StepsAndTimesAreHalfOpen) {
  AddRun("run", MakeSchema(1, {MakeParameter("w")}), 10);
  v1::GetSeriesRequest request = Ask("run", "weight.mean");
  request.mutable_steps()->set_begin(-4);
  request.mutable_steps()->set_end(-1);
  auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(answer->series(0).step(), ElementsAre(6, 7, 8));
  request.clear_steps();
  request.set_since_unix_ns(kStart + 2 * kSecond);
  request.set_until_unix_ns(kStart + 4 * kSecond);
  answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_THAT(answer->series(0).step(), ElementsAre(2, 3));
  EXPECT_THAT(answer->series(0).time_unix_ns(),
              ElementsAre(kStart + 2 * kSecond, kStart + 3 * kSecond));
}

TEST_F(SeriesQueryTest, AModelThatChangedIsOneSeriesPerName) {
  const Schema before = MakeSchema(1, {MakeParameter("a"), MakeParameter("b")});
  const Schema after = MakeSchema(2, {MakeParameter("b"), MakeParameter("c")});
  const StreamId stream = AddRun("run", before, 2);
  store_.AddSchema(stream, after);
  store_.AddStep(stream, 0, MakeStep(after, 2, 50));
  const auto answer = Get(Ask("run", "weight.mean"));
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 3);
  EXPECT_EQ(answer->series(1).parameter(), "b");
  // Place 1 of the first schema, place 0 of the second.
  EXPECT_THAT(answer->series(1).value(), ElementsAre(101, 102, 150));
  EXPECT_THAT(answer->series(2).step(), ElementsAre(2));
}

TEST_F(SeriesQueryTest, DownSampledSeriesKeepTheirExtremes) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema);
  for (int i = 0; i < 2'000; ++i) {
    store_.AddStep(stream, 0, MakeStep(schema, i, i == 1'111 ? 9e9f : 1));
  }
  v1::GetSeriesRequest request = Ask("run", "weight.mean");
  request.set_max_points(40);
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  const v1::Series& series = answer->series(0);
  EXPECT_LE(series.step_size(), 40);
  EXPECT_EQ(series.points_before(), 2'000u);
  bool spike = false;
  for (int i = 0; i < series.step_size(); ++i) {
    spike |= series.step(i) == 1'111 && series.value(i) > 8e9;
  }
  EXPECT_TRUE(spike);
}

TEST_F(SeriesQueryTest, SeveralRunsAndRanksAreAnsweredTogether) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  AddRun("one", schema, 2);
  AddRun("two", schema, 3);
  const StreamId rank1 = Open("two", "one", 1);
  store_.AddSchema(rank1, schema);
  store_.AddStep(rank1, 0, MakeStep(schema, 0, 7));
  v1::GetSeriesRequest request = Ask("one", "weight.mean");
  request.add_runs("two");
  auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->series_size(), 3);
  EXPECT_EQ(answer->series(2).run(), "two");
  EXPECT_EQ(answer->series(2).rank(), 1u);
  request.clear_runs();
  request.add_runs("two");
  request.add_ranks(1);
  answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->series_size(), 1);
}

TEST_F(SeriesQueryTest, UnknownNamesAreNotFoundWithTheNearestKnownOne) {
  AddRun("fashion-mnist",
         MakeSchema(
             1, {MakeParameter("conv1.weight"), MakeBuffer("bn.running_mean")}),
         2);
  const auto code = absl::StatusCode::kNotFound;
  EXPECT_THAT(Get(Ask("fashion-mnits", "grad.l2")),
              StatusIs(code, HasSubstr("'fashion-mnits'")));
  EXPECT_THAT(Get(Ask("fashion-mnist", "grad.l3")),
              StatusIs(code, HasSubstr("grad.l")));
  EXPECT_THAT(Get(Ask("fashion-mnist", "gard.l2")),
              StatusIs(code, HasSubstr("'grad.l2'")));
  EXPECT_THAT(Get(Ask("fashion-mnist", "grad.l2", "conv1.weigth")),
              StatusIs(code, HasSubstr("'conv1.weight'")));
  EXPECT_THAT(Get(Ask("fashion-mnist", "scalar.los")),
              StatusIs(code, HasSubstr("'scalar.loss'")));
  EXPECT_THAT(
      Get(Ask("fashion-mnist", "grad.l2", "running")),
      StatusIs(code, AllOf(HasSubstr("'grad.l2'"), HasSubstr("buffer"))));
  v1::GetSeriesRequest request = Ask("fashion-mnist", "grad.l2");
  request.add_ranks(3);
  EXPECT_THAT(Get(request), StatusIs(code, HasSubstr("no rank 3")));
  request.clear_ranks();
  request.set_attempt(2);
  EXPECT_THAT(Get(request), StatusIs(code, HasSubstr("no attempt 2")));
}

TEST_F(SeriesQueryTest, MalformedRequestsAreInvalidAndNameTheValue) {
  AddRun("run", MakeSchema(1, {MakeParameter("w")}), 2);
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(Get(Ask("run", "grad.l2", "conv[")),
              StatusIs(code, HasSubstr("conv[")));
  EXPECT_THAT(Get(Ask("run", "l2")), StatusIs(code, HasSubstr("l2")));
  EXPECT_THAT(Get(Ask("", "grad.l2")), StatusIs(code, HasSubstr("empty")));
  EXPECT_THAT(Get(v1::GetSeriesRequest()), StatusIs(code, HasSubstr("run")));
  v1::GetSeriesRequest request = Ask("run", "grad.l2");
  request.set_since_unix_ns(10);
  request.set_until_unix_ns(5);
  EXPECT_THAT(Get(request), StatusIs(code, HasSubstr("5")));
  request = Ask("run", "grad.l2");
  for (int i = 0; i < 100; ++i) request.add_statistics("grad.l2");
  EXPECT_THAT(Get(request), StatusIs(code, HasSubstr("at most 64")));
}

TEST_F(SeriesQueryTest, HostileNamesInAnErrorAreEscapedAndCut) {
  const auto answer =
      Get(Ask("\x1b[31m" + std::string(100'000, 'x'), "grad.l2"));
  ASSERT_FALSE(answer.ok());
  EXPECT_LT(answer.status().message().size(), 1'000u);
  EXPECT_EQ(answer.status().message().find('\x1b'), std::string::npos);
}

TEST_F(SeriesQueryTest, AKnownScalarThatTheStepsLackIsAnEmptyAnswer) {
  const Schema schema = MakeSchema(1, {MakeParameter("w")});
  const StreamId stream = AddRun("run", schema, 5);
  StepData rare = MakeStep(schema, 5, 0);
  rare.scalars.push_back({"val_loss", 1});
  store_.AddStep(stream, 0, rare);
  v1::GetSeriesRequest request = Ask("run", "scalar.val_loss");
  request.mutable_steps()->set_end(3);
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->series_size(), 0);
}

TEST_F(SeriesQueryTest, ARunWithoutAnythingIsAnEmptyAnswer) {
  Open("run");
  GRADTAP_EXPECT_OK(Get(Ask("run", "grad.l2")));
  GRADTAP_EXPECT_OK(Get(Ask("run", "scalar.loss")));
}

TEST_F(SeriesQueryTest, TooManyValuesAreRefusedWithLimitAndSuggestion) {
  AddRun("run", MakeSchema(1, {MakeParameter("a"), MakeParameter("b")}), 60);
  environment_.limits.max_values = 100;
  v1::GetSeriesRequest request = Ask("run", "weight.mean");
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("100"), HasSubstr("--points"))));
  request.set_max_points(20);
  GRADTAP_EXPECT_OK(Get(request));
  request.set_max_points(0);
  request.set_match("a");
  GRADTAP_EXPECT_OK(Get(request));
}

TEST_F(SeriesQueryTest, TooManyBytesAreRefusedBeforeMoreIsRead) {
  AddRun("run", MakeSchema(1, {MakeParameter("a")}), 500);
  environment_.limits.max_read_bytes = 2'000;
  const std::uint64_t before = store_.bytes_read();
  v1::GetSeriesRequest request = Ask("run", "weight.mean");
  EXPECT_THAT(Get(request),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("2000"), HasSubstr("--steps"))));
  EXPECT_LT(store_.bytes_read() - before, 4'000u);
  request.mutable_steps()->set_begin(-3);
  GRADTAP_EXPECT_OK(Get(request));
}

TEST_F(SeriesQueryTest, AQueryThatNobodyWaitsForStops) {
  AddRun("run", MakeSchema(1, {MakeParameter("a")}), 500);
  const std::uint64_t before = store_.bytes_read();
  EXPECT_THAT(Get(Ask("run", "weight.mean"), [] { return true; }),
              StatusIs(absl::StatusCode::kCancelled, HasSubstr("")));
  EXPECT_LT(store_.bytes_read() - before, 2'000u);
}

// ---- Against a reference ----

// Rows as they were stored; the newest attempt, stream or branch wins from its
// first step on.
struct Reference {
  struct Stored {
    std::size_t age;  // (attempt, stream, branch) in order.
    std::uint32_t attempt;
    StepData data;
  };
  std::vector<Stored> rows;

  std::map<std::int64_t, const Stored*> Canonical() const {
    std::map<std::size_t, std::int64_t> first;
    for (const Stored& row : rows) {
      const auto [it, is_new] = first.try_emplace(row.age, row.data.step);
      if (!is_new) it->second = std::min(it->second, row.data.step);
    }
    std::map<std::int64_t, const Stored*> line;
    for (const Stored& row : rows) {
      bool replaced = false;
      for (const auto& [age, step] : first) {
        replaced |= age > row.age && step <= row.data.step;
      }
      if (!replaced) line[row.data.step] = &row;
    }
    return line;
  }
};

class RandomRunTest : public SeriesQueryTest {
 protected:
  using Pick = std::function<int(int low, int high)>;

  // Attempts, processes that were replaced in them, and rollbacks.
  Reference StoreRandomRun(const std::string& run, const Schema& schema,
                           const Pick& pick) {
    Reference reference;
    std::size_t age = 0;
    std::int64_t start = kStart;
    for (int attempt = 1, n = pick(1, 3); attempt <= n; ++attempt) {
      for (int replaced = pick(0, 1); replaced >= 0; --replaced) {
        const StreamId stream =
            Open(run, "launch" + std::to_string(attempt), 0, start += kSecond);
        store_.AddSchema(stream, schema);
        const int branches = pick(1, 3);
        for (int branch = 0; branch < branches; ++branch, ++age) {
          if (branch > 0) store_.AddBranch(stream, branch);
          std::int64_t step = pick(0, 20);
          for (int rows = pick(0, 15); rows > 0; --rows, step += pick(1, 3)) {
            StepData data = MakeStep(schema, step, pick(-100, 100));
            if (pick(0, 4) == 0) data.roles[1].SetAbsent(0);
            store_.AddStep(stream, branch, data);
            reference.rows.push_back(
                {age, static_cast<std::uint32_t>(attempt), data});
          }
        }
      }
    }
    return reference;
  }
};

TEST_F(RandomRunTest, EqualsAReferenceOnRandomRunsWithRollbacks) {
  std::mt19937 rng(42);
  const auto pick = [&rng](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(rng);
  };
  const Schema schema =
      MakeSchema(1, {MakeParameter("a"), MakeBuffer("b"), MakeParameter("c")});
  for (int round = 0; round < 60; ++round) {
    const std::string run = "run" + std::to_string(round);
    const Reference reference = StoreRandomRun(run, schema, pick);
    v1::GetSeriesRequest request = Ask(run, "grad.l2", "^a$");
    const int begin = pick(-30, 40);
    const int end = pick(-30, 40);
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(end);
    const auto answer = Get(request);
    GRADTAP_ASSERT_OK(answer);
    const auto line = reference.Canonical();
    const std::int64_t length = line.empty() ? 0 : line.rbegin()->first + 1;
    std::vector<const Reference::Stored*> expected;
    for (const auto& [step, row] : line) {
      if (step >= (begin < 0 ? begin + length : begin) &&
          step < (end < 0 ? end + length : end)) {
        expected.push_back(row);
      }
    }
    if (expected.empty()) {
      ASSERT_EQ(answer->series_size(), 0);
      continue;
    }
    ASSERT_EQ(answer->series_size(), 1);
    const v1::Series& series = answer->series(0);
    ASSERT_EQ(series.step_size(), static_cast<int>(expected.size()));
    std::set<int> absent(series.absent().begin(), series.absent().end());
    for (int i = 0; i < series.step_size(); ++i) {
      const StepData& data = expected[i]->data;
      ASSERT_EQ(series.step(i), data.step);
      ASSERT_EQ(series.attempt(i), expected[i]->attempt);
      ASSERT_EQ(absent.count(i) > 0, data.roles[1].absent[0] == 1);
      if (absent.count(i) > 0) continue;
      ASSERT_EQ(series.value(i),
                Derive(Field::kL2, data.roles[1].Get(0), kNumel));
    }
  }
}

}  // namespace
}  // namespace gradtap::server::testing
