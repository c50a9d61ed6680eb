#include "bench/step_overhead_statistics.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

namespace gradtap::bench {

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] +
         (at - static_cast<double>(below)) * (values[above] - values[below]);
}

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) /
         static_cast<double>(values.size());
}

Estimate Center(const std::vector<double>& values) {
  std::vector<double> means;
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = i; j < values.size(); ++j) {
      means.push_back((values[i] + values[j]) / 2);
    }
  }
  std::sort(means.begin(), means.end());
  Estimate estimate;
  estimate.value = Quantile(means, 0.5);
  const auto n = static_cast<double>(values.size());
  // The signed-rank statistic is nearly normal; from 6 values on 95 % can be
  // had at all.
  const double rank = std::floor(
      n * (n + 1) / 4 - 1.96 * std::sqrt(n * (n + 1) * (2 * n + 1) / 24));
  if (n < 6) {
    estimate.low = -std::numeric_limits<double>::infinity();
    estimate.high = std::numeric_limits<double>::infinity();
  } else {
    const auto k = static_cast<std::size_t>(std::max(rank, 0.0));
    estimate.low = means[k];
    estimate.high = means[means.size() - 1 - k];
  }
  return estimate;
}

}  // namespace gradtap::bench
