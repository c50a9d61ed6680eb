#include "bench/peers/check.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace gradtap::bench {
namespace {

class Checker {
 public:
  Checker(const DataSet& data, const Question& question, const std::string& who,
          CheckCounts* counts)
      : data_(data), q_(question), who_(who), counts_(counts) {}

  void Values(const std::vector<double>& values) {
    const std::size_t n = data_.shape().parameters;
    const bool all = q_.kind == Question::Kind::kStep;
    Expect(values.size() == n * (all ? kFloats : 1),
           "another number of values");
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::size_t column = i / n;
      Same(values[i],
           data_.At(q_.step, all ? column / kFields : q_.role,
                    all ? column % kFields : q_.field, i % n),
           i % n, q_.step);
    }
  }

  void Cells(const std::vector<Extremes>& cells) {
    const std::size_t buckets = Buckets(data_, q_);
    const bool map = q_.kind == Question::Kind::kHeatMap;
    Expect(cells.size() == buckets * (map ? data_.shape().parameters : 1),
           "another number of buckets");
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::size_t p = map ? i / buckets : q_.parameter;
      const auto from =
          static_cast<std::int64_t>(i % buckets) * q_.bucket_steps;
      const Ends ends = EndsOf(
          p, from, std::min(from + q_.bucket_steps, data_.shape().steps));
      Same(cells[i].min, ends.min, p, from);
      Same(cells[i].max, ends.max, p, from);
    }
  }

  void Points(const std::vector<Point>& points) {
    const bool map = q_.kind == Question::Kind::kHeatMap;
    std::vector<Extremes> seen(data_.shape().parameters, {INFINITY, -INFINITY});
    std::vector<std::size_t> numbers(data_.shape().parameters);
    for (const Point& point : points) {
      Same(point.value, SentAt(point.step, point.parameter), point.parameter,
           point.step);
      Extremes& ends = seen.at(point.parameter);
      ends.min = std::min(ends.min, point.value);
      ends.max = std::max(ends.max, point.value);
      ++numbers[point.parameter];
    }
    const std::size_t first = map ? 0 : q_.parameter;
    const std::size_t last = map ? data_.shape().parameters : first + 1;
    for (std::size_t p = first; p < last; ++p) {
      Expect(numbers[p] > 0 &&
                 numbers[p] <= std::max<std::size_t>(6, 2 * Buckets(data_, q_)),
             "another number of points: " + std::to_string(numbers[p]));
      const Ends ends = EndsOf(p, 0, data_.shape().steps);
      Same(seen[p].min, ends.min, p, -1);
      Same(seen[p].max, ends.max, p, -1);
    }
  }

 private:
  struct Ends {
    double min = INFINITY;
    double max = -INFINITY;
  };
  double SentAt(std::int64_t step, std::size_t p) const {
    const auto at = [&](std::size_t field) {
      return static_cast<double>(data_.At(step, q_.role, field, p));
    };
    if (!q_.l2) return at(q_.field);
    return std::sqrt(kNumel * (at(0) * at(0) + at(1) * at(1)));
  }
  Ends EndsOf(std::size_t p, std::int64_t from, std::int64_t to) const {
    Ends ends;
    for (std::int64_t step = from; step < to; ++step) {
      const double value = SentAt(step, p);
      ends.min = std::min(ends.min, value);
      ends.max = std::max(ends.max, value);
    }
    return ends;
  }

  void Same(double got, double sent, std::size_t p, std::int64_t step) {
    ++counts_->values;
    if (std::bit_cast<std::uint32_t>(static_cast<float>(got)) ==
        std::bit_cast<std::uint32_t>(static_cast<float>(sent))) {
      return;
    }
    const double error = std::abs(got - sent) / std::abs(sent);
    if (!q_.l2) {  // Of which each rounds as it likes.
      ++counts_->inexact;
      counts_->largest_error = std::max(counts_->largest_error, error);
    }
    if (error <= 1e-6) return;
    std::ostringstream what;
    what.precision(9);
    what << "parameter " << p << ", step " << step << ": " << got
         << " in the place of " << sent;
    Expect(false, what.str());
  }

  void Expect(bool good, const std::string& what) const {
    if (good) return;
    static const char* const kKinds[] = {"series", "column", "step",
                                         "heat map"};
    throw std::runtime_error(who_ + " answers wrong (" + data_.shape().name +
                             ", " + kKinds[static_cast<int>(q_.kind)] + ", " +
                             kRoleNames[q_.role] + "." + kFieldNames[q_.field] +
                             "): " + what);
  }

  const DataSet& data_;
  const Question& q_;
  const std::string& who_;
  CheckCounts* const counts_;
};

}  // namespace

void Check(const DataSet& data, const Question& question, const Answer& answer,
           const std::string& who, CheckCounts* counts) {
  Checker checker(data, question, who, counts);
  if (question.kind == Question::Kind::kColumn ||
      question.kind == Question::Kind::kStep) {
    checker.Values(answer.values);
  } else if (answer.points.empty()) {
    checker.Cells(answer.cells);
  } else {
    checker.Points(answer.points);
  }
}

}  // namespace gradtap::bench
