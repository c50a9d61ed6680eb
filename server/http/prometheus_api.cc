#include "server/http/prometheus_api.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/json_text.h"
#include "core/names.h"
#include "server/http/prometheus_json.h"
#include "server/http/prometheus_time.h"
#include "server/http/query_wait.h"
#include "server/promql/evaluator.h"
#include "server/promql/parser.h"
#include "server/query/metric_names.h"
#include "server/query/metric_series.h"

namespace gradtap::server {
namespace {

constexpr char kJson[] = "application/json";
// As Prometheus has it.
constexpr std::size_t kMostTimes = 11'000;
// Values of one answer: times x series.
constexpr std::size_t kMostValues = 4'000'000;
// Each is parsed, and looked for.
constexpr std::ptrdiff_t kMostSelectors = 10;
constexpr std::array<const char*, 5> kLabelNames = {"__name__", "name", "param",
                                                    "rank", "run"};

std::string Shown(const std::string& text) {
  return EscapeForTerminal(text.substr(0, 200));
}

HttpAnswer ErrorAnswer(const absl::Status& status) {
  HttpAnswer answer;
  answer.content_type = kJson;
  const char* type = "internal";
  answer.status = 500;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
      type = "bad_data";
      answer.status = 400;
      break;
    case absl::StatusCode::kNotFound:
      type = "not_found";
      answer.status = 404;
      break;
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
      type = "execution";
      answer.status = 422;
      break;
    case absl::StatusCode::kCancelled:
      type = "canceled";
      answer.status = 503;
      break;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      type = "unavailable";
      answer.status = 503;
      answer.retry_after_s = 1;
      break;
    default:
      break;
  }
  answer.body = absl::StrCat(
      "{\"status\":\"error\",\"errorType\":\"", type, "\",\"error\":",
      JsonString(EscapeForTerminal(std::string(status.message()))), "}");
  return answer;
}

// One question.
class Question {
 public:
  Question(const PrometheusCall& call, const QueryEnvironment& environment,
           const Cancelled& cancelled)
      : call_(call),
        now_ms_(environment.clock->UnixNanos() / 1'000'000),
        series_(environment, cancelled) {}

  absl::StatusOr<std::string> Answer() {
    absl::string_view path = call_.path;
    if (path == "query") return Instant();
    if (path == "query_range") return Range();
    if (path == "series") return Series();
    if (path == "labels") return LabelNames();
    if (absl::ConsumePrefix(&path, "label/") &&
        absl::ConsumeSuffix(&path, "/values")) {
      return LabelValues(std::string(path));
    }
    if (call_.path == "metadata") return Metadata();
    if (call_.path == "status/buildinfo") {
      // Of the API that it speaks: Grafana asks before it uses label matchers.
      return std::string(
          "{\"version\":\"2.42.0\",\"revision\":\"\",\"branch\":\"\","
          "\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\","
          "\"application\":\"gradtap\"}");
    }
    // Nothing of it is kept here; Grafana asks all the same.
    if (call_.path == "query_exemplars") return std::string("[]");
    if (call_.path == "rules") return std::string("{\"groups\":[]}");
    if (call_.path == "alerts") return std::string("{\"alerts\":[]}");
    return absl::NotFoundError(absl::StrCat(
        "nothing is at '", Shown(call_.path),
        "'; there are query, query_range, series, labels, label/NAME/values, "
        "metadata and status/buildinfo"));
  }

 private:
  std::string Parameter(const std::string& name) const {
    const auto it = call_.parameters.find(name);
    return it == call_.parameters.end() ? "" : it->second;
  }
  absl::StatusOr<std::int64_t> Time(const std::string& name,
                                    std::int64_t otherwise) const {
    const std::string text = Parameter(name);
    if (text.empty()) return otherwise;
    return ParsePrometheusTime(text);
  }
  absl::StatusOr<std::unique_ptr<promql::Expression>> Expression() const {
    const std::string text = Parameter("query");
    if (text.empty()) return absl::InvalidArgumentError("no query");
    return promql::Parse(text);
  }

  absl::StatusOr<std::string> Instant() {
    const auto expression = Expression();
    if (!expression.ok()) return expression.status();
    const auto time = Time("time", now_ms_);
    if (!time.ok()) return time.status();
    auto result = promql::Evaluate(**expression, {*time, *time, 1}, &series_);
    if (!result.ok()) return result.status();
    return InstantJson(*result, *time);
  }

  absl::StatusOr<promql::Times> RangeTimes() const {
    for (const char* name : {"start", "end", "step"}) {
      if (Parameter(name).empty()) {
        return absl::InvalidArgumentError(absl::StrCat("no ", name));
      }
    }
    const auto begin = Time("start", 0);
    if (!begin.ok()) return begin.status();
    const auto end = Time("end", 0);
    if (!end.ok()) return end.status();
    const auto step = ParsePrometheusStep(Parameter("step"));
    if (!step.ok()) return step.status();
    if (*end < *begin) {
      return absl::InvalidArgumentError("end is before start");
    }
    const promql::Times times{*begin, *end, *step};
    if (times.size() > kMostTimes) {
      return absl::InvalidArgumentError(absl::StrCat(
          "from start to end there are ", times.size(), " steps; at most ",
          kMostTimes, " are answered: a larger step"));
    }
    return times;
  }

