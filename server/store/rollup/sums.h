// How a run is summed: in an order that every vector width can keep, so that
// machines agree on the mean.
//
// Layer: server/store/rollup. Pure functions and plain data.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_SUMS_H_
#define GRADTAP_SERVER_STORE_ROLLUP_SUMS_H_

#include <array>

#include "server/store/rollup/entry.h"

namespace gradtap::server::rollup {

// The value at offset i of a run goes to the sum i % 8.
struct EightSums {
  alignas(64) std::array<double, 8> sums{};

  double Total() const {
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) +
           ((sums[4] + sums[5]) + (sums[6] + sums[7]));
  }
};

// The mean of an entry whose other members are set and which has values; of one
// value throughout that value, -0 too. A sum errs by less than 2^-36 of its
// largest term, so that rounding leaves the mean between min and max.
inline float MeanOf(double sum, const RollupEntry& entry) {
  if (entry.min == entry.max) return entry.min;
  return static_cast<float>(sum / entry.finite);
}

}  // namespace gradtap::server::rollup

#endif  // GRADTAP_SERVER_STORE_ROLLUP_SUMS_H_
