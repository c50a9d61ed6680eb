#include "core/histogram.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap {
namespace {

constexpr std::uint32_t kExponents = 254;

std::uint64_t SaturatingSum(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t sum = a + b;
  return sum < a ? std::numeric_limits<std::uint64_t>::max() : sum;
}

}  // namespace

std::uint32_t BinOf(double value) {
  if (value == 0) return kBinZero;
  if (std::isnan(value)) return kBinNan;
  const bool negative = value < 0;
  if (std::isinf(value)) return negative ? kBinNegInf : kBinPosInf;
  const int biased = std::ilogb(value) + 127;
  if (biased < 1) return negative ? kBinNegSubnormal : kBinPosSubnormal;
  const auto exponent = static_cast<std::uint32_t>(std::min(biased, 254));
  return exponent + (negative ? kBinNegative : kBinPositive);
}

bool IsBin(std::uint32_t bin) {
  if (bin <= kBinNegSubnormal) return true;
  if (bin > kBinPositive && bin <= kBinPositive + kExponents) return true;
  return bin > kBinNegative && bin <= kBinNegative + kExponents;
}

void AddBins(const BinCounts& from, BinCounts* into) {
  for (std::size_t i = 0; i < kBinCount; ++i) {
    (*into)[i] = SaturatingSum((*into)[i], from[i]);
  }
}

void AddBins(std::span<const std::uint32_t> bin,
             std::span<const std::uint64_t> count, BinCounts* into) {
  for (std::size_t i = 0; i < bin.size(); ++i) {
    if (!IsBin(bin[i])) continue;
    (*into)[bin[i]] = SaturatingSum((*into)[bin[i]], count[i]);
  }
}

void ToSparse(const BinCounts& bins, std::vector<std::uint32_t>* bin,
              std::vector<std::uint64_t>* count) {
  bin->clear();
  count->clear();
  for (std::size_t i = 0; i < kBinCount; ++i) {
    if (bins[i] == 0) continue;
    bin->push_back(static_cast<std::uint32_t>(i));
    count->push_back(bins[i]);
  }
}

std::uint32_t FiniteBinAt(std::size_t order) {
  const auto at = static_cast<std::uint32_t>(order);
  if (at < kExponents) return kBinNegative + kExponents - at;
  if (at == kExponents) return kBinNegSubnormal;
  if (at == kExponents + 1) return kBinZero;
  if (at == kExponents + 2) return kBinPosSubnormal;
  return kBinPositive + at - (kExponents + 2);
}

BinRange RangeOf(std::uint32_t bin) {
  constexpr double kMax = std::numeric_limits<float>::max();
  constexpr double kMinNormal = std::numeric_limits<float>::min();
  const auto of_exponent = [](std::uint32_t biased) {
    const double lower = std::ldexp(1.0, static_cast<int>(biased) - 127);
    return BinRange{lower, biased == kExponents ? kMax : 2 * lower};
  };
  if (bin == kBinPosSubnormal) return {0, kMinNormal};
  if (bin == kBinNegSubnormal) return {-kMinNormal, 0};
  if (bin > kBinNegative) {
    const BinRange mirrored = of_exponent(bin - kBinNegative);
    return {-mirrored.upper, -mirrored.lower};
  }
  if (bin > kBinPositive) return of_exponent(bin - kBinPositive);
  return {0, 0};
}

std::uint64_t FiniteCount(const BinCounts& bins) {
  std::uint64_t count = 0;
  for (std::size_t order = 0; order < kFiniteBins; ++order) {
    count = SaturatingSum(count, bins[FiniteBinAt(order)]);
  }
  return count;
}

}  // namespace gradtap
