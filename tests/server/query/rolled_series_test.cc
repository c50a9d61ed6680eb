// Long series from roll-ups against the same series read step by step.

#include "server/query/rolled_series.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/query/gaps.h"
#include "server/query/heat_map_query.h"
#include "server/query/series_query.h"
#include "server/query/snapshot_query.h"
#include "tests/server/query/rolled_run.h"
#include "tests/support/status_matchers.h"

namespace gradtap::server::testing {
namespace {

using gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr std::uint32_t kPoints = 60;
constexpr std::int64_t kChapter = 4096;

struct Truth {
  double value = 0;
  std::int64_t time = 0;
  bool absent = false;
};
using Series = std::map<std::int64_t, Truth>;

class RolledSeriesTest : public RolledRun {
 protected:
  // Times are a second a step, from step 0 on.
  v1::GetSeriesResponse Get(const std::string& statistic,
                            const std::string& match, std::uint32_t points,
                            std::int64_t begin = 0, std::int64_t end = -1) {
    v1::GetSeriesRequest request;
    request.set_since_unix_ns(since_);
    request.set_until_unix_ns(until_);
    request.add_runs("run");
    request.add_statistics(statistic);
    request.set_match(match);
    request.set_max_points(points);
    request.mutable_steps()->set_begin(begin);
    if (end >= 0) request.mutable_steps()->set_end(end);
    v1::GetSeriesResponse response;
    const absl::Status s = GetSeries(environment_, request, {}, &response);
    EXPECT_TRUE(s.ok()) << s;
    return response;
  }

  static Series ToMap(const v1::Series& series) {
    Series points;
    for (int i = 0; i < series.step_size(); ++i) {
      points[series.step(i)] = {series.value(i), series.time_unix_ns(i), false};
    }
    for (const std::uint32_t i : series.absent()) {
      points[series.step(static_cast<int>(i))].absent = true;
    }
    EXPECT_EQ(static_cast<int>(points.size()), series.step_size());
    return points;
  }

  // Every point is one of the series; its extremes, and some NaN and some
  // absent value if there are any, are among them.
  void Check(const std::string& statistic, const std::string& match,
             std::int64_t begin = 0, std::int64_t end = -1) {
    SCOPED_TRACE(statistic + " of " + match + ", " + std::to_string(begin) +
                 ":" + std::to_string(end));
    const auto all = Get(statistic, match, 0, begin, end);
    const auto few = Get(statistic, match, kPoints, begin, end);
    ASSERT_EQ(all.series_size(), few.series_size());
    ASSERT_GT(all.series_size(), 0);
    for (int i = 0; i < all.series_size(); ++i) {
      EXPECT_EQ(few.series(i).parameter(), all.series(i).parameter());
      EXPECT_EQ(few.series(i).points_before(), all.series(i).points_before());
      EXPECT_LE(few.series(i).step_size(), static_cast<int>(kPoints));
      CheckPoints(ToMap(all.series(i)), ToMap(few.series(i)));
    }
    EXPECT_EQ(GapSteps(all), GapSteps(few));
  }

  static std::uint64_t GapSteps(const v1::GetSeriesResponse& response) {
    std::uint64_t steps = 0;
    for (const v1::GapInfo& gap : response.gaps()) steps += gap.gap().steps();
    return steps;
  }

  static double Rounded(double value) {
    return std::isfinite(value) ? static_cast<float>(value) : value;
  }

  static void CheckPoints(const Series& all, const Series& few) {
    double min = INFINITY, max = -INFINITY;
    bool nonfinite = false, absent = false;
    for (const auto& [step, truth] : all) {
      absent |= truth.absent;
      if (truth.absent) continue;
      nonfinite |= !std::isfinite(truth.value);
      if (!std::isfinite(truth.value)) continue;
      min = std::min(min, Rounded(truth.value));
      max = std::max(max, Rounded(truth.value));
    }
    bool has_min = min == INFINITY, has_max = has_min;
    bool has_nonfinite = false, has_absent = false;
    for (const auto& [step, point] : few) {
      const auto truth = all.find(step);
      ASSERT_NE(truth, all.end()) << "step " << step;
      EXPECT_EQ(point.time, truth->second.time) << "step " << step;
      EXPECT_EQ(point.absent, truth->second.absent) << "step " << step;
      has_absent |= point.absent;
      if (point.absent) continue;
      if (std::isfinite(truth->second.value)) {
        EXPECT_EQ(Rounded(point.value), Rounded(truth->second.value))
            << "step " << step;
      } else {
        EXPECT_FALSE(std::isfinite(point.value)) << "step " << step;
        has_nonfinite = true;
      }
      has_min |= Rounded(point.value) == min;
      has_max |= Rounded(point.value) == max;
    }
    EXPECT_TRUE(has_min);
    EXPECT_TRUE(has_max);
    EXPECT_EQ(has_nonfinite, nonfinite);
    EXPECT_EQ(has_absent, absent);
  }

