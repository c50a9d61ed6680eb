// What is said of one series of a tile: how its values are predicted, and how
// what is left is written. Encoder and decoder share the arithmetic, which is
// integers modulo 2^32, exact conversions, and sums of doubles in a fixed
// order: the same on every machine.
//
// Layer: server/store/tile. Pure functions and plain data.

#ifndef GRADTAP_SERVER_STORE_TILE_SERIES_H_
#define GRADTAP_SERVER_STORE_TILE_SERIES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "server/store/tile/bits.h"
#include "server/store/tile/tile.h"

namespace gradtap::server::tile {

// Values are for good.
enum class Kind : std::uint8_t {
  kConstant = 0,    // Every value is `start`.
  kVerbatim = 1,    // 32 bits each.
  kOrdered = 2,     // The ordered integer, by a filter.
  kScaled = 3,      // The same, less a share of `scale`.
  kGrid = 4,        // Fixed point, by a filter; a mark says how much is finer.
  kFixed = 5,       // Fixed point, by a filter; finer bits follow.
  kAdded = 6,       // The ordered integer, less the sum of `increment`.
  kSubtracted = 7,  // Less the negative sum.
  kTwin = 8,        // |twin|, always.
};
inline constexpr int kKinds = 9;

// A kind that has symbols.
inline bool IsCoded(Kind kind) {
  return kind >= Kind::kOrdered && kind <= Kind::kSubtracted;
}

// The kNeeds* bit of the reference that a kind leans on.
inline std::uint8_t NeedOf(Kind kind) {
  switch (kind) {
    case Kind::kScaled:
      return kNeedsScale;
    case Kind::kAdded:
    case Kind::kSubtracted:
      return kNeedsIncrement;
    case Kind::kTwin:
      return kNeedsTwin;
    default:
      return 0;
  }
}

inline bool IsFixedPoint(Kind kind) {
  return kind == Kind::kGrid || kind == Kind::kFixed;
}

struct SeriesPlan {
  Kind kind = Kind::kConstant;
  std::uint8_t filter = 0;  // Index into kFilters.
  std::uint8_t shift = 0;   // Low bits of the residual that are not modelled.
  bool extra = false;       // Has escapes or finer bits.
  std::int16_t aux = 0;     // kScaled: 32 times the share of `scale`; sums:
                            // 256 times the start's offset in last places;
                            // fixed point: the exponent of the unit.
  std::uint32_t start = 0;  // The first value's bits.
};

inline constexpr unsigned kMaxShift = 24;
inline constexpr std::uint8_t kEscape = 255;
// What a grid's symbol has above its mark is at most that, or it is escaped.
inline constexpr std::uint32_t kMaxMarkedSymbol = 62;

// How many of the bits below a grid's unit follow, the highest ones; the others
// are zero. The lowest two bits of a symbol.
enum Mark : std::uint32_t { kAll = 0, kNone = 1, kTwo = 2, kFour = 3 };
inline constexpr unsigned kMarkBits = 2;
inline std::uint32_t BitsAtMost(std::uint32_t mark) {
  return mark == kAll ? 32 : 2 * (mark - 1);
}

// Exponential smoothing with a damped trend, in sixteenths. Existing entries
// never change.
struct Filter {
  std::int8_t level;  // Of the residual, added to the level.
  std::int8_t trend;  // Of the residual, added to the trend.
  std::int8_t damping;
  bool from_zero;  // Starts at zero, not at the first value.
};
inline constexpr std::array<Filter, 9> kFilters = {{
    {16, 0, 0, false},   // The value before.
    {16, 16, 0, false},  // The line through the two before.
    {12, 8, 2, false},
    {16, 4, 2, false},
    {12, 0, 0, false},
    {2, 0, 0, false},
    {1, 0, 0, false},
    {0, 0, 0, true},  // Zero.
    {4, 0, 0, true},
}};

// Whether a residual is so large that it tells nothing of the next.
inline bool IsFar(std::uint32_t zigzag, unsigned shift) {
  return zigzag >> shift >= 16 * 256;
}

// floor(value * share / 16) of a signed value.
inline std::uint32_t Sixteenths(std::uint32_t value, std::int8_t share) {
  const auto number = static_cast<std::int32_t>(value);
  switch (share) {  // The same, sooner.
    case 0:
      return 0;
    case 2:
      return static_cast<std::uint32_t>(number >> 3);
    case 4:
      return static_cast<std::uint32_t>(number >> 2);
    case 8:
      return static_cast<std::uint32_t>(number >> 1);
    case 16:
      return value;
    default:
      break;
  }
  const std::int64_t wide = number;
  return static_cast<std::uint32_t>((wide * share) >> 4);
}

class Predictor {
 public:
  Predictor(const Filter& filter, std::uint32_t start)
      : filter_(&filter), level_(filter.from_zero ? 0 : start) {}

