// What the writing and the reading half of a block's grammar (block.h) share.
//
// Layer: server/store/rollup. Pure functions and plain data.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_BLOCK_BITS_H_
#define GRADTAP_SERVER_STORE_ROLLUP_BLOCK_BITS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "server/store/rollup/block.h"

namespace gradtap::server::rollup {

// Of the first byte.
inline constexpr std::uint8_t kFormMask = 15;
inline constexpr std::uint8_t kShapeFlag = 16;
inline constexpr std::uint8_t kExceptionsFlag = 32;

// More than kMaxRollupEntries entries take.
inline constexpr std::size_t kMaxPackedBytes = std::size_t{1} << 22;

// Kinds of exceptions; some nonfinite and some absent together are both.
inline constexpr std::uint32_t kAllAbsent = 0;
inline constexpr std::uint32_t kSomeNonfinite = 1;
inline constexpr std::uint32_t kSomeAbsent = 2;

// Non-finite values by their number; the next one stands for all others.
inline constexpr std::array<std::uint32_t, 3> kUsualNonfinite = {
    0x7fc00000, 0x7f800000, 0xff800000};

inline bool IsShape(const RollupShape& shape) {
  if (shape.parameters == 0 || shape.steps == 0 || shape.run == 0 ||
      shape.run > kMaxRollupRun) {
    return false;
  }
  return std::uint64_t{shape.parameters} * shape.runs() <= kMaxRollupEntries;
}

// What the largest offset in a run takes.
inline unsigned OffsetBits(const RollupShape& shape) {
  return static_cast<unsigned>(
      std::bit_width(std::min(shape.run, shape.steps) - 1));
}

}  // namespace gradtap::server::rollup

#endif  // GRADTAP_SERVER_STORE_ROLLUP_BLOCK_BITS_H_