  std::int64_t since_ = 0, until_ = 0;
};

TEST_F(RolledSeriesTest, WindowsChaptersAndRowsTogether) {
  AddSchema(0, 12);
  AddSteps(0, 2 * 4096 + 3 * 256 + 100);  // Two chapters, windows, rows.
  SealAll();
  ASSERT_EQ(store_->counters().sealed_windows, 70U);
  for (const char* statistic :
       {"weight.mean", "grad.std", "grad.abs_mean", "update.min", "grad.max",
        "grad.l2", "update.ratio", "grad.ratio", "grad.nonfinite",
        "weight.abs_max", "grad.variance", "grad.finite_fraction"}) {
    Check(statistic, "^p[45]$");
  }
  // These hold only where all is finite, and zero is not rolled up at all.
  for (const char* statistic : {"grad.rms", "grad.l1", "grad.sum", "grad.nan",
                                "grad.zero", "grad.zero_fraction"}) {
    Check(statistic, "^p[45]$");
  }
  Check("grad.l2", "");
}

TEST_F(RolledSeriesTest, AnyRangeOfSteps) {
  AddSchema(0, 5);
  AddSteps(0, 2 * 4096 + 700);
  SealAll();
  for (const auto& [begin, end] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 8192},
                                                          {300, 4096},
                                                          {256, 4097},
                                                          {4096, 8192},
                                                          {4095, 8800},
                                                          {100, 8448},
                                                          {4500, 8892},
                                                          {0, 8192}}) {
    Check("grad.max", "p4", begin, end);
  }
}

TEST_F(RolledSeriesTest, ABranchThatIsCutByARollback) {
  AddSchema(0, 5);
  AddSteps(0, 6000);
  StreamCommit commit = Next();
  commit.new_branches.push_back({1, 3333});
  GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  AddSteps(3333, 9000, 1);
  End();
  SealAll();
  Check("weight.std", "p2");
  Check("grad.l2", "p2");
}

TEST_F(RolledSeriesTest, AParameterThatMovesFromSchemaToSchema) {
  AddSchema(0, 12);
  AddSteps(0, 1000);
  AddSchema(3, 12);
  AddSteps(1000, 5800);
  AddSchema(0, 70);
  AddSteps(5800, 6500);
  End();
  SealAll();
  Check("grad.l2", "^p5$");
  Check("weight.mean", "^p1");
}

TEST_F(RolledSeriesTest, ARoleThatAWindowLacksIsNotJoinedAndTheOthersAre) {
  AddSchema(0, 12);
  AddSteps(0, 1280);
  left_out_ = Role::kGrad;
  AddSteps(1280, 1408);  // A window.
  left_out_ = Role::kUnspecified;
  AddSteps(1408, kChapter);
  SealAll();
  End();
  SealAll();
  v1::GetSeriesRequest request;
  request.add_runs("run");
  request.add_statistics("grad.l2");
  request.add_statistics("weight.l2");
  request.set_match("^p4$");
  request.set_max_points(kPoints);
  v1::GetSeriesResponse both;
  GRADTAP_ASSERT_OK(GetSeries(environment_, request, {}, &both));
  ASSERT_EQ(both.series_size(), 2);
  for (int i = 0; i < 2; ++i) {
    const v1::Series& series = both.series(i);
    CheckPoints(ToMap(Get(series.statistic(), "^p4$", 0).series(0)),
                ToMap(series));
  }
}

TEST_F(RolledSeriesTest, AChapterThatIsBoundMeanwhileLeavesNoHole) {
  AddSchema(0, 12);
  AddSteps(0, 8100);
  SealAll();
  constexpr std::int64_t kBegin = kChapter + 1000;
  const auto before = Get("grad.l2", "^p4$", kPoints, kBegin);
  v1::GetSeriesRequest request;
  request.add_runs("run");
  request.add_statistics("grad.l2");
  request.set_match("^p4$");
  request.set_max_points(kPoints);
  request.mutable_steps()->set_begin(kBegin);
  v1::GetSeriesResponse meanwhile;
  GRADTAP_ASSERT_OK(GetSeries(environment_, request, BindNow(), &meanwhile));
  ASSERT_EQ(meanwhile.series_size(), 1);
  EXPECT_EQ(meanwhile.series(0).points_before(), 8100U - kBegin);
  EXPECT_TRUE(meanwhile.SerializeAsString() == before.SerializeAsString());
  EXPECT_EQ(store_->counters().sealed_rows, 8100U);
}