  std::uint32_t Predict() const { return level_ + trend_; }
  void Update(std::uint32_t residual) { UpdateAs(*filter_, residual); }
  // The same of a filter known to the compiler.
  template <std::size_t kFilter>
  void UpdateBy(std::uint32_t residual) {
    UpdateAs(kFilters[kFilter], residual);
  }
  // After a value that was escaped: if it is far off, the series goes on from
  // there.
  void UpdateFar(std::uint32_t residual, unsigned shift) {
    if (IsFar(ZigZag(residual), shift)) {
      level_ += trend_ + residual;
      trend_ = 0;
    } else {
      Update(residual);
    }
  }

 private:
  void UpdateAs(const Filter& filter, std::uint32_t residual) {
    level_ += trend_ + Sixteenths(residual, filter.level);
    trend_ +=
        Sixteenths(residual, filter.trend) - Sixteenths(trend_, filter.damping);
  }

  const Filter* filter_;
  std::uint32_t level_;
  std::uint32_t trend_ = 0;
};

// The part of an ordered integer that `scale` accounts for: the lower half of
// floor(ordered * aux / 32).
inline std::uint32_t ScaleTerm(std::uint32_t scale_bits, std::int16_t aux) {
  const std::uint32_t ordered = ToOrdered(scale_bits);
  const auto share = static_cast<std::int32_t>(aux);
  const auto rest = static_cast<std::int32_t>(ordered & 31) * share;
  return (ordered >> 5) * static_cast<std::uint32_t>(share) +
         static_cast<std::uint32_t>(rest >> 5);
}

// The running sum of increments as ordered integers. Sums are doubles: what is
// lost of a float's last place is made up for by the start, which is aux / 256
// of a last place beyond the first value.
class RunningSum {
 public:
  RunningSum(std::uint32_t start, std::int16_t aux);

  // After the increments up to this one, which is ignored unless finite.
  std::uint32_t Next(std::uint32_t increment_bits, bool subtract) {
    const bool finite = (increment_bits & 0x7f800000u) != 0x7f800000u;
    const double increment =
        finite ? std::bit_cast<float>(increment_bits) : 0.0f;
    sum_ = subtract ? sum_ - increment : sum_ + increment;
    constexpr double kMax = std::numeric_limits<float>::max();
    const double within = std::min(std::max(sum_, -kMax), kMax);
    return ToOrdered(BitsOf(static_cast<float>(within)));
  }
  double sum() const { return sum_; }

 private:
  double sum_ = 0;
};

// A float as a multiple of 2^unit and the finer bits of its mantissa.
struct FixedPoint {
  std::uint32_t head = 0;  // Two's complement; 0: `tail` is the whole float.
  std::uint32_t tail = 0;
  unsigned tail_bits = 0;
};

// False if the value has no such form: not finite, or too large for the unit.
inline bool ToFixedPoint(std::uint32_t bits, int unit, FixedPoint* fixed) {
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const int exponent = static_cast<int>(magnitude >> 23);
  if (exponent == 255) return false;
  const int tail_bits = unit - (exponent - 150);
  if (tail_bits <= -6 && exponent != 0) return false;
  if (exponent == 0 || tail_bits > 23) {  // Zero and subnormals too.
    *fixed = {0, bits, 32};
    return true;
  }
  const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  std::uint32_t head = significand;
  if (tail_bits < 0) {
    head <<= -tail_bits;
    fixed->tail = 0;
    fixed->tail_bits = 0;
  } else {
    head >>= tail_bits;
    fixed->tail = significand & ((1u << tail_bits) - 1);
    fixed->tail_bits = static_cast<unsigned>(tail_bits);
  }
  fixed->head = (bits >> 31) != 0 ? 0u - head : head;
  return true;
}

// The bits of head * 2^unit, and how many lower ones its tail has.
struct FloatHead {
  std::uint32_t bits;
  std::uint32_t tail_bits;  // 32 if `head` is 0.
};
inline FloatHead FromFixedPoint(std::uint32_t head, int unit) {
  const std::uint32_t sign = head & 0x80000000u;
  const auto magnitude =
      static_cast<std::int32_t>((sign != 0 ? 0u - head : head) & 0x7fffffffu);
  const std::uint32_t bits = BitsOf(static_cast<float>(magnitude));
  const std::uint32_t exponent = bits >> 23;  // 127: magnitude is 1.
  const std::uint32_t shifted = bits + (static_cast<std::uint32_t>(unit) << 23);
  const std::uint32_t tail = exponent < 150 ? 150 - exponent : 0;
  return {magnitude == 0 ? 0 : shifted ^ sign, magnitude == 0 ? 32 : tail};
}

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_SERIES_H_
