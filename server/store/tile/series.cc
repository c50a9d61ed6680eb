#include "server/store/tile/series.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace gradtap::server::tile {

RunningSum::RunningSum(std::uint32_t start, std::int16_t aux) {
  const int exponent = static_cast<int>((start >> 23) & 0xff);
  if (exponent == 255) return;
  const double last_place = std::ldexp(1.0, std::max(exponent, 1) - 150);
  sum_ = std::bit_cast<float>(start) + last_place * aux / 256;
}

}  // namespace gradtap::server::tile
