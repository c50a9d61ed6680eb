#include "server/promql/evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/promql/aggregate.h"
#include "server/promql/functions.h"

namespace gradtap::server::promql {
namespace {

class Evaluation {
 public:
  Evaluation(const Times& times, SampleSource* source, std::size_t most_work)
      : times_(times),
        size_(times.size()),
        source_(source),
        most_work_(most_work) {}

  // A scalar's or vector's columns.
  absl::StatusOr<std::vector<Column>> Of(const Expression& of) {
    switch (of.kind) {
      case Expression::Kind::kNumber:
        return std::vector<Column>{Constant(of.number)};
      case Expression::Kind::kSelector:
        return Newest(of.selector);
      case Expression::Kind::kCall:
        return Call(of);
      case Expression::Kind::kAggregate:
        return Aggregated(of);
      case Expression::Kind::kBinary:
        return Binary(of);
      case Expression::Kind::kNegate:
        break;
    }
    auto columns = Operand(*of.right);
    if (!columns.ok()) return columns;
    for (Column& column : *columns) {
      for (double& value : column.values) value = -value;
      column.labels.erase(kMetricName);
    }
    return columns;
  }

  absl::StatusOr<std::vector<SampledSeries>> Samples(const Selector& selector,
                                                     std::int64_t before_ms,
                                                     bool newest_only) {
    std::vector<SampledSeries> series;
    const absl::Status status = source_->Select(
        selector.matchers, times_, before_ms, newest_only, &series);
    if (!status.ok()) return status;
    if (series.size() * size_ > kMostCells) {
      return absl::ResourceExhaustedError(absl::StrCat(
          series.size(), " series match at ", size_, " times; at most ",
          kMostCells, " values are held: a matcher, or a larger step"));
    }
    if (!newest_only) {
      for (SampledSeries& one : series) {
        std::erase_if(one.samples, [](const Sample& sample) {
          return IsStale(sample.value);
        });
      }
      std::erase_if(
          series, [](const SampledSeries& one) { return one.samples.empty(); });
    }
    std::sort(series.begin(), series.end(),
              [](const SampledSeries& a, const SampledSeries& b) {
                return a.labels < b.labels;
              });
    return series;
  }

 private:
  absl::Status Work(std::size_t work) {
    work_ += work;
    if (work_ <= most_work_) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "the query looks at too many values: a shorter range in [], a larger "
        "step, or fewer operators");
  }

  // Each value of `columns` is looked at.
  absl::Status WorkOn(const std::vector<Column>& columns) {
    return Work(columns.size() * size_ * kWorkOfValue);
  }

  // Of(), for who looks at each value of it.
  absl::StatusOr<std::vector<Column>> Operand(const Expression& of) {
    auto columns = Of(of);
    if (!columns.ok()) return columns;
    const absl::Status s = WorkOn(*columns);
    if (!s.ok()) return s;
    return columns;
  }

  Column Empty(Labels labels) const {
    return {std::move(labels), std::vector<double>(size_),
            std::vector<std::uint8_t>(size_)};
  }
  Column Constant(double value) const {
    return {{},
            std::vector<double>(size_, value),
            std::vector<std::uint8_t>(size_, 1)};
  }

