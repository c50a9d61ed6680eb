// Histograms and the quantiles that come from them, by every kind of query.

#include "server/query/histogram_query.h"

#include <algorithm>
#include <cmath>

#include "core/histogram.h"
#include "core/quantile.h"
#include "server/query/query_testing.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "server/query/watch_cursor.h"
#include "server/query/watch_testing.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr auto kNotFound = absl::StatusCode::kNotFound;

class HistogramQueryTest : public QueryTest {
 protected:
  HistogramQueryTest()
      : schema_(MakeSchema(1, {MakeParameter("fc.weight"),
                               MakeBuffer("bn.mean"), MakeParameter("fc.bias"),
                               MakeParameter("shard", Placement::kSharded)})) {}

  static BinCounts BinsOf(const std::vector<float>& values) {
    BinCounts bins{};
    for (const float value : values) ++bins[BinOf(value)];
    return bins;
  }

  // Sets the record and the histogram of a place to those of ten values.
  static void SetValues(StepData* step, Role role, std::uint32_t place,
                        const std::vector<float>& values) {
    ASSERT_EQ(values.size(), kNumel);
    for (RoleColumns& columns : step->roles) {
      if (columns.role != role) continue;
      columns.min[place] = *std::min_element(values.begin(), values.end());
      columns.max[place] = *std::max_element(values.begin(), values.end());
    }
    HistogramData histogram{role, place, {}, {}};
    ToSparse(BinsOf(values), &histogram.bin, &histogram.count);
    step->histograms.push_back(std::move(histogram));
  }

  // Ten values around `centre`, one in each of several bins.
  static std::vector<float> Values(float centre) {
    std::vector<float> values;
    for (int i = 0; i < 10; ++i) {
      values.push_back(centre * static_cast<float>(i - 3));
    }
    return values;
  }

  // Steps [0, n) of which those divisible by `every` have histograms of the
  // weights and gradients of all parameters.
  StreamId AddHistogramRun(const std::string& run, int n, int every,
                           std::uint32_t rank = 0,
                           std::uint32_t world_size = 1) {
    const StreamId stream = Open(run, "one", rank, kStart, world_size);
    store_.AddSchema(stream, schema_);
    for (int i = 0; i < n; ++i) {
      StepData step = MakeStep(schema_, i, 1, kStart + i * kSecond);
      for (std::uint32_t place = 0; i % every == 0 && place < 3; ++place) {
        const auto centre = static_cast<float>(1 + i + 10 * place + 100 * rank);
        SetValues(&step, Role::kWeight, place, Values(centre));
        SetValues(&step, Role::kGrad, place, Values(-centre));
      }
      store_.AddStep(stream, 0, step);
    }
    return stream;
  }