  absl::StatusOr<std::string> Range() {
    const auto expression = Expression();
    if (!expression.ok()) return expression.status();
    const auto times = RangeTimes();
    if (!times.ok()) return times.status();
    auto result = promql::Evaluate(**expression, *times, &series_);
    if (!result.ok()) return result.status();
    if (result->columns.size() * times->size() > kMostValues) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the answer has ", result->columns.size(), " series of ",
          times->size(), " values; at most ", kMostValues,
          " values are answered: topk(), a matcher or a larger step"));
    }
    return RangeJson(*result, *times);
  }

  // Of match[]; one selector that passes everything if there is none.
  absl::StatusOr<std::vector<std::vector<promql::Matcher>>> Selectors() const {
    std::vector<std::vector<promql::Matcher>> selectors;
    const auto [begin, end] = call_.parameters.equal_range("match[]");
    if (std::distance(begin, end) > kMostSelectors) {
      return absl::InvalidArgumentError(
          absl::StrCat("there are ", std::distance(begin, end),
                       " match[]; at most ", kMostSelectors, " are answered"));
    }
    for (auto it = begin; it != end; ++it) {
      auto matchers = promql::ParseMatchers(it->second);
      if (!matchers.ok()) return matchers.status();
      selectors.push_back(*std::move(matchers));
    }
    if (selectors.empty()) selectors.emplace_back();
    return selectors;
  }

  absl::StatusOr<TimeSpan> Span() const {
    const auto begin = Time("start", 0);
    if (!begin.ok()) return begin.status();
    const auto end = Time("end", now_ms_);
    if (!end.ok()) return end.status();
    return TimeSpan{*begin, *end};
  }

  absl::StatusOr<std::string> Series() {
    const auto selectors = Selectors();
    if (!selectors.ok()) return selectors.status();
    if (call_.parameters.count("match[]") == 0) {
      return absl::InvalidArgumentError("no match[]");
    }
    const auto span = Span();
    if (!span.ok()) return span.status();
    std::set<promql::Labels> all;
    for (const auto& matchers : *selectors) {
      const absl::Status status = series_.Series(matchers, *span, &all);
      if (!status.ok()) return status;
    }
    std::string json = "[";
    for (const promql::Labels& labels : all) {
      absl::StrAppend(&json, json.size() > 1 ? "," : "", LabelsJson(labels));
    }
    return json + "]";
  }

  absl::StatusOr<std::string> LabelValues(const std::string& label) {
    const auto selectors = Selectors();
    if (!selectors.ok()) return selectors.status();
    std::set<std::string> values;
    const absl::Status status = AddValues(label, *selectors, &values);
    if (!status.ok()) return status;
    return ListJson(values);
  }

  absl::Status AddValues(
      const std::string& label,
      const std::vector<std::vector<promql::Matcher>>& selectors,
      std::set<std::string>* values) {
    const auto span = Span();
    if (!span.ok()) return span.status();
    for (const auto& matchers : selectors) {
      const absl::Status status =
          series_.LabelValues(matchers, *span, label, values);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> LabelNames() {
    const auto selectors = Selectors();
    if (!selectors.ok()) return selectors.status();
    std::set<std::string> names;
    for (const char* name : kLabelNames) {
      std::set<std::string> values;
      const absl::Status status = AddValues(name, *selectors, &values);
      if (!status.ok()) return status;
      if (!values.empty()) names.insert(name);
    }
    return ListJson(names);
  }

  absl::StatusOr<std::string> Metadata() const {
    const std::string wanted = Parameter("metric");
    std::string json = "{";
    const auto add = [&](const std::string& metric, const std::string& help) {
      if (!wanted.empty() && wanted != metric) return;
      absl::StrAppend(&json, json.size() > 1 ? "," : "", JsonString(metric),
                      ":[{\"type\":\"gauge\",\"help\":", JsonString(help),
                      ",\"unit\":\"\"}]");
    };
    add(kScalarMetric, "A number that the loop or the agent recorded.");
    add(kStepMetric, "The number of the step.");
    for (const NamedStatistic& one : NamedStatistics()) {
      add(one.metric, absl::StrCat("The statistic ", one.statistic.name,
                                   " of a parameter at a step."));
    }
    return json + "}";
  }

  const PrometheusCall& call_;
  const std::int64_t now_ms_;
  MetricSeries series_;
};

}  // namespace

HttpAnswer PrometheusApi::Serve(const PrometheusCall& call) const {
  HttpAnswer answer;
  answer.content_type = kJson;
  const absl::Status status = backend_->Run(
      "Prometheus", call.client, LookForClient(call.gone),
      [&](const Cancelled& cancelled) {
        auto data = Question(call, backend_->environment(), cancelled).Answer();
        if (!data.ok()) return data.status();
        answer.body = SuccessJson(*data);
        return absl::OkStatus();
      });
  return status.ok() ? answer : ErrorAnswer(status);
}

}  // namespace gradtap::server