TEST_F(RolledSeriesTest, SkippedStepsAreGapsAllTheSame) {
  AddSchema(0, 5);
  AddSteps(0, 6000, 0, 7);
  End();
  SealAll();
  Check("grad.l2", "p4");
}

TEST_F(RolledSeriesTest, AnyRangeOfTimes) {
  AddSchema(0, 5);
  AddSteps(0, 2 * 4096 + 700, 0, 9);
  SealAll();
  constexpr std::int64_t kSecond = 1'000'000'000;
  for (const auto& [since, until] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{1, 0},
                                                          {0, 8192},
                                                          {300, 8192},
                                                          {4097, 8192},
                                                          {1, 8500},
                                                          {2000, 2100},
                                                          {8191, 0},
                                                          {8850, 0},
                                                          {20'000, 0}}) {
    SCOPED_TRACE(std::to_string(since) + " to " + std::to_string(until));
    since_ = since * kSecond;
    until_ = until * kSecond;
    const auto all = Get("grad.l2", "^p[12]$", 0);
    for (const v1::Series& series : all.series()) {
      for (const std::int64_t time : series.time_unix_ns()) {
        EXPECT_GE(time, since_);
        if (until_ != 0) {
          EXPECT_LT(time, until_);
        }
      }
    }
    if (all.series_size() > 0) Check("grad.l2", "^p[12]$");
  }
}

TEST_F(RolledSeriesTest, AClockThatWasSetBackHidesNoStep) {
  AddSchema(0, 5);
  AddSteps(0, 3000);
  clock_offset_ns_ = -2000LL * 1'000'000'000;  // Steps 3000.. are at 1000.. s.
  AddSteps(3000, 6000);
  End();
  SealAll();
  since_ = 1500LL * 1'000'000'000;
  until_ = 2500LL * 1'000'000'000;
  const auto all = Get("weight.std", "^p1$", 0);
  ASSERT_EQ(all.series_size(), 1);
  EXPECT_EQ(all.series(0).step_size(), 2000);
  Check("weight.std", "^p1$");
  Check("grad.l2", "^p[12]$");
}

// ---- Steps of which only roll-ups are left. ----

TEST_F(RolledSeriesTest, ZoomedOutShrunkStepsAnswerExactlyAsBefore) {
  AddSchema(0, 5);
  AddSteps(0, 2 * kChapter + 700, 0, 11);
  SealAll();
  const std::vector<std::string> statistics = {
      "weight.mean", "grad.l2", "grad.max", "update.ratio", "grad.nonfinite"};
  std::vector<std::string> before;
  for (const std::string& statistic : statistics) {
    before.push_back(Get(statistic, "p[12]", kPoints).SerializeAsString());
  }
  Shrink();
  for (std::size_t i = 0; i < statistics.size(); ++i) {
    EXPECT_EQ(Get(statistics[i], "p[12]", kPoints).SerializeAsString(),
              before[i])
        << statistics[i];
  }
}

TEST_F(RolledSeriesTest, StepByStepShrunkStepsHaveExtremesAndAGap) {
  AddSchema(0, 5);
  AddSteps(0, kChapter + 700);
  SealAll();
  const auto before = ToMap(Get("grad.max", "p4", 0).series(0));
  Shrink();
  const auto answer = Get("grad.max", "p4", 0);
  ASSERT_EQ(answer.series_size(), 1);
  EXPECT_EQ(answer.series(0).points_before(), before.size());
  const auto after = ToMap(answer.series(0));
  const auto old_end = before.lower_bound(kChapter);
  CheckPoints({before.begin(), old_end},
              {after.begin(), after.lower_bound(kChapter)});
  // Of each 64 at least two.
  EXPECT_GE(std::distance(after.begin(), after.lower_bound(kChapter)), 128);
  for (auto it = old_end; it != before.end(); ++it) {
    ASSERT_EQ(after.count(it->first), 1U);
    if (std::isfinite(it->second.value)) {
      EXPECT_EQ(after.at(it->first).value, it->second.value);
    }
  }
  ASSERT_EQ(answer.gaps_size(), 1);
  const v1::GapInfo& gap = answer.gaps(0);
  EXPECT_EQ(gap.gap().cause(), v1::GAP_CAUSE_ROLLED_UP);
  EXPECT_FALSE(gap.lost());
  EXPECT_EQ(gap.gap().first_step(), 0);
  EXPECT_EQ(gap.gap().last_step(), kChapter - 1);
  EXPECT_EQ(gap.gap().steps(), std::uint64_t{kChapter});
}

TEST_F(RolledSeriesTest, WhatIsNotRolledUpIsAGapOfShrunkSteps) {
  AddSchema(0, 5);
  AddSteps(0, kChapter + 700);
  SealAll();
  Shrink();
  for (const std::uint32_t points : {0U, kPoints}) {
    const auto answer = Get("grad.zero", "p4", points);
    ASSERT_EQ(answer.series_size(), 1);
    EXPECT_GE(answer.series(0).step(0), kChapter);
    EXPECT_EQ(GapSteps(answer), std::uint64_t{kChapter});
  }
}

TEST_F(RolledSeriesTest, ASnapshotOfAShrunkStepNamesTheNearestWithValues) {
  AddSchema(0, 5);
  AddSteps(0, 2 * kChapter + 700);
  SealAll();
  Shrink();
  v1::GetSnapshotRequest request;
  request.set_run("run");
  request.set_step(100);
  v1::GetSnapshotResponse response;
  EXPECT_THAT(GetSnapshot(environment_, request, {}, &response),
              StatusIs(absl::StatusCode::kNotFound,
                       AllOf(HasSubstr("has no step 100"),
                             HasSubstr("only its roll-ups and scalars"),
                             HasSubstr("the nearest known: 4096"))));
  request.set_step(kChapter);
  GRADTAP_EXPECT_OK(GetSnapshot(environment_, request, {}, &response));
}

TEST_F(RolledSeriesTest, GapsCountShrunkStepsApart) {
  AddSchema(0, 5);
  AddSteps(0, kChapter + 1500, 0, 10);
  SealAll();
  v1::ListGapsRequest request;
  request.set_run("run");
  v1::ListGapsResponse before;
  GRADTAP_ASSERT_OK(ListGaps(environment_, request, {}, &before));
  EXPECT_EQ(before.rolled_up_steps(), 0U);
  Shrink();
  v1::ListGapsResponse after;
  GRADTAP_ASSERT_OK(ListGaps(environment_, request, {}, &after));
  EXPECT_EQ(after.rolled_up_steps(), std::uint64_t{kChapter});
  EXPECT_EQ(after.skipped_steps(), before.skipped_steps());
  EXPECT_EQ(after.lost_steps(), 0U);
  EXPECT_EQ(after.gaps_size(), before.gaps_size() + 1);
  // The newest have their values.
  request.mutable_steps()->set_begin(-100);
  v1::ListGapsResponse newest;
  GRADTAP_ASSERT_OK(ListGaps(environment_, request, {}, &newest));
  EXPECT_EQ(newest.rolled_up_steps(), 0U);
}

TEST_F(RolledSeriesTest, AHeatMapOfShrunkStepsIsFromRollUpsHoweverFewTheyAre) {
  AddSchema(0, 5);
  AddSteps(0, kChapter + 700);
  SealAll();
  v1::GetHeatMapRequest request;
  request.set_run("run");
  request.set_statistic("grad.max");
  request.mutable_steps()->set_end(640);
  v1::GetHeatMapResponse before;
  GRADTAP_ASSERT_OK(GetHeatMap(environment_, request, {}, &before));
  Shrink();
  request.mutable_steps()->set_end(kChapter);
  v1::GetHeatMapResponse after;
  GRADTAP_ASSERT_OK(GetHeatMap(environment_, request, {}, &after));
  EXPECT_NE(before.bucket_steps() % 64, 0U);
  EXPECT_EQ(after.bucket_steps() % 64, 0U);
  EXPECT_GT(after.buckets_size(), 0);
  EXPECT_EQ(after.gaps_size(), 0);
  // What has no roll-up that always holds is a gap.
  request.set_statistic("grad.zero");
  v1::GetHeatMapResponse zero;
  GRADTAP_ASSERT_OK(GetHeatMap(environment_, request, {}, &zero));
  ASSERT_EQ(zero.gaps_size(), 1);
  EXPECT_EQ(zero.gaps(0).gap().cause(), v1::GAP_CAUSE_ROLLED_UP);
}

}  // namespace
}  // namespace gradtap::server::testing
