// Reductions of elements that lie side by side, compiled for every instruction
// set that Highway knows; the best one of this machine runs.
//
// Layer: core. No allocation; any thread. Subnormals must not be flushed
// (kernel_control.h).

#ifndef GRADTAP_CORE_KERNEL_SIMD_H_
#define GRADTAP_CORE_KERNEL_SIMD_H_

#include <cstddef>

#include "core/kernel_convert.h"
#include "core/record.h"

namespace gradtap::kernel {

// Elements of a full unit: those of a weight and of its copy stay in the first
// cache as float. Results depend on it.
inline constexpr std::size_t kUnit = 4096;

// Writes to `*out`, a fresh value, the moments of `n` elements, in [1, kUnit].
// Any values. `x` is aligned as its type asks.
//
// Fast in lanes of float, or of double for double; where those cannot keep the
// bounds (something is not finite, squares overflow or vanish, deviations drown
// in the mean), the unit is done again in double, in two passes.
void ReduceUnit(const float* x, std::size_t n, Moments* out);
void ReduceUnit(const double* x, std::size_t n, Moments* out);
void ReduceUnit(const Half* x, std::size_t n, Moments* out);
void ReduceUnit(const Bfloat16* x, std::size_t n, Moments* out);

// Besides, the moments of x - previous, and copies `x` to `previous`. Lanes of
// float round each difference once, which is what its record would do; it
// counts as infinite only if it is so in double.
void ReduceUnit(const float* x, float* previous, std::size_t n, Moments* weight,
                Moments* update);
void ReduceUnit(const double* x, double* previous, std::size_t n,
                Moments* weight, Moments* update);
void ReduceUnit(const Half* x, Half* previous, std::size_t n, Moments* weight,
                Moments* update);
void ReduceUnit(const Bfloat16* x, Bfloat16* previous, std::size_t n,
                Moments* weight, Moments* update);

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_SIMD_H_
