#include "core/histogram.h"

#include <algorithm>
#include <cmath>

namespace gradtap {

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

}  // namespace gradtap
