// Heat maps over all ranks against the merged series of each parameter.

#include "server/query/heat_map_merged.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/query/heat_map_cells.h"
#include "server/query/heat_map_query.h"
#include "server/query/merge.h"
#include "server/query/query_testing.h"
#include "server/query/series_query.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Cell {
  float worst = NAN;
  int flags = 0;
};

class HeatMapMergedTest : public QueryTest {
 protected:
  HeatMapMergedTest() {
    Parameter local = MakeParameter("local");
    local.roles.push_back(Role::kGradLocal);
    schema_ =
        MakeSchema(1, {MakeParameter("shard", Placement::kSharded),
                       MakeParameter("whole"), local, MakeBuffer("buffer")});
  }

  StreamId AddRank(std::uint32_t rank, const std::string& launch = "one",
                   std::int64_t start = kStart) {
    const StreamId stream = Open("run", launch, rank, start, 2);
    store_.AddSchema(stream, schema_);
    return stream;
  }

  // Steps of both ranks, some of which one of them lacks.
  void AddSteps(const StreamId (&ranks)[2], std::int64_t begin,
                std::int64_t end) {
    for (std::int64_t step = begin; step < end; ++step) {
      for (const StreamId rank : ranks) {
        const auto kind = random_() % 12;
        if (kind == 0) continue;
        if (kind == 1) {
          store_.AddStep(rank, 0, MakeSkipped(step, GapCause::kLoop));
          continue;
        }
        std::normal_distribution<float> normal;
        StepData data = MakeStep(schema_, step, normal(random_) * 50,
                                 kStart + step * kSecond);
        for (RoleColumns& columns : data.roles) {
          for (std::size_t i = 0; i < columns.mean.size(); ++i) {
            if (columns.role == Role::kGrad && random_() % 15 == 0) {
              columns.SetAbsent(i);
            } else if (random_() % 15 == 0) {
              Record record = RecordOf(normal(random_));
              record.nan = 1 + random_() % kNumel;
              columns.Set(i, record);
            }
          }
        }
        store_.AddStep(rank, 0, data);
      }
    }
  }

  absl::StatusOr<v1::GetHeatMapResponse> Map(const std::string& statistic,
                                             std::uint32_t buckets,
                                             const std::string& match = "") {
    v1::GetHeatMapRequest request;
    request.set_run("run");
    request.set_statistic(statistic);
    request.set_max_buckets(buckets);
    request.set_match(match);
    request.set_merged(true);
    v1::GetHeatMapResponse response;
    absl::Status status = GetHeatMap(environment_, request, {}, &response);
    if (!status.ok()) return status;
    return response;
  }

  v1::GetSeriesResponse Series(const std::string& statistic) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics(statistic);
    request.set_merged(true);
    v1::GetSeriesResponse response;
    GRADTAP_EXPECT_OK(GetSeries(environment_, request, {}, &response));
    return response;
  }

  // By parameter and bucket, from the series.
  std::map<std::string, std::vector<Cell>> Pool(
      const std::string& statistic, const v1::GetHeatMapResponse& map) {
    const auto bucket_of = [&](std::int64_t step) {
      for (int b = 0; b < map.buckets_size(); ++b) {
        if (step <= map.buckets(b).last_step()) return b;
      }
      ADD_FAILURE() << "step " << step << " is in no column";
      return 0;
    };
    std::map<std::string, std::vector<Cell>> cells;
    const v1::GetSeriesResponse values = Series(statistic);
    for (const v1::Series& series : values.series()) {
      auto& row = cells[series.parameter()];
      row.resize(map.buckets_size());
      for (int i = 0; i < series.step_size(); ++i) {
        Cell& cell = row[bucket_of(series.step(i))];
        const auto value = static_cast<float>(series.value(i));
        if (std::isfinite(value) && !(value <= cell.worst)) cell.worst = value;
      }
      for (const std::uint32_t i : series.absent()) {
        row[bucket_of(series.step(static_cast<int>(i)))].flags |=
            kHeatMapAbsent;
      }
    }
    const std::string elements =
        statistic.substr(0, statistic.find('.')) + ".nonfinite";
    const v1::GetSeriesResponse counts = Series(elements);
    for (const v1::Series& series : counts.series()) {
      auto& row = cells[series.parameter()];
      for (int i = 0; i < series.step_size(); ++i) {
        if (!(series.value(i) > 0)) continue;
        row[bucket_of(series.step(i))].flags |= kHeatMapNonfinite;
      }
    }
    return cells;
  }

  Schema schema_;
  std::mt19937_64 random_{7};
};

