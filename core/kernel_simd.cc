#include "core/kernel_simd.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

// Vectors whose size only the machine knows cannot be members of a struct.
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernel_simd.cc"
#include "hwy/foreach_target.h"
// clang-format off: highway.h must come after foreach_target.h.
#include "core/kernel_simd-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace gradtap::kernel {
namespace HWY_NAMESPACE {

void ReduceFloat(const float* x, std::size_t n, Moments* out) {
  Run(x, n, out);
}
void ReduceDouble(const double* x, std::size_t n, Moments* out) {
  Run(x, n, out);
}
void ReduceHalf(const Half* x, std::size_t n, Moments* out) { Run(x, n, out); }
void ReduceBfloat16(const Bfloat16* x, std::size_t n, Moments* out) {
  Run(x, n, out);
}
void BothFloat(const float* x, float* previous, std::size_t n, Moments* weight,
               Moments* update) {
  RunBoth(x, previous, n, weight, update);
}
void BothDouble(const double* x, double* previous, std::size_t n,
                Moments* weight, Moments* update) {
  RunBoth(x, previous, n, weight, update);
}
void BothHalf(const Half* x, Half* previous, std::size_t n, Moments* weight,
              Moments* update) {
  RunBoth(x, previous, n, weight, update);
}
void BothBfloat16(const Bfloat16* x, Bfloat16* previous, std::size_t n,
                  Moments* weight, Moments* update) {
  RunBoth(x, previous, n, weight, update);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradtap::kernel {

HWY_EXPORT(ReduceFloat);
HWY_EXPORT(ReduceDouble);
HWY_EXPORT(ReduceHalf);
HWY_EXPORT(ReduceBfloat16);
HWY_EXPORT(BothFloat);
HWY_EXPORT(BothDouble);
HWY_EXPORT(BothHalf);
HWY_EXPORT(BothBfloat16);

void ReduceUnit(const float* x, std::size_t n, Moments* out) {
  HWY_DYNAMIC_DISPATCH(ReduceFloat)(x, n, out);
}
void ReduceUnit(const double* x, std::size_t n, Moments* out) {
  HWY_DYNAMIC_DISPATCH(ReduceDouble)(x, n, out);
}
void ReduceUnit(const Half* x, std::size_t n, Moments* out) {
  HWY_DYNAMIC_DISPATCH(ReduceHalf)(x, n, out);
}
void ReduceUnit(const Bfloat16* x, std::size_t n, Moments* out) {
  HWY_DYNAMIC_DISPATCH(ReduceBfloat16)(x, n, out);
}
void ReduceUnit(const float* x, float* previous, std::size_t n, Moments* weight,
                Moments* update) {
  HWY_DYNAMIC_DISPATCH(BothFloat)(x, previous, n, weight, update);
}
void ReduceUnit(const double* x, double* previous, std::size_t n,
                Moments* weight, Moments* update) {
  HWY_DYNAMIC_DISPATCH(BothDouble)(x, previous, n, weight, update);
}
void ReduceUnit(const Half* x, Half* previous, std::size_t n, Moments* weight,
                Moments* update) {
  HWY_DYNAMIC_DISPATCH(BothHalf)(x, previous, n, weight, update);
}
void ReduceUnit(const Bfloat16* x, Bfloat16* previous, std::size_t n,
                Moments* weight, Moments* update) {
  HWY_DYNAMIC_DISPATCH(BothBfloat16)(x, previous, n, weight, update);
}

}  // namespace gradtap::kernel
#endif  // HWY_ONCE
