// Heat maps against the series of each parameter, read step by step.

#include "server/query/heat_map_query.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/query/heat_map_cells.h"
#include "server/query/heat_map_grid.h"
#include "server/query/run_view.h"
#include "server/query/series_query.h"
#include "tests/server/query/rolled_run.h"

namespace gradtap::server::testing {
namespace {

struct Truth {
  double value = 0;
  bool absent = false;
  bool elements = false;  // Some are not finite.
};
using Steps = std::map<std::int64_t, Truth>;

// By the definition in heat_map.proto.
struct Cell {
  float worst = NAN;
  std::uint8_t flags = 0;
};

bool IsWorse(const std::string& field, float a, float b) {
  if (std::isnan(b)) return true;
  if (field == "finite_fraction") return a < b;
  if (field == "mean" || field == "sum" || field == "min" || field == "max") {
    return std::fabs(a) > std::fabs(b) || (a == -b && a > 0);
  }
  return a > b;
}

Cell PoolSteps(const std::string& field, const Steps& steps, std::int64_t first,
               std::int64_t last) {
  Cell cell;
  for (auto it = steps.lower_bound(first);
       it != steps.end() && it->first <= last; ++it) {
    const Truth& truth = it->second;
    if (truth.absent) {
      cell.flags |= kHeatMapAbsent;
      continue;
    }
    if (!std::isfinite(truth.value) || truth.elements) {
      cell.flags |= kHeatMapNonfinite;
    }
    if (!std::isfinite(truth.value)) continue;
    const auto value = static_cast<float>(truth.value);
    if (IsWorse(field, value, cell.worst)) cell.worst = value;
  }
  return cell;
}

class HeatMapTest : public RolledRun {
 protected:
  absl::Status Ask(const v1::GetHeatMapRequest& request,
                   v1::GetHeatMapResponse* response) {
    return GetHeatMap(environment_, request, {}, response);
  }

  v1::GetHeatMapResponse Get(const std::string& statistic,
                             std::uint32_t buckets, std::int64_t begin = 0,
                             std::int64_t end = -1) {
    v1::GetHeatMapRequest request;
    request.set_run("run");
    request.set_statistic(statistic);
    request.set_max_buckets(buckets);
    request.mutable_steps()->set_begin(begin);
    if (end >= 0) request.mutable_steps()->set_end(end);
    v1::GetHeatMapResponse response;
    const absl::Status s = Ask(request, &response);
    EXPECT_TRUE(s.ok()) << s;
    return response;
  }

  // With a chapter from 4096 on that is bound while the map is made.
  void CheckWhileBound(std::int64_t begin, std::int64_t end) {
    AddSchema(0, 12);
    AddSteps(0, 8100);
    SealAll();
    const auto before = Get("grad.l2", 20, begin, end);
    v1::GetHeatMapRequest request;
    request.set_run("run");
    request.set_statistic("grad.l2");
    request.set_max_buckets(20);
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(end);
    v1::GetHeatMapResponse meanwhile;
    GRADTAP_ASSERT_OK(GetHeatMap(environment_, request, BindNow(), &meanwhile));
    EXPECT_TRUE(meanwhile.SerializeAsString() == before.SerializeAsString());
    EXPECT_EQ(store_->counters().sealed_rows, 8100U);
  }

  // Of every parameter that has it.
  std::map<std::string, Steps> Truths(const std::string& statistic) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics(statistic);
    const std::string elements =
        statistic.substr(0, statistic.find('.')) + ".nonfinite";
    if (statistic != elements) request.add_statistics(elements);
    v1::GetSeriesResponse response;
    const absl::Status s = GetSeries(environment_, request, {}, &response);
    EXPECT_TRUE(s.ok()) << s;
    std::map<std::string, Steps> truths;
    for (const v1::Series& series : response.series()) {
      if (series.statistic() != statistic) continue;
      Steps& steps = truths[series.parameter()];
      for (int i = 0; i < series.step_size(); ++i) {
        steps[series.step(i)].value = series.value(i);
      }
      for (const std::uint32_t i : series.absent()) {
        steps[series.step(static_cast<int>(i))].absent = true;
      }
    }
    for (const v1::Series& series : response.series()) {
      if (series.statistic() != elements) continue;
      const auto found = truths.find(series.parameter());
      if (found == truths.end()) continue;
      for (int i = 0; i < series.step_size(); ++i) {
        const auto step = found->second.find(series.step(i));
        if (step != found->second.end()) {
          step->second.elements = series.value(i) > 0;
        }
      }
    }
    gap_steps_ = GapSteps(response.gaps());
    return truths;
  }

