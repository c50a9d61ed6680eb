// From the sums of a unit to its moments, and whether the sums are good enough.
//
// Layer: core. Behind kernel_simd.cc.

#ifndef GRADTAP_CORE_KERNEL_SIMD_FINISH_H_
#define GRADTAP_CORE_KERNEL_SIMD_FINISH_H_

#include <cstddef>

#include "core/record.h"

namespace gradtap::kernel {

// Sums over a unit, with d = x - shift. Not finite if an element is not, or if
// they overflowed.
struct ShiftedSums {
  double shift;
  double sum;      // Of d.
  double squares;  // Of d * d.
  double abs_sum;  // Of |x|.
  double min;
  double max;
  std::size_t zero;
};

// True: `*out` holds the moments of the `n` elements, within the bounds. False:
// these sums, which were taken in lanes of T, cannot tell. T: float or double.
template <typename T>
bool FinishShifted(const ShiftedSums& sums, std::size_t n, Moments* out);

// Sums over the finite elements x of a block, times a scale.
struct FiniteSums {
  double sum = 0;
  double abs_sum = 0;
  double min = 0;  // Not scaled. Infinite if nothing is finite.
  double max = 0;
  std::size_t finite = 0;
  std::size_t zero = 0;
  std::size_t pos_inf = 0;
  std::size_t neg_inf = 0;
};

// The scale with which neither sums nor squares overflow, from unscaled sums.
double ScaleOf(const FiniteSums& sums);
// The scaled mean.
double MeanOf(const FiniteSums& sums);
// All but m2, of `n` elements.
Moments FinishFirst(const FiniteSums& sums, std::size_t n, double scale);
// m2, from scaled squares of deviations.
void FinishSecond(double squares, double scale, Moments* moments);

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_SIMD_FINISH_H_
