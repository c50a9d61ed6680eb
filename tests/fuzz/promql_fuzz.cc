// PromQL and durations, as they come over HTTP (server/promql): parsed, and
// evaluated over a few samples.

#include <limits>

#include "fuzz/fuzz.h"
#include "server/promql/evaluator.h"
#include "server/promql/lexer.h"
#include "server/promql/parser.h"

namespace gradtap::fuzz {
namespace {

using server::promql::Sample;
using server::promql::SampledSeries;
using server::promql::Times;

// A few series, those of them that match.
class FewSamples final : public server::promql::SampleSource {
 public:
  absl::Status Select(const std::vector<server::promql::Matcher>& matchers,
                      const Times& times, std::int64_t before_ms, bool,
                      std::vector<SampledSeries>* series) override {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    Require(before_ms > 0 && before_ms <= times.begin_ms + kYears,
            "a range is some time");
    const std::vector<Sample> samples = {{1000, 1.5},
                                         {2000, server::promql::Stale()},
                                         {3000, -kInf},
                                         {4000, kInf - kInf}};
    for (const char* param : {"a", "b", "", "y"}) {
      const bool other = *param == 'y';
      server::promql::Labels labels = {{"__name__", other ? "y" : "x"},
                                       {"run", "r"}};
      if (*param != '\0') labels["param"] = other ? "a" : param;
      if (MatchesAll(matchers, labels)) series->push_back({labels, samples});
    }
    return absl::OkStatus();
  }

 private:
  // What a duration may be, and more.
  static constexpr std::int64_t kYears =
      std::numeric_limits<std::int64_t>::max() / 2;
};

// So little that an input can ask for more.
constexpr std::size_t kWork = 5'000;

void TryEvaluate(const server::promql::Expression& expression) {
  FewSamples source;
  for (const Times& times : {Times{3000, 3000, 1}, Times{0, 5000, 500}}) {
    const auto result =
        server::promql::Evaluate(expression, times, &source, kWork);
    Require(result.ok() ||
                result.status().code() == absl::StatusCode::kInvalidArgument ||
                result.status().code() == absl::StatusCode::kResourceExhausted,
            "a query that was read has an answer, or is too much");
    if (!result.ok()) continue;
    Require(result->type == expression.type, "an answer is of its type");
    for (const auto& column : result->columns) {
      Require(column.values.size() == times.size() &&
                  column.present.size() == times.size(),
              "a column has a place for each time");
    }
  }
}

}  // namespace

void Try(std::string_view input) {
  const auto check = [](const absl::Status& status) {
    Require(status.ok() ||
                status.code() == absl::StatusCode::kInvalidArgument ||
                status.code() == absl::StatusCode::kUnimplemented,
            "a query is good, no PromQL, or more than ours");
    Require(status.ok() || !status.message().empty(), "an error says what");
  };
  const auto parsed = server::promql::Parse(input);
  check(parsed.status());
  if (parsed.ok()) TryEvaluate(**parsed);
  check(server::promql::ParseMatchers(input).status());
  const auto duration = server::promql::ParseDuration(input);
  check(duration.status());
  Require(!duration.ok() || *duration >= 0, "a duration is no less than none");
}

std::vector<std::string> Seeds() {
  std::string sum = "x";
  for (int i = 0; i < 1'001; ++i) sum += "+1";
  std::string matchers = "x{a=\"b\"";
  for (int i = 0; i < 101; ++i) matchers += ",a=\"\"";
  return {
      sum,
      sum.substr(0, 199),
      matchers + "}",
      "{run=\"r\"} + 1",
      "avg(x{a=~\"(\"})",
      "1e999 + 1e-999",
      "gradtap_run_step{run=\"a\",rank=~\"0|1\"}",
      "sum by (run) (rate(gradtap_steps_total[5m])) / 2 ^ -3",
      "topk(3, max_over_time(grad_l2{param!=\"x\"}[1h])) > bool 1e-3",
      "quantile(0.9, -up) unless on(run) avg without (rank) (loss offset 5m)",
      "{__name__=~\"gradtap_.*\",run=\"\\u00e9\\\"\"}",
      "(((1 + 2) % 3 >= 0x1f) and inf) or NaN",
      "abs(ceil(exp(floor(ln(log10(log2(sqrt(x))))))))",
      "quantile without (param) (0.5, -x{param=~\"a|b\"}) * 2 != bool 1 % 3",
      "bottomk(1, x{run!=\"\",param!~`c.*`} / 2) by (run)",
      "avg_over_time(x[1h]) ^ 2 <= count by (run) (x) + 0.5e1 # why",
      "x{param='\\x61\\n'}[1y2w]",
      "1w",
      "last_over_time(x[1d2h3m4s5ms])"};
}

}  // namespace gradtap::fuzz