  template <typename Gaps>
  static std::uint64_t GapSteps(const Gaps& gaps) {
    std::uint64_t steps = 0;
    for (const v1::GapInfo& gap : gaps) steps += gap.gap().steps();
    return steps;
  }

  void Check(const std::string& statistic, std::uint32_t max_buckets,
             std::int64_t begin = 0, std::int64_t end = -1) {
    SCOPED_TRACE(statistic + " in " + std::to_string(max_buckets) + ", " +
                 std::to_string(begin) + ":" + std::to_string(end));
    const auto truths = Truths(statistic);
    const auto map = Get(statistic, max_buckets, begin, end);
    ASSERT_EQ(map.rows_size(), static_cast<int>(truths.size()));
    EXPECT_LE(map.buckets_size(), static_cast<int>(max_buckets));
    CheckBuckets(map, begin, end);
    const std::string field = statistic.substr(statistic.find('.') + 1);
    for (const v1::HeatMapRow& row : map.rows()) {
      const auto truth = truths.find(row.parameter());
      ASSERT_NE(truth, truths.end()) << row.parameter();
      ASSERT_EQ(row.worst_size(), map.buckets_size());
      if (!row.flags().empty()) {
        ASSERT_EQ(static_cast<int>(row.flags().size()), row.worst_size());
      }
      for (int i = 0; i < map.buckets_size(); ++i) {
        const Cell cell =
            PoolSteps(field, truth->second, map.buckets(i).first_step(),
                      map.buckets(i).last_step());
        const int flags =
            row.flags().empty() ? 0 : static_cast<std::uint8_t>(row.flags()[i]);
        EXPECT_EQ(flags, cell.flags) << row.parameter() << " bucket " << i;
        if (std::isnan(cell.worst)) {
          EXPECT_TRUE(std::isnan(row.worst(i)));
        } else {
          EXPECT_EQ(row.worst(i), cell.worst)
              << row.parameter() << " bucket " << i;
        }
      }
    }
    if (begin == 0 && end < 0) {
      EXPECT_EQ(GapSteps(map.gaps()), gap_steps_);
    }
  }

  // Columns follow each other, and have every recorded step once.
  void CheckBuckets(const v1::GetHeatMapResponse& map, std::int64_t begin,
                    std::int64_t end) {
    std::uint64_t recorded = 0, expected = 0;
    std::int64_t last = -1;
    for (const v1::HeatMapBucket& bucket : map.buckets()) {
      EXPECT_GT(bucket.first_step(), last);
      EXPECT_GE(bucket.last_step(), bucket.first_step());
      EXPECT_LE(bucket.recorded(), map.bucket_steps());
      EXPECT_GT(bucket.recorded(), 0U);
      EXPECT_EQ(bucket.first_time_unix_ns() / 1'000'000'000,
                bucket.first_step());
      last = bucket.last_step();
      recorded += bucket.recorded();
    }
    const auto steps = Truths("weight.std");
    std::map<std::int64_t, bool> all;
    for (const auto& [name, series] : steps) {
      for (const auto& [step, truth] : series) {
        if (step >= begin && (end < 0 || step < end)) all[step] = true;
      }
    }
    expected = all.size();
    EXPECT_EQ(recorded, expected);
  }

