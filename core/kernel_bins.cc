#include "core/kernel_bins.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/kernel_bins.cc"
#include "hwy/foreach_target.h"
// clang-format off: highway.h must come after foreach_target.h.
#include "core/kernel_bins-inl.h"
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace gradtap::kernel {
namespace HWY_NAMESPACE {

std::size_t CountFloat(const float* x, std::size_t n, BinCounts* bins) {
  return Count(Plain<float>{x}, n, bins);
}
std::size_t CountHalf(const Half* x, std::size_t n, BinCounts* bins) {
  return Count(Plain<Half>{x}, n, bins);
}
std::size_t CountBfloat16(const Bfloat16* x, std::size_t n, BinCounts* bins) {
  return Count(Plain<Bfloat16>{x}, n, bins);
}
std::size_t CountDifference(const float* x, const float* before, std::size_t n,
                            BinCounts* bins) {
  return Count(Difference<float>{{x}, {before}}, n, bins);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradtap::kernel {

HWY_EXPORT(CountFloat);
HWY_EXPORT(CountHalf);
HWY_EXPORT(CountBfloat16);
HWY_EXPORT(CountDifference);

std::size_t CountBins(const float* x, std::size_t n, BinCounts* bins) {
  return HWY_DYNAMIC_DISPATCH(CountFloat)(x, n, bins);
}
std::size_t CountBins(const Half* x, std::size_t n, BinCounts* bins) {
  return HWY_DYNAMIC_DISPATCH(CountHalf)(x, n, bins);
}
std::size_t CountBins(const Bfloat16* x, std::size_t n, BinCounts* bins) {
  return HWY_DYNAMIC_DISPATCH(CountBfloat16)(x, n, bins);
}
std::size_t CountBins(const float* x, const float* before, std::size_t n,
                      BinCounts* bins) {
  return HWY_DYNAMIC_DISPATCH(CountDifference)(x, before, n, bins);
}

}  // namespace gradtap::kernel
#endif  // HWY_ONCE
