#include "server/store/tile/kernels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "server/store/tile/bits.h"
#include "server/store/tile/series.h"

// Vectors whose size only the machine knows are not used here.
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/store/tile/kernels.cc"
#include "hwy/foreach_target.h"
// clang-format off: highway.h must come after foreach_target.h.
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace gradtap::server::tile {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR

template <bool kMarked>
void Join(const std::uint8_t* symbols, const char* low, unsigned shift,
          std::size_t count, std::uint32_t* residuals) {
  const std::uint32_t mask = (1u << shift) - 1;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bit = i * shift;
    const auto word = Load<std::uint64_t>(low + bit / 8) >> (bit % 8);
    const std::uint32_t symbol = symbols[i] >> (kMarked ? kMarkBits : 0);
    residuals[i] =
        UnZigZag((symbol << shift) | (static_cast<std::uint32_t>(word) & mask));
  }
}

#else

using Four = hn::FixedTag<std::uint32_t, 4>;
using Bytes = hn::FixedTag<std::uint8_t, 16>;

// Where four values of `shift` bits lie in the 16 bytes that they begin in, the
// first one `first` bits after the beginning.
struct Lanes {
  Lanes(unsigned shift, unsigned first) {
    for (unsigned lane = 0; lane < 4; ++lane) {
      const unsigned bit = first + lane * shift;
      down[lane] = bit % 8;
      for (unsigned byte = 0; byte < 4; ++byte) {
        from[4 * lane + byte] = static_cast<std::uint8_t>(bit / 8 + byte);
      }
    }
  }
  alignas(16) std::uint8_t from[16];
  alignas(16) std::uint32_t down[4];
};

// Groups of four begin at a byte or, if `shift` is odd, every other one at half
// a byte.
template <bool kMarked>
void Join(const std::uint8_t* symbols, const char* low, unsigned shift,
          std::size_t count, std::uint32_t* residuals) {
  const Four d;
  const Bytes bytes;
  const Lanes whole(shift, 0);
  const Lanes half(shift, 4);
  const auto mask = hn::Set(d, (1u << shift) - 1);
  const auto one = hn::Set(d, 1u);
  const auto* base = reinterpret_cast<const std::uint8_t*>(low);
  const auto join = [&](std::size_t i, const Lanes& lanes) HWY_ATTR {
    const auto window = hn::LoadU(bytes, base + i / 4 * shift / 2);
    const auto picked = hn::BitCast(
        d, hn::TableLookupBytes(window, hn::Load(bytes, lanes.from)));
    const auto rest = hn::And(picked >> hn::Load(d, lanes.down), mask);
    auto symbol = hn::PromoteTo(
        d, hn::LoadU(hn::FixedTag<std::uint8_t, 4>(), symbols + i));
    if constexpr (kMarked) symbol = hn::ShiftRight<kMarkBits>(symbol);
    const auto zigzag =
        hn::Or(hn::ShiftLeftSame(symbol, static_cast<int>(shift)), rest);
    const auto sign = hn::Sub(hn::Zero(d), hn::And(zigzag, one));
    hn::StoreU(hn::Xor(hn::ShiftRight<1>(zigzag), sign), d, residuals + i);
  };
  for (std::size_t i = 0; i < count; i += 8) {
    join(i, whole);
    join(i + 4, shift % 2 == 0 ? whole : half);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

void JoinPlain(const std::uint8_t* symbols, const char* low, unsigned shift,
               std::size_t count, std::uint32_t* residuals) {
  Join<false>(symbols, low, shift, count, residuals);
}
void JoinMarked(const std::uint8_t* symbols, const char* low, unsigned shift,
                std::size_t count, std::uint32_t* residuals) {
  Join<true>(symbols, low, shift, count, residuals);
}

// The other loops are plain: compilers make vectors of them.

template <std::size_t kFilter>
void Filter(Predictor* predictor, std::size_t count, std::uint32_t* values) {
  Predictor p = *predictor;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t residual = values[i];
    values[i] = p.Predict() + residual;
    p.template UpdateBy<kFilter>(residual);
  }
  *predictor = p;
}

template <std::size_t kFilter>
void Unfilter(Predictor* predictor, const std::uint32_t* values,
              std::size_t count, std::uint32_t* residuals) {
  Predictor p = *predictor;
  for (std::size_t i = 0; i < count; ++i) {
    residuals[i] = values[i] - p.Predict();
    p.template UpdateBy<kFilter>(residuals[i]);
  }
  *predictor = p;
}

using FilterLoop = void (*)(Predictor*, std::size_t, std::uint32_t*);
template <std::size_t... kFilter>
constexpr std::array<FilterLoop, sizeof...(kFilter)> MakeLoops(
    std::index_sequence<kFilter...>) {
  return {&Filter<kFilter>...};
}
using UnfilterLoop = void (*)(Predictor*, const std::uint32_t*, std::size_t,
                              std::uint32_t*);
template <std::size_t... kFilter>
constexpr std::array<UnfilterLoop, sizeof...(kFilter)> MakeUnfilterLoops(
    std::index_sequence<kFilter...>) {
  return {&Unfilter<kFilter>...};
}

void RunFilterLoop(std::uint8_t filter, Predictor* predictor, std::size_t count,
                   std::uint32_t* values) {
  static constexpr auto kLoops =
      MakeLoops(std::make_index_sequence<kFilters.size()>());
  kLoops[filter](predictor, count, values);
}

void RunUnfilterLoop(std::uint8_t filter, Predictor* predictor,
                     const std::uint32_t* values, std::size_t count,
                     std::uint32_t* residuals) {
  static constexpr auto kLoops =
      MakeUnfilterLoops(std::make_index_sequence<kFilters.size()>());
  kLoops[filter](predictor, values, count, residuals);
}

void AddTerms(const std::uint32_t* values, const std::uint32_t* terms,
              std::size_t count, std::uint32_t* bits) {
  if (terms == nullptr) {
    for (std::size_t i = 0; i < count; ++i) bits[i] = FromOrdered(values[i]);
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    bits[i] = FromOrdered(values[i] + terms[i]);
  }
}

template <bool kMarked>
std::size_t FixedPointLoop(const std::uint32_t* heads, int unit,
                           const std::uint8_t* symbols, std::size_t count,
                           std::uint32_t* bits, std::uint32_t* tails,
                           std::uint32_t* up) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const FloatHead value = FromFixedPoint(heads[i], unit);
    std::uint32_t follow = value.tail_bits;
    if constexpr (kMarked) {
      follow = std::min(follow, BitsAtMost(symbols[i] % (1u << kMarkBits)));
    }
    bits[i] = value.bits;
    tails[i] = follow;
    up[i] = value.tail_bits - follow;
    sum += follow;
  }
  return sum;
}