  std::uint64_t gap_steps_ = 0;
};

TEST_F(HeatMapTest, FewStepsAreReadOneByOne) {
  AddSchema(0, 12);
  AddSteps(0, 450);
  SealAll();
  for (const char* statistic :
       {"weight.mean", "grad.l2", "update.ratio", "grad.nonfinite",
        "weight.zero_fraction", "grad.finite_fraction", "grad.rms",
        "update.min"}) {
    for (const std::uint32_t buckets : {1000U, 450U, 100U, 7U}) {
      Check(statistic, buckets);
    }
  }
  EXPECT_EQ(Get("grad.l2", 1000).bucket_steps(), 1U);
  EXPECT_EQ(Get("grad.l2", 100).bucket_steps(), 5U);
  Check("grad.l2", 1000, 100, 300);
  Check("grad.l2", 20, 127, 129);
}

// Two threads share a window's parameters.
TEST_F(HeatMapTest, ManyParametersAreReadByTwoThreads) {
  AddSchema(0, 333);
  AddSteps(0, 350);  // Two windows, and rows.
  SealAll();
  ASSERT_EQ(store_->counters().sealed_windows, 2U);
  Check("weight.max", 350);
  Check("grad.l2", 60);
  Check("update.ratio", 60, 20, 250);
}

TEST_F(HeatMapTest, ManyStepsComeFromRollups) {
  AddSchema(0, 12);
  AddSteps(0, 4096 + 3 * 128 + 150);  // A chapter, windows, rows.
  SealAll();
  ASSERT_EQ(store_->counters().sealed_windows, 35U);
  for (const char* statistic :
       {"weight.mean", "grad.std", "update.min", "grad.max", "grad.l2",
        "update.ratio", "grad.nonfinite", "weight.abs_max", "grad.variance"}) {
    for (const std::uint32_t buckets : {70U, 20U, 3U, 1U}) {
      Check(statistic, buckets);
    }
  }
  EXPECT_EQ(Get("grad.l2", 72).bucket_steps() % 64, 0U);
  for (const auto& [begin, end] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 4400}, {63, 4630}, {4096, 4400}, {4100, 4630}, {100, 4096}}) {
    Check("grad.l2", 4, begin, end);
  }
}

TEST_F(HeatMapTest, RunsBeyondTheGridArePassedOver) {
  AddSchema(0, 1);
  AddSteps(0, 300);
  SealAll();
  const absl::StatusOr<RunView> run = OpenRun(*store_, "run");
  GRADTAP_ASSERT_OK(run);
  ReadBudget budget(1 << 20, {});
  const auto grid = HeatMapGrid::Make(store_.get(), run->LineOf(0, 0), {0, 128},
                                      /*rolled=*/true, 10, &budget);
  GRADTAP_ASSERT_OK(grid);
  constexpr int kCells = 2;
  ASSERT_EQ(grid->buckets(), std::uint32_t{kCells});
  // The row's memory is larger than the row: what is written there shows.
  constexpr int kMemory = 8;
  v1::HeatMapRow row;
  row.mutable_worst()->Resize(kMemory, -1);
  row.mutable_worst()->Clear();
  HeatMapCells cells(HeatMapWorst::kLargest, kCells, &row);
  const float* const memory = row.worst().data();
  const std::vector<float> worst(kMemory - 1, 5);
  const std::vector<std::uint8_t> flags(kMemory - 1, kHeatMapAbsent);
  cells.AddRuns(*grid, 1, worst, flags.data(), /*square=*/false);
  cells.AddElements(*grid, 1, worst);
  EXPECT_TRUE(std::isnan(memory[0]));
  EXPECT_EQ(memory[1], 5);
  for (int i = kCells; i < kMemory; ++i) EXPECT_EQ(memory[i], -1) << i;
  cells.AddRuns(*grid, kCells, worst, flags.data(), /*square=*/false);
  cells.AddElements(*grid, kCells, worst);
  EXPECT_EQ(memory[kCells], -1);
  cells.Finish();
  const std::string expected = {0, kHeatMapAbsent | kHeatMapNonfinite};
  EXPECT_EQ(row.flags(), expected);
}

TEST_F(HeatMapTest, AChapterThatIsBoundMeanwhileEndsWhereTheQuestionDoes) {
  CheckWhileBound(0, 6000);
}

