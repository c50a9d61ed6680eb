// A statistic at one step, with what it hides.
//
// Layer: server/query. This file: std. Pure functions.

#ifndef GRADTAP_SERVER_QUERY_SAMPLE_H_
#define GRADTAP_SERVER_QUERY_SAMPLE_H_

#include <cmath>
#include <cstdint>
#include <limits>

namespace gradtap::server {

struct Sample {
  double value = std::numeric_limits<double>::quiet_NaN();
  bool absent = false;
  // NaN and infinite elements of the records that the statistic is made of.
  std::uint64_t nonfinite = 0;

  // Present, the value and all elements.
  bool IsFinite() const {
    return !absent && nonfinite == 0 && std::isfinite(value);
  }
};

// log2(|value| / |since|), of finite values: infinite from or to zero, 0 from
// zero to zero.
inline double Log2Ratio(double value, double since) {
  if (value == 0 && since == 0) return 0;
  return std::log2(std::fabs(value)) - std::log2(std::fabs(since));
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_SAMPLE_H_