std::size_t FixedPlain(const std::uint32_t* heads, int unit,
                       const std::uint8_t* symbols, std::size_t count,
                       std::uint32_t* bits, std::uint32_t* tails,
                       std::uint32_t* up) {
  return FixedPointLoop<false>(heads, unit, symbols, count, bits, tails, up);
}
std::size_t FixedMarked(const std::uint32_t* heads, int unit,
                        const std::uint8_t* symbols, std::size_t count,
                        std::uint32_t* bits, std::uint32_t* tails,
                        std::uint32_t* up) {
  return FixedPointLoop<true>(heads, unit, symbols, count, bits, tails, up);
}

void TailLoop(const char* data, std::size_t position,
              const std::uint32_t* tails, const std::uint32_t* up,
              std::size_t count, std::uint32_t* bits) {
  for (std::size_t i = 0; i < count; ++i) {
    const auto word = Load<std::uint64_t>(data + position / 8);
    const std::uint64_t mask = (std::uint64_t{1} << tails[i]) - 1;
    const std::uint64_t tail = (word >> (position % 8)) & mask;
    bits[i] |= static_cast<std::uint32_t>(tail << up[i]);
    position += tails[i];
  }
}

void ScaleLoop(const std::uint32_t* scale, std::int16_t aux, std::size_t count,
               std::uint32_t* terms) {
  for (std::size_t i = 0; i < count; ++i) terms[i] = ScaleTerm(scale[i], aux);
}

void SumLoop(const SeriesPlan& plan, const std::uint32_t* increments,
             std::size_t count, std::uint32_t* terms) {
  RunningSum sum(plan.start, plan.aux);
  terms[0] = ToOrdered(plan.start);
  const bool subtract = plan.kind == Kind::kSubtracted;
  for (std::size_t i = 1; i < count; ++i) {
    terms[i] = sum.Next(increments[i], subtract);
  }
}

// 256 times the logarithm, between powers of two by a straight line.
std::uint32_t Log256(float magnitude) {
  return (BitsOf(magnitude + 1.0f) - (127u << 23)) >> 15;
}
float AsFloat(std::uint32_t residual) {
  return static_cast<float>(static_cast<std::int32_t>(residual));
}
float Magnitude(float value) {
  return std::bit_cast<float>(BitsOf(value) & 0x7fffffffu);
}

// A sum of at most kBlock logarithms fits 32 bits.
constexpr std::size_t kBlock = std::size_t{1} << 18;

