// Histograms of elements that lie side by side, for every instruction set.
//
// Layer: core. No allocation; any thread. Subnormals must not be flushed
// (kernel_control.h).

#ifndef GRADTAP_CORE_KERNEL_BINS_H_
#define GRADTAP_CORE_KERNEL_BINS_H_

#include <bit>
#include <cstddef>
#include <cstdint>

#include "core/histogram.h"
#include "core/kernel_convert.h"

namespace gradtap::kernel {

// BinOf() without a call for what is neither zero nor out of the ordinary.
inline std::uint32_t QuickBin(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t exponent = (bits >> 23) & 0xff;
  if (exponent - 1 >= 254) return BinOf(value);
  return exponent + ((bits >> 31) != 0 ? kBinNegative : kBinPositive);
}
inline std::uint32_t QuickBin(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto exponent = static_cast<std::uint32_t>((bits >> 52) & 0x7ff) - 896;
  if (exponent - 1 >= 254) return BinOf(value);
  return exponent + ((bits >> 63) != 0 ? kBinNegative : kBinPositive);
}

// Adds the bins of `n` elements, at most 2^16, to `*bins`: each BinOf() its
// value. Returns how many were counted one by one, which takes some ten times
// as long: all where the instruction set has no shift by lane, or where they do
// not lie within 32 powers of two; else less than a group of vectors.
std::size_t CountBins(const float* x, std::size_t n, BinCounts* bins);
std::size_t CountBins(const Half* x, std::size_t n, BinCounts* bins);
std::size_t CountBins(const Bfloat16* x, std::size_t n, BinCounts* bins);

// The same of x - before, each difference taken in double.
std::size_t CountBins(const float* x, const float* before, std::size_t n,
                      BinCounts* bins);

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_BINS_H_
