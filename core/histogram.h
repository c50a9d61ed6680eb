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
#include <span>
#include <vector>

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

// False for the numbers below kBinCount that stand for nothing.
bool IsBin(std::uint32_t bin);

// ---- Adding. A count that would exceed 64 bits stays at the largest. ----

void AddBins(const BinCounts& from, BinCounts* into);
// Sparse: `bin` and `count` are equally long; numbers that are no bin are
// passed over.
void AddBins(std::span<const std::uint32_t> bin,
             std::span<const std::uint64_t> count, BinCounts* into);

// Replaces `*bin` and `*count` by the bins that are not empty, ascending.
void ToSparse(const BinCounts& bins, std::vector<std::uint32_t>* bin,
              std::vector<std::uint64_t>* count);

// ---- The bins of finite values, in the order of those values. ----

inline constexpr std::size_t kFiniteBins = 511;
// 0: the most negative, 255: zeros, 510: the largest.
std::uint32_t FiniteBinAt(std::size_t order);

// Where the values of a finite bin lie once they are rounded to float32 as
// min and max of a record are (saturated): both ends belong to it.
struct BinRange {
  double lower = 0;
  double upper = 0;
};
BinRange RangeOf(std::uint32_t bin);

// Elements that are finite; saturates.
std::uint64_t FiniteCount(const BinCounts& bins);

}  // namespace gradtap

#endif  // GRADTAP_CORE_HISTOGRAM_H_
