// One step's spike and one step's NaN, however many steps are asked about at
// once and wherever the question begins: pooling loses neither, in series, CSV,
// heat maps and PromQL.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "proto/text/answer_csv.h"
#include "server/promql/evaluator.h"
#include "server/promql/parser.h"
#include "server/query/heat_map_cells.h"
#include "server/query/heat_map_query.h"
#include "server/query/metric_series.h"
#include "server/query/series_query.h"
#include "tests/server/query/rolled_run.h"

namespace gradtap::server::testing {
namespace {

// A chapter, some windows, and rows that are not sealed.
constexpr std::int64_t kSteps = 4096 + 3 * 128 + 77;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kBegin = 1'700'000'000 * kSecond;
constexpr float kSpike = 500;  // Times what is usual.

// Where a parameter's spike and its NaN are.
struct Events {
  std::int64_t spike = 0;
  std::int64_t nan = 0;
};

class VisibilityTest : public RolledRun {
 protected:
  void SetUp() override {
    RolledRun::SetUp();
    const std::int64_t steps[] = {
        0,    1,    63,   64,   127,         128,        2000,
        4094, 4095, 4096, 4223, kSteps - 77, kSteps - 2, kSteps - 1};
    const std::size_t n = std::size(steps);
    for (std::size_t i = 0; i < n; ++i) {
      events_.push_back({steps[i], steps[(i * 5 + 9) % n]});
    }
    for (int i = 0; i < 6; ++i) {
      const auto any = [this] {
        return static_cast<std::int64_t>(random_() % kSteps);
      };
      events_.push_back({any(), any()});
    }
    for (Events& event : events_) {
      if (event.nan == event.spike) event.nan = (event.nan + 1) % kSteps;
    }
    AddParameters();
    AddAllSteps();
    SealAll();
  }

  void AddParameters() {
    for (std::size_t i = 0; i < events_.size(); ++i) {
      Parameter p;
      p.name = absl::StrCat("p", i);
      p.dtype = "float32";
      p.shape = {50};
      p.numel = 50;
      p.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
      schema_.parameters.push_back(std::move(p));
    }
    schema_.schema_id = 1;
    StreamCommit commit = Next();
    const std::string record = EncodeSchema(schema_);
    commit.schemas.push_back({1, ParseRecord(record)->body});
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }

  // Nothing varies by more than a tenth, but for what happens once.
  Record RecordAt(std::size_t i, Role role, std::int64_t step) {
    Record record;
    if (role != Role::kWeight && step == events_[i].nan) {
      record.nan = 50;
      return record;
    }
    const float usual = role == Role::kWeight ? 1.0F
                        : role == Role::kGrad ? 0.1F
                                              : 0.001F;
    record.mean = 0;
    record.std = usual * (1 + 0.001F * static_cast<float>(random_() % 100));
    if (role != Role::kWeight && step == events_[i].spike) {
      record.std = usual * kSpike;
      record.zero = 40;
    }
    record.abs_mean = 0.8F * record.std;
    record.min = -2 * record.std;
    record.max = 3 * record.std;
    return record;
  }

  void AddAllSteps() {
    for (std::int64_t step = 0; step < kSteps;) {
      StreamCommit commit = Next();
      std::vector<std::string> bodies;
      bodies.reserve(200);
      for (; step < kSteps && bodies.size() < 200; ++step) {
        StepData data;
        data.step = step;
        data.wall_time_unix_ns = kBegin + step * kSecond;
        data.schema_id = 1;
        for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
          RoleColumns& columns = data.roles.emplace_back();
          columns.role = role;
          columns.Resize(events_.size());
          for (std::size_t i = 0; i < events_.size(); ++i) {
            columns.Set(i, RecordAt(i, role, step));
          }
        }
        std::string record(EncodedStepSize(data), '\0');
        EncodeStep(data, record);
        bodies.emplace_back(ParseRecord(record)->body);
        commit.steps.push_back({0, step, true, 3, bodies.back(), {}});
      }
      GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
    }
  }

  const Events& EventsOf(const std::string& parameter) const {
    return events_.at(std::stoul(parameter.substr(1)));
  }

  v1::GetSeriesResponse Series(const std::string& statistic,
                               const std::string& match, std::uint32_t points,
                               std::int64_t begin, std::int64_t end) {
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics(statistic);
    request.set_match(match);
    request.set_max_points(points);
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(end);
    v1::GetSeriesResponse response;
    const absl::Status s = GetSeries(environment_, request, {}, &response);
    EXPECT_TRUE(s.ok()) << s;
    return response;
  }

  // Of elements none of which is finite: a norm is 0, and at no other step.
  static bool ShowsNan(double value) { return std::isnan(value) || value == 0; }

