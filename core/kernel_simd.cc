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

Moments ReduceFloat(const float* x, std::size_t n) {
  return Run(Plain<float>{x}, n);
}
Moments ReduceDouble(const double* x, std::size_t n) {
  return Run(Plain<double>{x}, n);
}
Moments ReduceHalf(const Half* x, std::size_t n) {
  return Run(Plain<Half>{x}, n);
}
Moments ReduceBfloat16(const Bfloat16* x, std::size_t n) {
  return Run(Plain<Bfloat16>{x}, n);
}
Moments DifferenceFloat(const float* x, const float* b, std::size_t n) {
  return Run(Difference<float>{{x}, {b}}, n);
}
Moments DifferenceDouble(const double* x, const double* b, std::size_t n) {
  return Run(Difference<double>{{x}, {b}}, n);
}
Moments DifferenceHalf(const Half* x, const Half* b, std::size_t n) {
  return Run(Difference<Half>{{x}, {b}}, n);
}
Moments DifferenceBfloat16(const Bfloat16* x, const Bfloat16* b,
                           std::size_t n) {
  return Run(Difference<Bfloat16>{{x}, {b}}, n);
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
HWY_EXPORT(DifferenceFloat);
HWY_EXPORT(DifferenceDouble);
HWY_EXPORT(DifferenceHalf);
HWY_EXPORT(DifferenceBfloat16);

Moments ReduceUnit(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(ReduceFloat)(x, n);
}
Moments ReduceUnit(const double* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(ReduceDouble)(x, n);
}
Moments ReduceUnit(const Half* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(ReduceHalf)(x, n);
}
Moments ReduceUnit(const Bfloat16* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(ReduceBfloat16)(x, n);
}
Moments ReduceDifference(const float* x, const float* before, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(DifferenceFloat)(x, before, n);
}
Moments ReduceDifference(const double* x, const double* before, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(DifferenceDouble)(x, before, n);
}
Moments ReduceDifference(const Half* x, const Half* before, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(DifferenceHalf)(x, before, n);
}
Moments ReduceDifference(const Bfloat16* x, const Bfloat16* before,
                         std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(DifferenceBfloat16)(x, before, n);
}

}  // namespace gradtap::kernel
#endif  // HWY_ONCE