TEST_F(HeatMapTest, AChapterThatIsBoundMeanwhileLeavesNoHole) {
  CheckWhileBound(5100, 8100);
}

TEST_F(HeatMapTest, StatisticsWithoutRollupsAreReadStepByStep) {
  AddSchema(0, 8);
  AddSteps(0, 1000);
  End();
  SealAll();
  Check("grad.zero", 5);
  Check("weight.l1", 5);
  Check("update.finite_fraction", 5);
}

TEST_F(HeatMapTest, SkippedStepsAreGapsAndParametersComeAndGo) {
  AddSchema(0, 12);
  AddSteps(0, 900, 0, 5);
  AddSchema(4, 12);  // Others' places differ, some names are new.
  AddSteps(900, 2100, 0, 7);
  End();
  SealAll();
  for (const std::uint32_t buckets : {4U, 12U, 5000U}) {
    Check("grad.l2", buckets);
    Check("weight.mean", buckets);
  }
}

TEST_F(HeatMapTest, ARollbackCutsTheOldBranch) {
  AddSchema(0, 8);
  AddSteps(0, 700);
  StreamCommit commit = Next();
  commit.new_branches.push_back({1, 431});
  ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  AddSteps(431, 1100, 1);
  End();
  SealAll();
  Check("grad.l2", 3);
  Check("weight.max", 5);
  Check("weight.max", 2000);
}

TEST_F(HeatMapTest, PatternsChooseRowsInTheSchemasOrder) {
  AddSchema(0, 12);
  AddSteps(0, 1000);
  SealAll();
  for (const std::uint32_t buckets : {2U, 1000U}) {
    v1::GetHeatMapRequest request;
    request.set_run("run");
    request.set_statistic("grad.l2");
    request.set_max_buckets(buckets);
    request.set_match("^p(11|4|5)$");
    v1::GetHeatMapResponse response;
    ASSERT_TRUE(Ask(request, &response).ok());
    ASSERT_EQ(response.rows_size(), 3);
    EXPECT_EQ(response.rows(0).parameter(), "p4");
    EXPECT_EQ(response.rows(1).parameter(), "p5");
    EXPECT_EQ(response.rows(2).parameter(), "p11");
  }
}

TEST_F(HeatMapTest, WrongQuestionsAreAnswered) {
  AddSchema(0, 6);
  AddSteps(0, 20);
  v1::GetHeatMapRequest request;
  request.set_run("run");
  v1::GetHeatMapResponse response;
  const auto message = [&](absl::StatusCode code) {
    response.Clear();
    const absl::Status s = Ask(request, &response);
    EXPECT_EQ(s.code(), code) << s;
    return std::string(s.message());
  };
  EXPECT_NE(message(absl::StatusCode::kInvalidArgument).find("grad.l2"),
            std::string::npos);
  for (const char* name : {"scalar.loss", "grad.p50"}) {
    request.set_statistic(name);
    EXPECT_NE(message(absl::StatusCode::kInvalidArgument).find(name),
              std::string::npos);
  }
  request.set_statistic("grad.l3");
  EXPECT_NE(message(absl::StatusCode::kNotFound).find("grad.l"),
            std::string::npos);
  request.set_statistic("grad.l2");
  request.set_match("nothing");
  EXPECT_NE(message(absl::StatusCode::kNotFound).find("nothing"),
            std::string::npos);
  request.set_match("");
  request.set_max_buckets(10'001);
  EXPECT_NE(message(absl::StatusCode::kInvalidArgument).find("10001"),
            std::string::npos);
  request.set_max_buckets(0);
  request.set_rank(3);
  EXPECT_NE(message(absl::StatusCode::kNotFound).find("3"), std::string::npos);
  request.set_rank(0);
  environment_.limits.max_cells = 50;
  EXPECT_NE(message(absl::StatusCode::kResourceExhausted).find("50 cells"),
            std::string::npos);
  environment_.limits.max_cells = 80;
  EXPECT_TRUE(Ask(request, &response).ok());
}

}  // namespace
}  // namespace gradtap::server::testing