  absl::StatusOr<v1::GetHistogramsResponse> Get(
      const v1::GetHistogramsRequest& request) {
    v1::GetHistogramsResponse response;
    absl::Status status = GetHistograms(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  static v1::GetHistogramsRequest Ask(std::optional<std::int64_t> step = {},
                                      const std::string& parameter = "") {
    v1::GetHistogramsRequest request;
    request.set_run("run");
    request.set_parameter(parameter);
    if (step.has_value()) request.set_step(*step);
    return request;
  }

  static v1::GetSeriesRequest AskSeries(
      const std::vector<std::string>& statistics, const std::string& match) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    for (const std::string& name : statistics) request.add_statistics(name);
    request.set_match(match);
    return request;
  }

  v1::GetSeriesResponse Series(const v1::GetSeriesRequest& request) {
    v1::GetSeriesResponse response;
    GRADTAP_EXPECT_OK(GetSeries(environment_, request, {}, &response));
    return response;
  }

  absl::StatusOr<v1::GetSnapshotResponse> Snapshot(
      const std::vector<std::string>& statistics,
      std::optional<std::int64_t> step = {}, bool merged = false) {
    v1::GetSnapshotRequest request;
    request.set_run("run");
    request.set_merged(merged);
    if (step.has_value()) request.set_step(*step);
    for (const std::string& name : statistics) request.add_statistics(name);
    v1::GetSnapshotResponse response;
    absl::Status status = GetSnapshot(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  const Schema schema_;
};

TEST_F(HistogramQueryTest, TheLastStepThatHasThemIsTheDefault) {
  const StreamId stream = AddRun("run", schema_, 1);
  StepData step = MakeStep(schema_, 1, 0);
  step.histograms = {{Role::kWeight, 1, {0, 143, 400}, {3, 5, 2}},
                     {Role::kBuffer, 0, {143}, {10}}};
  store_.AddStep(stream, 0, step);
  store_.AddStep(stream, 0, MakeStep(schema_, 2, 0));
  const auto answer = Get(Ask());
  GRADTAP_ASSERT_OK(answer);
  EXPECT_EQ(answer->step(), 1);
  ASSERT_EQ(answer->histograms_size(), 2);
  EXPECT_EQ(answer->histograms(0).parameter(), "bn.mean");
  EXPECT_EQ(answer->histograms(1).parameter(), "fc.bias");
  EXPECT_THAT(answer->histograms(1).bin(), ElementsAre(0, 143, 400));
  EXPECT_THAT(answer->histograms(1).count(), ElementsAre(3, 5, 2));
  EXPECT_EQ(answer->histograms(1).numel(), kNumel);
  // The record's mean is 101: one place and weights' hundred.
  EXPECT_EQ(answer->histograms(1).min(), 99);
  EXPECT_EQ(answer->histograms(1).max(), 103);
}

TEST_F(HistogramQueryTest, OneParameterAndRoleIsOneBlock) {
  AddHistogramRun("run", 5, 2);
  v1::GetHistogramsRequest request = Ask(4, "fc.bias");
  request.set_role(v1::ROLE_GRAD);
  const std::uint64_t before = store_.blocks_read();
  const auto answer = Get(request);
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->histograms_size(), 1);
  EXPECT_EQ(answer->histograms(0).role(), v1::ROLE_GRAD);
  // A search for the step, one whether the row has some, and the block.
  EXPECT_EQ(store_.blocks_read() - before, 3u);
  EXPECT_EQ(Get(Ask(-2))->step(), 2);
  EXPECT_EQ(Get(Ask(-3))->step(), 0);
}

TEST_F(HistogramQueryTest, AStepWithoutThemNamesTheNearestThatHaveSome) {
  const StreamId stream = AddHistogramRun("run", 25, 10);
  store_.AddStep(stream, 0, MakeSkipped(25, GapCause::kAudit));
  EXPECT_THAT(Get(Ask(12)),
              StatusIs(kNotFound, AllOf(HasSubstr("histograms at step 12"),
                                        HasSubstr("10 and 20"))));
  EXPECT_THAT(Get(Ask(25)), StatusIs(kNotFound, HasSubstr("skipped: audit")));
  EXPECT_THAT(Get(Ask(999)), StatusIs(kNotFound, HasSubstr("some: 20")));
  EXPECT_THAT(Get(Ask(std::numeric_limits<std::int64_t>::max())),
              StatusIs(kNotFound, HasSubstr("some: 20")));
  EXPECT_THAT(Get(Ask(-4)), StatusIs(kNotFound, HasSubstr("fewer steps")));
  EXPECT_THAT(Get(Ask(std::numeric_limits<std::int64_t>::min())),
              StatusIs(kNotFound, HasSubstr("fewer steps")));
}

TEST_F(HistogramQueryTest, ARunWithoutAnySaysWhatTurnsThemOn) {
  AddRun("run", schema_, 2);
  for (const auto& step :
       {std::optional<std::int64_t>(), std::optional<std::int64_t>(1)}) {
    EXPECT_THAT(
        Get(Ask(step)),
        StatusIs(kNotFound, AllOf(HasSubstr("no histograms"),
                                  HasSubstr("histogram_interval_steps"),
                                  HasSubstr("GRADTAP_HISTOGRAM_INTERVAL"))));
  }
}

TEST_F(HistogramQueryTest, UnknownNamesAndRolesAreNamed) {
  AddHistogramRun("run", 1, 1);
  EXPECT_THAT(Get(Ask({}, "fc.wieght")),
              StatusIs(kNotFound, HasSubstr("'fc.weight'")));
  v1::GetHistogramsRequest request = Ask({}, "bn.mean");
  request.set_role(v1::ROLE_GRAD);
  EXPECT_THAT(Get(request), StatusIs(kNotFound, HasSubstr("it has: buffer")));
  request = Ask();
  request.set_match("nothing like it");
  EXPECT_THAT(Get(request), StatusIs(kNotFound, HasSubstr("no parameter")));
  request = Ask();
  request.set_match("fc");
  EXPECT_EQ(Get(request)->histograms_size(), 4);
}

TEST_F(HistogramQueryTest, TheAnswerIsLimited) {
  AddHistogramRun("run", 1, 1);
  environment_.limits.max_values = 30;
  EXPECT_THAT(Get(Ask()), StatusIs(absl::StatusCode::kResourceExhausted,
                                   HasSubstr("fewer")));
}

TEST_F(HistogramQueryTest, OverRanksShardsAddAndReplicasAreTheLowest) {
  AddHistogramRun("run", 3, 2, 0, 2);
  AddHistogramRun("run", 3, 2, 1, 2);
  v1::GetHistogramsRequest request = Ask(2, "shard");
  request.set_role(v1::ROLE_WEIGHT);
  request.set_merged(true);
  const auto sum = Get(request);
  GRADTAP_ASSERT_OK(sum);
  EXPECT_EQ(sum->rank(), 4294967295u);
  ASSERT_EQ(sum->histograms_size(), 1);
  std::vector<float> both = Values(23);
  for (const float value : Values(123)) both.push_back(value);
  std::vector<std::uint32_t> bin;
  std::vector<std::uint64_t> count;
  ToSparse(BinsOf(both), &bin, &count);
  EXPECT_THAT(sum->histograms(0).bin(), ::testing::ElementsAreArray(bin));
  EXPECT_THAT(sum->histograms(0).count(), ::testing::ElementsAreArray(count));
  EXPECT_EQ(sum->histograms(0).numel(), 2 * kNumel);
  EXPECT_EQ(sum->histograms(0).min(), -3 * 123);
  EXPECT_EQ(sum->histograms(0).max(), 6 * 123);
  // Of the same elements as the statistics of that name.
  v1::GetSeriesRequest statistics =
      AskSeries({"weight.sum", "weight.l2"}, "shard");
  statistics.set_merged(true);
  statistics.mutable_steps()->set_begin(2);
  statistics.mutable_steps()->set_end(3);
  const v1::GetSeriesResponse series = Series(statistics);
  ASSERT_EQ(series.series_size(), 2);
  EXPECT_EQ(sum->histograms(0).sum(), series.series(0).value(0));
  EXPECT_EQ(sum->histograms(0).l2(), series.series(1).value(0));
  EXPECT_GT(sum->histograms(0).l2(), 0);
  request.set_parameter("fc.weight");
  EXPECT_EQ(Get(request)->histograms(0).max(), 6 * 3);
}

TEST_F(HistogramQueryTest, RowsOfFormat1AreStillRead) {
  const StreamId stream = AddRun("run", schema_, 1);
  StepData step = MakeStep(schema_, 1, 0);
  SetValues(&step, Role::kWeight, 0, Values(4));
  store_.AddStepOfFormat1(stream, 0, step);
  const auto answer = Get(Ask(1));
  GRADTAP_ASSERT_OK(answer);
  ASSERT_EQ(answer->histograms_size(), 1);
  EXPECT_EQ(answer->histograms(0).max(), 24);
  const v1::GetSeriesResponse series =
      Series(AskSeries({"weight.p100"}, "fc.weight"));
  ASSERT_EQ(series.series_size(), 1);
  EXPECT_THAT(series.series(0).step(), ElementsAre(1));
  EXPECT_THAT(series.series(0).value(), ElementsAre(24));
}

// ---- Quantiles. ----

TEST_F(HistogramQueryTest, ASeriesOfQuantilesHasTheStepsThatHaveHistograms) {
  AddHistogramRun("run", 25, 10);
  const v1::GetSeriesResponse answer = Series(
      AskSeries({"weight.p0", "weight.p50", "weight.p100"}, "fc.weight"));
  ASSERT_EQ(answer.series_size(), 3);
  EXPECT_THAT(answer.gaps(), IsEmpty());  // They are no gap.
  for (const v1::Series& series : answer.series()) {
    EXPECT_THAT(series.step(), ElementsAre(0, 10, 20));
    EXPECT_THAT(series.absent(), IsEmpty());
  }
  for (int i = 0; i < 3; ++i) {
    const double centre = 1 + 10 * i;
    EXPECT_EQ(answer.series(0).value(i), -3 * centre);
    EXPECT_EQ(answer.series(2).value(i), 6 * centre);
    // The fifth of ten: the true one is `centre`.
    EXPECT_GE(answer.series(1).value(i), centre / 2);
    EXPECT_LE(answer.series(1).value(i), centre * 2);
  }
}

TEST_F(HistogramQueryTest, OtherStatisticsReadNoHistogram) {
  AddHistogramRun("run", 50, 1);
  const std::uint64_t blocks = store_.blocks_read();
  const std::uint64_t bytes = store_.bytes_read();
  Series(AskSeries({"grad.l2", "weight.max"}, ""));
  GRADTAP_EXPECT_OK(Snapshot({"grad.l2"}));
  EXPECT_EQ(store_.blocks_read(), blocks);
  const std::uint64_t with = store_.bytes_read() - bytes;
  AddRun("plain", schema_, 50);
  v1::GetSeriesRequest request = AskSeries({"grad.l2"}, "");
  request.set_runs(0, "plain");
  const std::uint64_t before = store_.bytes_read();
  Series(request);
  // The rows of both runs are alike, and the snapshot reads one more.
  EXPECT_LE(with, (store_.bytes_read() - before) * 11 / 10);
}

TEST_F(HistogramQueryTest, ASeriesReadsOneBlockAStepForAllItsParameters) {
  AddHistogramRun("run", 40, 4);
  const std::uint64_t before = store_.blocks_read();
  Series(AskSeries({"grad.p1", "grad.p99"}, ""));
  // Ten blocks, ten searches for the next such step, and one that finds none.
  EXPECT_LE(store_.blocks_read() - before, 21u);
}

TEST_F(HistogramQueryTest, AnAbsentRecordIsAbsentAndNothingFiniteIsNan) {
  const StreamId stream = Open("run");
  store_.AddSchema(stream, schema_);
  StepData step = MakeStep(schema_, 0, 0);
  for (RoleColumns& columns : step.roles) {
    if (columns.role == Role::kGrad) columns.SetAbsent(0);
  }
  step.histograms = {{Role::kGrad, 1, {kBinNan}, {10}}};
  store_.AddStep(stream, 0, step);
  const v1::GetSeriesResponse absent =
      Series(AskSeries({"grad.p50"}, "fc.weight"));
  ASSERT_EQ(absent.series_size(), 1);
  EXPECT_THAT(absent.series(0).absent(), ElementsAre(0));
  const v1::GetSeriesResponse nan = Series(AskSeries({"grad.p50"}, "fc.bias"));
  ASSERT_EQ(nan.series_size(), 1);
  EXPECT_THAT(nan.series(0).absent(), IsEmpty());
  EXPECT_TRUE(std::isnan(nan.series(0).value(0)));
}

TEST_F(HistogramQueryTest, MergedQuantilesAreThoseOfAllShards) {
  AddHistogramRun("run", 3, 2, 0, 2);
  const StreamId other = AddHistogramRun("run", 2, 2, 1, 2);
  // Of step 2 the second rank has a record but no histogram.
  store_.AddStep(other, 0, MakeStep(schema_, 2, 1, kStart + 2 * kSecond));
  v1::GetSeriesRequest request =
      AskSeries({"weight.p0", "weight.p100"}, "^shard$");
  request.set_merged(true);
  const v1::GetSeriesResponse answer = Series(request);
  ASSERT_EQ(answer.series_size(), 2);
  EXPECT_THAT(answer.series(0).step(), ElementsAre(0));
  EXPECT_THAT(answer.series(0).value(), ElementsAre(-3 * 121));
  EXPECT_THAT(answer.series(1).value(), ElementsAre(6 * 121));
  request.set_match("fc.weight");  // Of replicas the lowest rank.
  EXPECT_THAT(Series(request).series(1).value(), ElementsAre(6, 18));
}

TEST_F(HistogramQueryTest, ASnapshotWithQuantilesIsOfAStepThatHasThem) {
  AddHistogramRun("run", 8, 5);
  const auto last = Snapshot({"grad.p100", "grad.l2"});
  GRADTAP_ASSERT_OK(last);
  EXPECT_EQ(last->step(), 5);
  EXPECT_THAT(last->statistics(), ElementsAre("grad.p100", "grad.l2"));
  EXPECT_EQ(last->rows(0).parameter(), "fc.weight");
  EXPECT_EQ(last->rows(0).value(0), 18);
  EXPECT_THAT(last->rows(0).absent(), IsEmpty());
  EXPECT_THAT(last->rows(1).absent(), ElementsAre(0, 1));  // A buffer.
  EXPECT_THAT(Snapshot({"grad.p50"}, 7),
              StatusIs(kNotFound, HasSubstr("step 7; the nearest steps that "
                                            "have some: 5")));
  EXPECT_EQ(Snapshot({"grad.l2"})->step(), 7);
  const auto merged = Snapshot({"grad.p100"}, {}, true);
  GRADTAP_ASSERT_OK(merged);
  EXPECT_EQ(merged->step(), 5);
  EXPECT_EQ(merged->rows(0).value(0), 18);
}

TEST_F(HistogramQueryTest, AWatcherSeesQuantilesWhereThereAreHistograms) {
  AddHistogramRun("run", 3, 2);
  OverheadCache overheads;
  v1::WatchRequest request;
  request.set_run("run");
  request.add_statistics("weight.p100");
  request.add_statistics("weight.max");
  request.set_after_ordinal(0);
  WatchQuestions questions;
  auto cursor =
      WatchCursor::Open(&environment_, &overheads, &questions, request);
  GRADTAP_ASSERT_OK(cursor);
  std::vector<int> columns;
  WatchMessage next;
  for (;;) {
    const absl::StatusOr<bool> more = (*cursor)->Next(&next);
    GRADTAP_ASSERT_OK(more);
    if (!*more) break;
    const v1::WatchResponse message = Parsed(next);
    if (!message.has_snapshot()) continue;
    columns.push_back(message.snapshot().statistics_size());
    for (const v1::SnapshotRow& row : message.snapshot().rows()) {
      EXPECT_EQ(row.value_size(), message.snapshot().statistics_size());
    }
  }
  EXPECT_THAT(columns, ElementsAre(2, 1, 2));
}

TEST_F(HistogramQueryTest, AMalformedQuantileIsRefusedEverywhere) {
  AddHistogramRun("run", 1, 1);
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(
      Snapshot({"grad.p101"}),
      StatusIs(code, AllOf(HasSubstr("grad.p101"), HasSubstr("above p100"))));
  v1::GetSeriesResponse response;
  EXPECT_THAT(GetSeries(environment_, AskSeries({"grad.p"}, ""), {}, &response),
              StatusIs(code, HasSubstr("no number")));
}

TEST_F(HistogramQueryTest, ABlockThatIsDamagedIsSaidToBe) {
  const StreamId stream = AddRun("run", schema_, 1);
  StreamCommit commit;
  const StepData step = MakeStep(schema_, 1, 0);
  std::string record(EncodedStepSize(step), 0);
  EncodeStep(step, record);
  const std::vector<HistogramBlock> blocks = {{Role::kGrad, 0, "\x3a\x7f"}};
  commit.stream = stream;
  commit.first_seq = commit.last_seq =
      store_.FindRun("run")->streams[0].durable_seq + 1;
  commit.steps.push_back({0, 1, true, 0, ParseRecord(record)->body, blocks});
  GRADTAP_ASSERT_OK(store_.Commit({&commit, 1}));
  EXPECT_THAT(Get(Ask(1)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("step 1")));
  v1::GetSeriesResponse response;
  GRADTAP_EXPECT_OK(
      GetSeries(environment_, AskSeries({"grad.l2"}, ""), {}, &response));
}

}  // namespace
}  // namespace gradtap::server::testing