TEST_F(HeatMapMergedTest, CellsAreTheWorstOfTheMergedSeries) {
  const StreamId first[] = {AddRank(0), AddRank(1)};
  AddSteps(first, 0, 150);
  const StreamId again[] = {AddRank(0, "two", kStart + 1000 * kSecond),
                            AddRank(1, "two", kStart + 1000 * kSecond)};
  AddSteps(again, 97, 230);
  for (const char* statistic :
       {"grad.l2", "weight.std", "grad_local.l2", "update.nonfinite"}) {
    for (const std::uint32_t buckets : {1U, 7U, 64U, 1000U}) {
      SCOPED_TRACE(absl::StrCat(statistic, " in ", buckets));
      const auto map = Map(statistic, buckets);
      GRADTAP_ASSERT_OK(map);
      EXPECT_EQ(map->rank(), kMergedRank);
      EXPECT_EQ(map->attempt(), 2U);
      ASSERT_LE(map->buckets_size(), static_cast<int>(buckets));
      const auto cells = Pool(statistic, *map);
      ASSERT_EQ(map->rows_size(), static_cast<int>(cells.size()));
      for (const v1::HeatMapRow& row : map->rows()) {
        const std::vector<Cell>& wanted = cells.at(row.parameter());
        for (std::size_t b = 0; b < wanted.size(); ++b) {
          const int flags = row.flags().empty() ? 0 : row.flags()[b];
          const float worst = row.worst(static_cast<int>(b));
          EXPECT_EQ(flags, wanted[b].flags) << row.parameter() << " " << b;
          EXPECT_TRUE(worst == wanted[b].worst ||
                      (std::isnan(worst) && std::isnan(wanted[b].worst)))
              << row.parameter() << " " << b << ": " << worst << ", "
              << wanted[b].worst;
        }
      }
    }
  }
}

TEST_F(HeatMapMergedTest, ColumnsAreTheStepsThatAnyRankHas) {
  const StreamId ranks[] = {AddRank(0), AddRank(1)};
  for (const std::int64_t step : {3, 4, 8}) {
    store_.AddStep(ranks[0], 0, MakeStep(schema_, step, 1));
  }
  for (const std::int64_t step : {4, 6}) {
    store_.AddStep(ranks[1], 0, MakeStep(schema_, step, 1));
  }
  store_.AddStep(ranks[1], 0, MakeSkipped(7, GapCause::kLoop));
  const auto map = Map("weight.std", 2);
  GRADTAP_ASSERT_OK(map);
  ASSERT_EQ(map->buckets_size(), 2);
  EXPECT_EQ(map->bucket_steps(), 2U);
  EXPECT_EQ(map->buckets(0).first_step(), 3);
  EXPECT_EQ(map->buckets(0).last_step(), 4);
  EXPECT_EQ(map->buckets(1).first_step(), 6);
  EXPECT_EQ(map->buckets(1).last_step(), 8);
  EXPECT_EQ(map->buckets(1).recorded(), 2U);
  ASSERT_EQ(map->gaps_size(), 1);
  EXPECT_EQ(map->gaps(0).rank(), 1U);
  std::vector<std::string> names;
  for (const auto& row : map->rows()) names.push_back(row.parameter());
  EXPECT_THAT(names, ElementsAre("shard", "whole", "local"));
  // A part of it is missing at step 3, and at 6 and 8.
  EXPECT_TRUE(std::isnan(map->rows(0).worst(1)));
  EXPECT_FALSE(std::isnan(map->rows(1).worst(1)));
}

TEST_F(HeatMapMergedTest, ARunWithoutStepsHasNoColumns) {
  AddRank(0);
  const auto map = Map("grad.l2", 10);
  GRADTAP_ASSERT_OK(map);
  EXPECT_EQ(map->buckets_size(), 0);
  EXPECT_EQ(map->rows_size(), 0);
}

TEST_F(HeatMapMergedTest, WhatIsTooLargeIsRefusedWithWhatToDo) {
  const StreamId ranks[] = {AddRank(0), AddRank(1)};
  for (std::int64_t step = 0; step < 10; ++step) {
    for (const StreamId rank : ranks) {
      store_.AddStep(rank, 0, MakeStep(schema_, step, 1));
    }
  }
  environment_.limits.max_cells = 25;
  EXPECT_THAT(Map("grad.l2", 10),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("2 parameters in 10 columns")));
  GRADTAP_EXPECT_OK(Map("grad.l2", 10, "^whole$"));
  environment_.limits.max_read_bytes = 10;
  EXPECT_THAT(Map("grad.l2", 10),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("10")));
}

}  // namespace
}  // namespace gradtap::server::testing
