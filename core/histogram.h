// Histograms of fixed layout: sign x binary exponent of float32.
//
// The layout is fixed so that histograms add: across chunks, ranks, steps and
// layers. Bin numbers are those of gradtap.v1.Histogram and never change:
//
//   0 zeros   1 NaN   2 +Inf   3 -Inf   4 positive, 5 negative subnormals
//   16 + e  positive, 272 + e  negative values with biased exponent e, 1..254
//
// A value's bin is that of the value itself, in double: beyond float32's range
// it counts in the outermost bin of its sign (exponent 254, or subnormal).
//
// Layer: core. Pure functions and plain data; any thread may call them.

#ifndef GRADTAP_CORE_HISTOGRAM_H_
#define GRADTAP_CORE_HISTOGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace gradtap {

inline constexpr std::uint32_t kBinZero = 0;
inline constexpr std::uint32_t kBinNan = 1;
inline constexpr std::uint32_t kBinPosInf = 2;
inline constexpr std::uint32_t kBinNegInf = 3;
inline constexpr std::uint32_t kBinPosSubnormal = 4;
inline constexpr std::uint32_t kBinNegSubnormal = 5;
inline constexpr std::uint32_t kBinPositive = 16;   // + biased exponent.
inline constexpr std::uint32_t kBinNegative = 272;  // + biased exponent.
inline constexpr std::size_t kBinCount = 527;       // Bin numbers are below.

// How many elements fell into each bin. 4 KiB: not for small stacks.
using BinCounts = std::array<std::uint64_t, kBinCount>;

// The bin of one value.
std::uint32_t BinOf(double value);

}  // namespace gradtap

#endif  // GRADTAP_CORE_HISTOGRAM_H_