  // `usual` is what no other step is ten times as high as.
  void CheckSeries(const std::string& statistic, double usual,
                   const std::string& match, std::uint32_t points,
                   std::int64_t begin, std::int64_t end) {
    const auto answer = Series(statistic, match, points, begin, end);
    EXPECT_GT(answer.series_size(), 0);
    for (const v1::Series& series : answer.series()) {
      const Events& event = EventsOf(series.parameter());
      bool spike = false;
      bool nan = false;
      for (int i = 0; i < series.step_size(); ++i) {
        const double value = series.value(i);
        spike |= series.step(i) == event.spike && value > 10 * usual;
        nan |= series.step(i) == event.nan && ShowsNan(value);
      }
      EXPECT_EQ(spike, begin <= event.spike && event.spike < end)
          << series.parameter() << ", " << event.spike;
      EXPECT_EQ(nan, begin <= event.nan && event.nan < end)
          << series.parameter() << ", " << event.nan;
      if (points >= 6) {
        EXPECT_LE(static_cast<std::uint32_t>(series.step_size()), points);
      }
      CheckCsv(series, event, spike, nan, usual);
    }
  }

  // The same of the rows that the CSV route writes.
  static void CheckCsv(const v1::Series& series, const Events& event,
                       bool spike, bool nan, double usual) {
    v1::GetSeriesResponse answer;
    *answer.add_series() = series;
    bool csv_spike = false;
    bool csv_nan = false;
    WriteCsv(answer, {}, [&](const std::string& row) {
      const std::vector<std::string> cells = absl::StrSplit(row, ',');
      EXPECT_EQ(cells.size(), 8U);
      const std::string value =
          cells[7].substr(0, cells[7].find_first_of("\r\n"));
      const double number = std::strtod(value.c_str(), nullptr);
      csv_spike |=
          cells[3] == std::to_string(event.spike) && number > 10 * usual;
      csv_nan |= cells[3] == std::to_string(event.nan) &&
                 (value == "NaN" || value == "0");
      return true;
    });
    EXPECT_EQ(csv_spike, spike);
    EXPECT_EQ(csv_nan, nan);
  }

  void CheckHeatMap(const std::string& statistic, double usual,
                    std::uint32_t buckets, std::int64_t begin,
                    std::int64_t end) {
    v1::GetHeatMapRequest request;
    request.set_run("run");
    request.set_statistic(statistic);
    request.set_max_buckets(buckets);
    request.mutable_steps()->set_begin(begin);
    request.mutable_steps()->set_end(end);
    v1::GetHeatMapResponse map;
    const absl::Status s = GetHeatMap(environment_, request, {}, &map);
    ASSERT_TRUE(s.ok()) << s;
    ASSERT_EQ(static_cast<std::size_t>(map.rows_size()), events_.size());
    for (const v1::HeatMapRow& row : map.rows()) {
      const Events& event = EventsOf(row.parameter());
      for (int b = 0; b < map.buckets_size(); ++b) {
        const auto holds = [&](std::int64_t step) {
          return map.buckets(b).first_step() <= step &&
                 step <= map.buckets(b).last_step();
        };
        const bool flagged = !row.flags().empty() &&
                             (row.flags().at(static_cast<std::size_t>(b)) &
                              kHeatMapNonfinite) != 0;
        ASSERT_EQ(row.worst(b) > 10 * usual, holds(event.spike))
            << row.parameter() << " bucket " << b;
        ASSERT_EQ(flagged, holds(event.nan))
            << row.parameter() << " bucket " << b;
      }
      const auto shown = [&](std::int64_t step) {
        return map.buckets(0).first_step() <= step &&
               step <= map.buckets(map.buckets_size() - 1).last_step();
      };
      EXPECT_TRUE(event.spike < begin || event.spike >= end ||
                  shown(event.spike));
      EXPECT_TRUE(event.nan < begin || event.nan >= end || shown(event.nan));
    }
  }

  // A panel's question: one point for each `seconds` of steps from `begin` on.
  std::vector<promql::Column> Panel(const std::string& function,
                                    const std::string& metric,
                                    std::int64_t seconds, std::int64_t begin) {
    const auto expression = promql::Parse(
        absl::StrCat(function, "(", metric, "{run=\"run\"}[", seconds, "s])"));
    GRADTAP_EXPECT_OK(expression);
    promql::Times times;
    times.step_ms = seconds * 1000;
    times.begin_ms = kBegin / 1'000'000 + begin * 1000 + times.step_ms;
    times.end_ms = times.begin_ms + kSteps * 1000;
    const Cancelled never = [] { return false; };
    MetricSeries source(environment_, never);
    auto result = promql::Evaluate(**expression, times, &source);
    GRADTAP_EXPECT_OK(result);
    EXPECT_EQ(result->columns.size(), events_.size());
    return std::move(result->columns);
  }
  const Events& EventsOf(const promql::Column& column) const {
    for (const auto& [name, value] : column.labels) {
      if (name == "param") return EventsOf(value);
    }
    ADD_FAILURE() << "a series without a parameter";
    return events_.front();
  }

