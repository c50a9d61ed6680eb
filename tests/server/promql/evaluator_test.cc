#include "server/promql/evaluator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "server/promql/parser.h"
#include "support/status_matchers.h"

namespace gradtap::server::promql {
namespace {

using ::testing::HasSubstr;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Samples in memory; gives all that were asked for.
class FixedSource final : public SampleSource {
 public:
  absl::Status Select(const std::vector<Matcher>& matchers, const Times& times,
                      std::int64_t before_ms, bool /*newest_only*/,
                      std::vector<SampledSeries>* series) override {
    for (const SampledSeries& one : all) {
      if (!MatchesAll(matchers, one.labels)) continue;
      SampledSeries cut{one.labels, {}};
      for (const Sample& sample : one.samples) {
        if (sample.time_ms >= times.begin_ms - before_ms &&
            sample.time_ms <= times.end_ms) {
          cut.samples.push_back(sample);
        }
      }
      if (!cut.samples.empty()) series->push_back(cut);
    }
    return absl::OkStatus();
  }

  std::vector<SampledSeries> all;
};

class PromqlEvaluatorTest : public ::testing::Test {
 protected:
  PromqlEvaluatorTest() {
    Add("norm", "a", {{10'000, 1}, {20'000, 4}, {30'000, 2}});
    Add("norm", "b", {{10'000, 3}, {20'000, kNan}, {30'000, -5}});
    Add("norm", "c", {{25'000, 10}});
  }
  void Add(const std::string& name, const std::string& param,
           std::vector<Sample> samples) {
    source_.all.push_back(
        {{{kMetricName, name}, {"param", param}, {"run", "r"}},
         std::move(samples)});
  }

  // Of each series of a result at one time, by its labels but the run's.
  std::map<std::string, double> At(const std::string& text,
                                   std::int64_t time_ms) {
    const auto parsed = Parse(text);
    GRADTAP_EXPECT_OK(parsed);
    std::map<std::string, double> values;
    if (!parsed.ok()) return values;
    const auto result = Evaluate(**parsed, {time_ms, time_ms, 1}, &source_);
    GRADTAP_EXPECT_OK(result);
    if (!result.ok()) return values;
    for (const Column& column : result->columns) {
      std::string key;
      for (const auto& [name, value] : column.labels) {
        if (name != "run") key += name + "=" + value + ";";
      }
      values[key] = column.values[0];
    }
    return values;
  }

  FixedSource source_;
};

using Values = std::map<std::string, double>;

TEST_F(PromqlEvaluatorTest, AScalarIsANumberAtAnyTime) {
  EXPECT_EQ(At("1 + 1", 0), (Values{{"", 2}}));
  EXPECT_EQ(At("2 * 3 ^ 2 % 5 - -1", 5), (Values{{"", 4}}));
  EXPECT_EQ(At("7 >= bool 7", 5), (Values{{"", 1}}));
}

TEST_F(PromqlEvaluatorTest, ASampleStandsForFiveMinutes) {
  EXPECT_TRUE(At("norm", 9'999).empty());
  EXPECT_EQ(At("norm{param='a'}", 10'000),
            (Values{{"__name__=norm;param=a;", 1}}));
  EXPECT_EQ(At("norm{param='a'}", 29'999),
            (Values{{"__name__=norm;param=a;", 4}}));
  EXPECT_EQ(At("norm{param='a'}", 330'000),
            (Values{{"__name__=norm;param=a;", 2}}));
  EXPECT_TRUE(At("norm{param='a'}", 330'001).empty());
}

TEST_F(PromqlEvaluatorTest, ArithmeticDropsTheNameAndComparisonsFilter) {
  EXPECT_EQ(At("norm{param=~'a|c'} * 2", 30'000),
            (Values{{"param=a;", 4}, {"param=c;", 20}}));
  EXPECT_EQ(At("100 / norm{param='a'}", 30'000), (Values{{"param=a;", 50}}));
  EXPECT_EQ(At("norm > 1", 30'000), (Values{{"__name__=norm;param=a;", 2},
                                            {"__name__=norm;param=c;", 10}}));
  EXPECT_EQ(At("1 < norm", 30'000), At("norm > 1", 30'000));
  EXPECT_EQ(At("norm > bool 1", 30'000),
            (Values{{"param=a;", 1}, {"param=b;", 0}, {"param=c;", 1}}));
  EXPECT_EQ(At("-norm{param='b'}", 30'000), (Values{{"param=b;", 5}}));
  EXPECT_EQ(At("abs(norm{param='b'})", 30'000), (Values{{"param=b;", 5}}));
}

TEST_F(PromqlEvaluatorTest, AggregationsGroupByLabels) {
  EXPECT_EQ(At("sum(norm)", 30'000), (Values{{"", 7}}));
  EXPECT_EQ(At("avg by (run) (norm)", 30'000).size(), 1u);
  EXPECT_EQ(At("max without (run) (norm)", 30'000),
            (Values{{"param=a;", 2}, {"param=b;", -5}, {"param=c;", 10}}));
  EXPECT_EQ(At("count(norm > 1)", 30'000), (Values{{"", 2}}));
  EXPECT_EQ(At("topk(1, norm)", 30'000),
            (Values{{"__name__=norm;param=c;", 10}}));
  EXPECT_EQ(
      At("bottomk(2, norm)", 30'000),
      (Values{{"__name__=norm;param=a;", 2}, {"__name__=norm;param=b;", -5}}));
  EXPECT_EQ(At("quantile(0.75, norm)", 30'000), (Values{{"", 6}}));
  EXPECT_EQ(At("topk(0, norm)", 30'000).size(), 0u);
  EXPECT_TRUE(At("sum(nothing)", 30'000).empty());
}

TEST_F(PromqlEvaluatorTest, TheBestStandFirst) {
  const auto first = [&](const std::string& text) {
    const auto parsed = Parse(text);
    const auto result = Evaluate(**parsed, {30'000, 30'000, 1}, &source_);
    GRADTAP_EXPECT_OK(result);
    return result->columns.at(0).labels.at("param");
  };
  EXPECT_EQ(first("topk(3, norm)"), "c");
  EXPECT_EQ(first("bottomk(3, norm)"), "b");
}

TEST_F(PromqlEvaluatorTest, NanLosesToEveryNumber) {
  EXPECT_EQ(At("max(norm)", 20'000), (Values{{"", 4}}));
  EXPECT_EQ(At("min(norm)", 20'000), (Values{{"", 4}}));
  EXPECT_TRUE(std::isnan(At("sum(norm)", 20'000)[""]));
  EXPECT_EQ(At("topk(1, norm)", 20'000),
            (Values{{"__name__=norm;param=a;", 4}}));
  EXPECT_EQ(At("bottomk(1, norm)", 20'000),
            (Values{{"__name__=norm;param=a;", 4}}));
  EXPECT_EQ(At("topk(2, norm)", 20'000).size(), 2u);
}

TEST_F(PromqlEvaluatorTest, ASpikeIsSeenOverATime) {
  EXPECT_EQ(At("max_over_time(norm{param='a'}[25s])", 35'000),
            (Values{{"param=a;", 4}}));
  EXPECT_EQ(At("max_over_time(norm{param='b'}[1m])", 35'000),
            (Values{{"param=b;", 3}}));
  EXPECT_EQ(At("min_over_time(norm{param='b'}[1m])", 35'000),
            (Values{{"param=b;", -5}}));
  EXPECT_EQ(At("count_over_time(norm[20s])", 30'000),
            (Values{{"param=a;", 3}, {"param=b;", 3}, {"param=c;", 1}}));
  EXPECT_EQ(At("avg_over_time(norm{param='a'}[10s])", 30'000),
            (Values{{"param=a;", 3}}));
  EXPECT_EQ(At("last_over_time(norm{param='a'}[10s])", 25'000),
            (Values{{"__name__=norm;param=a;", 4}}));
  EXPECT_TRUE(At("sum_over_time(norm[1s])", 24'000).empty());
}

TEST_F(PromqlEvaluatorTest, OverTimesEachColumnHasItsGaps) {
  const auto parsed = Parse("norm{param=~'a|c'}");
  GRADTAP_ASSERT_OK(parsed);
  const auto result = Evaluate(**parsed, {5'000, 30'000, 5'000}, &source_);
  GRADTAP_ASSERT_OK(result);
  ASSERT_EQ(result->columns.size(), 2u);
  EXPECT_EQ(result->columns[0].present,
            (std::vector<std::uint8_t>{0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(result->columns[0].values, (std::vector<double>{0, 1, 1, 4, 4, 2}));
  EXPECT_EQ(result->columns[1].present,
            (std::vector<std::uint8_t>{0, 0, 0, 0, 1, 1}));
}

TEST_F(PromqlEvaluatorTest, ARangeAloneHasItsSamples) {
  const auto parsed = Parse("norm[15s]");
  GRADTAP_ASSERT_OK(parsed);
  const auto result = Evaluate(**parsed, {30'000, 30'000, 1}, &source_);
  GRADTAP_ASSERT_OK(result);
  ASSERT_EQ(result->ranges.size(), 3u);
  EXPECT_EQ(result->ranges[0].samples.size(), 2u);
  EXPECT_EQ(Evaluate(**parsed, {0, 30'000, 1'000}, &source_).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PromqlEvaluatorTest, MoreThanItMayHoldIsRefused) {
  for (int i = 0; i < 1'200; ++i) {
    Add("many", std::to_string(i), {{10'000, 1}});
  }
  const auto parsed = Parse("sum(many)");
  GRADTAP_ASSERT_OK(parsed);
  GRADTAP_EXPECT_OK(Evaluate(**parsed, {10'000, 19'999, 1}, &source_));
  const auto result = Evaluate(**parsed, {10'000, 20'000, 1}, &source_);
  ASSERT_EQ(result.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("1200 series match at 10001 times"));
}

TEST_F(PromqlEvaluatorTest, WhatAQueryLooksAtIsBounded) {
  const auto code = [this](const std::string& query, std::size_t most_work) {
    const auto parsed = Parse(query);
    GRADTAP_EXPECT_OK(parsed);
    return Evaluate(**parsed, {10'000, 30'000, 10'000}, &source_, most_work)
        .status()
        .code();
  };
  constexpr auto kTooMuch = absl::StatusCode::kResourceExhausted;
  // 1 + 2 + 3 samples of each of two series, and one that is there once.
  EXPECT_EQ(code("max_over_time(norm[1d])", 13), absl::StatusCode::kOk);
  EXPECT_EQ(code("max_over_time(norm[1d])", 12), kTooMuch);
  // Three series at three times.
  constexpr std::size_t kOnce = 9 * kWorkOfValue;
  for (const char* query : {"norm + 1", "-norm", "abs(norm)", "sum(norm)"}) {
    EXPECT_EQ(code(query, kOnce), absl::StatusCode::kOk) << query;
    EXPECT_EQ(code(query, kOnce - 1), kTooMuch) << query;
  }
  EXPECT_EQ(code("-norm + 1 + 1", 3 * kOnce), absl::StatusCode::kOk);
  EXPECT_EQ(code("-norm + 1 + 1", 3 * kOnce - 1), kTooMuch);
}

TEST_F(PromqlEvaluatorTest, AsManyOperatorsAsAQueryHasAreComputed) {
  std::string query = "1";
  for (int i = 0; i < 1'000; ++i) query += "+1";
  EXPECT_EQ(At(query, 0), (Values{{"", 1'001}}));
}

TEST_F(PromqlEvaluatorTest, TwoSeriesOfTheSameLabelsAreAnError) {
  Add("other", "a", {{10'000, 1}});
  const auto parsed = Parse("{param='a'} + 1");
  GRADTAP_ASSERT_OK(parsed);
  const auto result = Evaluate(**parsed, {10'000, 10'000, 1}, &source_);
  ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("param=\"a\", run=\"r\""));
}

}  // namespace
}  // namespace gradtap::server::promql