std::uint64_t SumLog(const std::uint32_t* residuals, std::size_t count) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t end = std::min(count, at + kBlock);
    std::uint32_t part = 0;
    for (std::size_t i = at; i < end; ++i) {
      part += Log256(Magnitude(AsFloat(residuals[i])));
    }
    sum += part;
  }
  return sum;
}

std::uint64_t SumLogWithout(const std::uint32_t* residuals,
                            const std::uint32_t* others, float share,
                            std::size_t count) {
  std::uint64_t sum = 0;
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t end = std::min(count, at + kBlock);
    std::uint32_t part = 0;
    for (std::size_t i = at; i < end; ++i) {
      part +=
          Log256(Magnitude(AsFloat(residuals[i]) - share * AsFloat(others[i])));
    }
    sum += part;
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::server::tile
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradtap::server::tile {

HWY_EXPORT(JoinPlain);
HWY_EXPORT(JoinMarked);
HWY_EXPORT(RunFilterLoop);
HWY_EXPORT(AddTerms);
HWY_EXPORT(FixedPlain);
HWY_EXPORT(FixedMarked);
HWY_EXPORT(TailLoop);
HWY_EXPORT(ScaleLoop);
HWY_EXPORT(SumLoop);
HWY_EXPORT(RunUnfilterLoop);
HWY_EXPORT(SumLog);
HWY_EXPORT(SumLogWithout);

void JoinResiduals(const std::uint8_t* symbols, bool marked, const char* low,
                   unsigned shift, std::size_t count,
                   std::uint32_t* residuals) {
  if (marked) {
    HWY_DYNAMIC_DISPATCH(JoinMarked)(symbols, low, shift, count, residuals);
  } else {
    HWY_DYNAMIC_DISPATCH(JoinPlain)(symbols, low, shift, count, residuals);
  }
}

void RunFilter(std::uint8_t filter, Predictor* predictor, std::size_t count,
               std::uint32_t* values) {
  HWY_DYNAMIC_DISPATCH(RunFilterLoop)(filter, predictor, count, values);
}

void OrderedToBits(const std::uint32_t* values, const std::uint32_t* terms,
                   std::size_t count, std::uint32_t* bits) {
  HWY_DYNAMIC_DISPATCH(AddTerms)(values, terms, count, bits);
}

std::size_t FixedPointToBits(const std::uint32_t* heads, int unit, bool marked,
                             const std::uint8_t* symbols, std::size_t count,
                             std::uint32_t* bits, std::uint32_t* tails,
                             std::uint32_t* up) {
  if (marked) {
    return HWY_DYNAMIC_DISPATCH(FixedMarked)(heads, unit, symbols, count, bits,
                                             tails, up);
  }
  return HWY_DYNAMIC_DISPATCH(FixedPlain)(heads, unit, symbols, count, bits,
                                          tails, up);
}

void AddTails(const char* data, std::size_t position,
              const std::uint32_t* tails, const std::uint32_t* up,
              std::size_t count, std::uint32_t* bits) {
  HWY_DYNAMIC_DISPATCH(TailLoop)(data, position, tails, up, count, bits);
}

void ScaleTerms(const std::uint32_t* scale, std::int16_t aux, std::size_t count,
                std::uint32_t* terms) {
  HWY_DYNAMIC_DISPATCH(ScaleLoop)(scale, aux, count, terms);
}

void SumTerms(const SeriesPlan& plan, const std::uint32_t* increments,
              std::size_t count, std::uint32_t* terms) {
  HWY_DYNAMIC_DISPATCH(SumLoop)(plan, increments, count, terms);
}

void FilterResiduals(std::uint8_t filter, Predictor* predictor,
                     const std::uint32_t* values, std::size_t count,
                     std::uint32_t* residuals) {
  HWY_DYNAMIC_DISPATCH(RunUnfilterLoop)
  (filter, predictor, values, count, residuals);
}

double MeanLog(const std::uint32_t* residuals, std::size_t count) {
  if (count == 0) return 0;
  const auto sum = HWY_DYNAMIC_DISPATCH(SumLog)(residuals, count);
  return static_cast<double>(sum) / 256 / static_cast<double>(count);
}

double MeanLogWithout(const std::uint32_t* residuals,
                      const std::uint32_t* others, float share,
                      std::size_t count) {
  if (count == 0) return 0;
  const auto sum =
      HWY_DYNAMIC_DISPATCH(SumLogWithout)(residuals, others, share, count);
  return static_cast<double>(sum) / 256 / static_cast<double>(count);
}

}  // namespace gradtap::server::tile
#endif  // HWY_ONCE
