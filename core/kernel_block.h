// The reduction of one block of elements that lie side by side.
//
// Layer: core.

#ifndef GRADTAP_CORE_KERNEL_BLOCK_H_
#define GRADTAP_CORE_KERNEL_BLOCK_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/record.h"

namespace gradtap::kernel {

// Elements of a full block: two passes over 4 KiB of float stay in the first
// cache. Results depend on it.
inline constexpr std::size_t kBlock = 1024;

// Two passes: mean first, then squared deviations from it. `n` is in
// [1, kBlock]. Any values.
Moments ReduceBlock(const float* x, std::size_t n);
Moments ReduceBlock(const double* x, std::size_t n);

// Combines the moments of successive blocks pairwise, as a binary counter adds
// ones: rounding grows with the logarithm of their number.
class PairwiseMerger {
 public:
  void Add(const Moments& block);
  // All that was added. Leaves the merger as it is.
  Moments Total() const;

 private:
  std::uint64_t added_ = 0;
  std::array<Moments, 64>
      level_;  // level_[k] holds 2^k blocks if bit k is set.
};

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_BLOCK_H_
