// Robust numbers of noisy step times.
//
// Layer: tests/bench. This file: std.

#ifndef GRADTAP_TESTS_BENCH_STEP_OVERHEAD_STATISTICS_H_
#define GRADTAP_TESTS_BENCH_STEP_OVERHEAD_STATISTICS_H_

#include <vector>

namespace gradtap::bench {

// Linear between neighbours; NaN without values. `q` in [0, 1].
double Quantile(std::vector<double> values, double q);
double Mean(const std::vector<double>& values);

struct Estimate {
  double value = 0;
  // 95 % confidence; infinite where there are too few values for one (below 6).
  double low = 0;
  double high = 0;
};

// Where a symmetric distribution lies, of which `values` are independent draws:
// the Hodges-Lehmann estimate (the median of the means of all pairs) with the
// interval of Wilcoxon's signed-rank test. A few wild values do not move it.
// NaN without values.
Estimate Center(const std::vector<double>& values);

}  // namespace gradtap::bench

#endif  // GRADTAP_TESTS_BENCH_STEP_OVERHEAD_STATISTICS_H_