  // Calls `at` with the samples of [time - before_ms, time] at each of the
  // times where there are some, until it returns an error.
  template <typename At>
  absl::Status ForEachTime(const SampledSeries& series, std::int64_t before_ms,
                           const At& at) const {
    const std::vector<Sample>& samples = series.samples;
    std::size_t begin = 0;
    std::size_t end = 0;
    for (std::size_t t = 0; t < size_; ++t) {
      const std::int64_t time = times_.at(t);
      while (end < samples.size() && samples[end].time_ms <= time) ++end;
      while (begin < end && samples[begin].time_ms < time - before_ms) ++begin;
      if (begin == end) continue;
      const absl::Status status =
          at(t, std::span(samples).subspan(begin, end - begin));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Column>> Newest(const Selector& selector) {
    auto series = Samples(selector, kLookbackMs, /*newest_only=*/true);
    if (!series.ok()) return series.status();
    std::vector<Column> columns;
    for (SampledSeries& one : *series) {
      Column column = Empty(std::move(one.labels));
      const absl::Status status = ForEachTime(
          one, kLookbackMs,
          [&column](std::size_t t, std::span<const Sample> samples) {
            column.values[t] = samples.back().value;
            column.present[t] = IsStale(column.values[t]) ? 0 : 1;
            return absl::OkStatus();
          });
      if (!status.ok()) return status;
      columns.push_back(std::move(column));
    }
    return columns;
  }

  absl::StatusOr<std::vector<Column>> Call(const Expression& call) {
    if (call.left->type == Type::kVector) {
      auto columns = Operand(*call.left);
      if (!columns.ok()) return columns;
      for (Column& column : *columns) {
        column.labels.erase(kMetricName);
        for (double& value : column.values) {
          value = ApplyFunction(call.name, value);
        }
      }
      return columns;
    }
    const std::int64_t range = call.left->selector.range_ms;
    auto series = Samples(call.left->selector, range, /*newest_only=*/false);
    if (!series.ok()) return series.status();
    std::vector<Column> columns;
    for (SampledSeries& one : *series) {
      Column column = Empty(std::move(one.labels));
      if (call.name != "last_over_time") column.labels.erase(kMetricName);
      const absl::Status status = ForEachTime(
          one, range, [&](std::size_t t, std::span<const Sample> samples) {
            column.present[t] = 1;
            column.values[t] = OverTime(call.name, samples);
            return Work(samples.size());
          });
      if (!status.ok()) return status;
      columns.push_back(std::move(column));
    }
    return columns;
  }

  absl::StatusOr<std::vector<Column>> Aggregated(const Expression& of) {
    std::vector<double> numbers;
    if (of.left != nullptr) {
      auto number = Of(*of.left);
      if (!number.ok()) return number;
      numbers = std::move(number->front().values);
    }
    auto columns = Operand(*of.right);
    if (!columns.ok()) return columns;
    return Aggregate(of, numbers, *std::move(columns), size_);
  }

  absl::StatusOr<std::vector<Column>> Binary(const Expression& of) {
    auto left = Of(*of.left);
    if (!left.ok()) return left;
    auto right = Of(*of.right);
    if (!right.ok()) return right;
    const bool vector_left = of.left->type == Type::kVector;
    // Of two scalars the left one stands for the vector.
    const bool swap = !vector_left && of.right->type == Type::kVector;
    std::vector<Column>& vector = swap ? *right : *left;
    const std::vector<double>& scalar =
        swap ? left->front().values : right->front().values;
    const absl::Status s = WorkOn(vector);
    if (!s.ok()) return s;
    const bool filters = IsComparison(of.name) && !of.returns_bool;
    for (Column& column : vector) {
      if (!filters) column.labels.erase(kMetricName);
      for (std::size_t t = 0; t < size_; ++t) {
        const double x = swap ? scalar[t] : column.values[t];
        const double y = swap ? column.values[t] : scalar[t];
        const double value = Apply(of.name, x, y);
        if (!filters) {
          column.values[t] = value;
        } else if (value == 0) {
          column.present[t] = 0;
        }
      }
    }
    return std::move(vector);
  }

  const Times& times_;
  const std::size_t size_;
  SampleSource* const source_;
  const std::size_t most_work_;
  std::size_t work_ = 0;  // So far.
};

absl::Status CheckDistinct(const std::vector<Column>& columns) {
  std::set<Labels> seen;
  for (const Column& column : columns) {
    if (seen.insert(column.labels).second) continue;
    std::string text;
    for (const auto& [name, value] : column.labels) {
      absl::StrAppend(&text, text.empty() ? "" : ", ", name, "=\"",
                      EscapeForTerminal(value), "\"");
    }
    return absl::InvalidArgumentError(
        absl::StrCat("several series of the result have the labels {", text,
                     "}: ask for one metric, or aggregate"));
  }
  return absl::OkStatus();
}

// The best first, as tables show them.
void OrderBest(const Expression& expression, std::vector<Column>* columns) {
  const bool largest = expression.name == "topk";
  if (expression.kind != Expression::Kind::kAggregate ||
      (!largest && expression.name != "bottomk")) {
    return;
  }
  std::stable_sort(columns->begin(), columns->end(),
                   [largest](const Column& a, const Column& b) {
                     const double x = a.values.front();
                     const double y = b.values.front();
                     if (std::isnan(x) || std::isnan(y)) {
                       return !std::isnan(x) && std::isnan(y);
                     }
                     return largest ? x > y : x < y;
                   });
}

}  // namespace

absl::StatusOr<Result> Evaluate(const Expression& expression,
                                const Times& times, SampleSource* source,
                                std::size_t most_work) {
  Evaluation evaluation(times, source, most_work);
  Result result;
  result.type = expression.type;
  if (expression.type == Type::kMatrix) {
    if (times.size() != 1) {
      return absl::InvalidArgumentError(
          "a range such as metric[5m] has a value at one time alone: use a "
          "function such as max_over_time");
    }
    auto ranges = evaluation.Samples(expression.selector,
                                     expression.selector.range_ms, false);
    if (!ranges.ok()) return ranges.status();
    result.ranges = *std::move(ranges);
    return result;
  }
  auto columns = evaluation.Of(expression);
  if (!columns.ok()) return columns.status();
  result.columns = *std::move(columns);
  std::erase_if(result.columns, [](const Column& column) {
    return std::find(column.present.begin(), column.present.end(), 1) ==
           column.present.end();
  });
  if (expression.type == Type::kVector) {
    const absl::Status status = CheckDistinct(result.columns);
    if (!status.ok()) return status;
  }
  if (times.size() == 1) OrderBest(expression, &result.columns);
  return result;
}

}  // namespace gradtap::server::promql
