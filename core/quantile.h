// Quantiles from a histogram, each with the bounds between which the true one
// lies.
//
// The quantile pX of n finite elements in ascending order x1..xn is xk with
// k = ceil(X / 100 * n), at least 1: an element of the tensor, no mean of two
// (Hyndman and Fan, "Sample Quantiles in Statistical Packages", The American
// Statistician 50(4), 1996, definition 1). p0 is the least, p100 the largest.
//
// A histogram tells in which bin xk lies, and a record's min and max cut the
// outermost ones off. So `lower` <= xk <= `upper`, with xk rounded to float32
// as min and max are. `value` is where xk would be if the bin's elements were
// spread evenly over it; it has the sign of xk and is at most twice and at
// least half of it, subnormal ones apart (those are within 2^-126).
//
// Layer: core. Pure functions; any thread may call them.

#ifndef GRADTAP_CORE_QUANTILE_H_
#define GRADTAP_CORE_QUANTILE_H_

#include <cstdint>
#include <limits>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/histogram.h"

namespace gradtap {

// Which quantile, exactly: in millionths of a per cent. p99.9 is 99,900,000.
using MicroPercent = std::uint32_t;
inline constexpr MicroPercent kMaxMicroPercent = 100'000'000;

// Reads "p50", "p99.9", "p0", "p100": at most six decimals. kInvalidArgument
// says what is wrong with it.
absl::StatusOr<MicroPercent> ParseQuantile(std::string_view name);

struct Quantile {
  double value = std::numeric_limits<double>::quiet_NaN();
  double lower = std::numeric_limits<double>::quiet_NaN();
  double upper = std::numeric_limits<double>::quiet_NaN();
};

// `min` and `max` are the record's; NaN: not known. All three of the answer are
// NaN if no element is finite. If min or max contradicts the bins, the bins
// stand.
Quantile QuantileOf(const BinCounts& bins, MicroPercent which, double min,
                    double max);

}  // namespace gradtap

#endif  // GRADTAP_CORE_QUANTILE_H_
