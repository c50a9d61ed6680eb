#include "server/promql/functions.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

namespace gradtap::server::promql {
namespace {

// A sum that keeps what rounding takes away (Neumaier's).
class Sum {
 public:
  void Add(double x) {
    const double next = sum_ + x;
    if (std::isinf(next)) {
      lost_ = 0;
    } else if (std::fabs(sum_) >= std::fabs(x)) {
      lost_ += (sum_ - next) + x;
    } else {
      lost_ += (x - next) + sum_;
    }
    sum_ = next;
  }
  double value() const { return std::isinf(sum_) ? sum_ : sum_ + lost_; }

 private:
  double sum_ = 0;
  double lost_ = 0;
};

}  // namespace

bool IsComparison(std::string_view op) {
  return op == "==" || op == "!=" || op == "<" || op == ">" || op == "<=" ||
         op == ">=";
}

double Apply(std::string_view op, double x, double y) {
  if (op == "+") return x + y;
  if (op == "-") return x - y;
  if (op == "*") return x * y;
  if (op == "/") return x / y;
  if (op == "%") return std::fmod(x, y);
  if (op == "^") return std::pow(x, y);
  if (op == "==") return x == y ? 1 : 0;
  if (op == "!=") return x != y ? 1 : 0;
  if (op == "<") return x < y ? 1 : 0;
  if (op == ">") return x > y ? 1 : 0;
  if (op == "<=") return x <= y ? 1 : 0;
  return x >= y ? 1 : 0;
}

double ApplyFunction(std::string_view name, double x) {
  if (name == "abs") return std::fabs(x);
  if (name == "ceil") return std::ceil(x);
  if (name == "exp") return std::exp(x);
  if (name == "floor") return std::floor(x);
  if (name == "ln") return std::log(x);
  if (name == "log10") return std::log10(x);
  if (name == "log2") return std::log2(x);
  return std::sqrt(x);
}

double OverTime(std::string_view name, std::span<const Sample> samples) {
  if (name == "count_over_time") return static_cast<double>(samples.size());
  if (name == "last_over_time") return samples.back().value;
  if (name == "min_over_time" || name == "max_over_time") {
    const bool min = name == "min_over_time";
    double best = samples.front().value;
    for (const Sample& sample : samples) {
      const bool better = min ? sample.value < best : sample.value > best;
      if (better || std::isnan(best)) best = sample.value;
    }
    return best;
  }
  Sum sum;
  for (const Sample& sample : samples) sum.Add(sample.value);
  if (name == "sum_over_time") return sum.value();
  return sum.value() / static_cast<double>(samples.size());
}

double Quantile(double phi, std::vector<double>* values) {
  if (std::isnan(phi)) return phi;
  if (phi < 0) return -std::numeric_limits<double>::infinity();
  if (phi > 1) return std::numeric_limits<double>::infinity();
  std::sort(values->begin(), values->end(), [](double a, double b) {
    return std::isnan(a) ? !std::isnan(b) : a < b;
  });
  const double rank = phi * static_cast<double>(values->size() - 1);
  const auto lower = static_cast<std::size_t>(std::floor(rank));
  const std::size_t upper = std::min(lower + 1, values->size() - 1);
  const double weight = rank - std::floor(rank);
  return (*values)[lower] * (1 - weight) + (*values)[upper] * weight;
}

}  // namespace gradtap::server::promql
