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

  void HeatMap(const std::vector<double>& worst) {
    const std::size_t buckets = Buckets(data_, q_);
    Expect(worst.size() == buckets * data_.shape().parameters,
           "another number of buckets");
    for (std::size_t i = 0; i < worst.size(); ++i) {
      const std::size_t p = i / buckets;
      const Ends ends = EndsOfBucket(p, i % buckets);
      Same(worst[i], WorstOf(q_, ends.min, ends.max), p,
           static_cast<std::int64_t>(i % buckets) * q_.bucket_steps);
    }
  }

  void Cells(const std::vector<Extremes>& cells) {
    Expect(cells.size() == Buckets(data_, q_), "another number of buckets");
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const Ends ends = EndsOfBucket(q_.parameter, i);
      const auto from = static_cast<std::int64_t>(i) * q_.bucket_steps;
      Same(cells[i].min, ends.min, q_.parameter, from);
      Same(cells[i].max, ends.max, q_.parameter, from);
    }
  }

  void Points(const std::vector<Point>& points) {
    Expect(points.size() <= std::max<std::size_t>(6, 2 * Buckets(data_, q_)),
           "another number of points: " + std::to_string(points.size()));
    Ends seen;
    for (const Point& point : points) {
      Expect(point.parameter == q_.parameter, "another parameter");
      Expect(point.step >= 0 && point.step < data_.shape().steps,
             "another step");
      Same(point.value, SentAt(point.step, point.parameter), point.parameter,
           point.step);
      seen.min = std::min(seen.min, point.value);
      seen.max = std::max(seen.max, point.value);
    }
    const Ends ends = EndsOf(q_.parameter, 0, data_.shape().steps);
    Same(seen.min, ends.min, q_.parameter, -1);
    Same(seen.max, ends.max, q_.parameter, -1);
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
  Ends EndsOfBucket(std::size_t p, std::size_t bucket) const {
    const std::int64_t from =
        static_cast<std::int64_t>(bucket) * q_.bucket_steps;
    return EndsOf(p, from,
                  std::min(from + q_.bucket_steps, data_.shape().steps));
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
    // The smallest and largest of 0 and -0 may be either.
    if (got == sent && (q_.kind == Question::Kind::kSeries ||
                        q_.kind == Question::Kind::kHeatMap)) {
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
  } else if (question.kind == Question::Kind::kHeatMap) {
    checker.HeatMap(answer.values);
  } else if (answer.points.empty()) {
    checker.Cells(answer.cells);
  } else {
    checker.Points(answer.points);
  }
}

}  // namespace gradtap::bench