  std::vector<Events> events_;  // By parameter.
};

// Statistics from roll-ups, derived from them, and one that has none; each with
// what it usually is.
const std::pair<const char*, double> kStatistics[] = {{"grad.l2", 0.78},
                                                      {"grad.max", 0.33},
                                                      {"update.ratio", 0.0011},
                                                      {"grad.std", 0.11}};

// [begin, end) of steps; the first are all.
const std::pair<std::int64_t, std::int64_t> kWindows[] = {
    {0, kSteps}, {1, kSteps}, {63, kSteps - 1}, {129, 4095}, {4095, 4225}};

TEST_F(VisibilityTest, ASeriesOfAnyLengthHasBoth) {
  for (const auto& [begin, end] : kWindows) {
    for (const auto& [statistic, usual] : kStatistics) {
      for (std::uint32_t points = 1; points < 2 * kSteps; points *= 2) {
        SCOPED_TRACE(
            absl::StrCat(statistic, " ", begin, ":", end, " in ", points));
        CheckSeries(statistic, usual, "", points, begin, end);
        if (HasFailure()) return;
      }
      if (begin != 0) break;  // One will do.
    }
  }
}

TEST_F(VisibilityTest, ASeriesAroundAStepHasBothWhereverItBegins) {
  for (std::size_t i = 0; i < events_.size(); ++i) {
    const std::string match = absl::StrCat("^p", i, "$");
    for (const std::int64_t step : {events_[i].spike, events_[i].nan}) {
      for (const std::int64_t width : {1, 3, 77, 1001}) {
        for (const std::int64_t before :
             {std::int64_t{0}, width / 2, width - 1}) {
          const std::int64_t begin = std::max<std::int64_t>(0, step - before);
          const std::int64_t end = std::min(kSteps, begin + width);
          if (step >= end) continue;
          for (const std::uint32_t points : {1U, 7U, 64U}) {
            SCOPED_TRACE(absl::StrCat(begin, ":", end, " in ", points));
            CheckSeries("grad.l2", 0.78, match, points, begin, end);
            if (HasFailure()) return;
          }
        }
      }
    }
  }
}

TEST_F(VisibilityTest, AHeatMapOfAnyWidthHasBoth) {
  for (const auto& [begin, end] : kWindows) {
    for (const auto& [statistic, usual] : kStatistics) {
      for (std::uint32_t buckets = 1; buckets <= kMaxHeatMapBuckets;
           buckets *= 2) {
        SCOPED_TRACE(
            absl::StrCat(statistic, " ", begin, ":", end, " in ", buckets));
        CheckHeatMap(statistic, usual, buckets, begin, end);
        if (HasFailure()) return;
      }
      if (begin != 0) break;  // One will do.
    }
  }
}

TEST_F(VisibilityTest, APanelWhosePointsAreManyStepsApartHasBoth) {
  for (std::int64_t seconds = 2; seconds <= 4096; seconds *= 8) {
    for (const std::int64_t begin : {-1, 0}) {
      SCOPED_TRACE(absl::StrCat(seconds, " s from ", begin));
      for (const promql::Column& column :
           Panel("max_over_time", "gradtap_grad_l2", seconds, begin)) {
        bool spike = false;
        for (const double value : column.values) spike |= value > 7.8;
        EXPECT_TRUE(spike) << EventsOf(column).spike;
      }
      for (const promql::Column& column :
           Panel("max_over_time", "gradtap_grad_nonfinite", seconds, begin)) {
        bool nan = false;
        for (const double value : column.values) nan |= value == 50;
        EXPECT_TRUE(nan) << EventsOf(column).nan;
      }
      // A sum is no number where one of its values is none, and there alone.
      for (const promql::Column& column :
           Panel("sum_over_time", "gradtap_grad_max", seconds, begin)) {
        std::size_t nans = 0;
        for (std::size_t i = 0; i < column.values.size(); ++i) {
          nans += column.present[i] != 0 && std::isnan(column.values[i]);
        }
        // A range has both of its ends.
        EXPECT_GE(nans, 1U) << EventsOf(column).nan;
        EXPECT_LE(nans, 2U) << EventsOf(column).nan;
      }
    }
  }
}

}  // namespace
}  // namespace gradtap::server::testing
