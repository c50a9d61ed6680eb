#include "server/store/rollup/kernels.h"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "server/store/rollup/sums.h"

// Vectors whose size only the machine knows cannot be in arrays.
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "server/store/rollup/kernels.cc"
#include "hwy/foreach_target.h"
// clang-format off: highway.h must come after foreach_target.h.
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace gradtap::server::rollup {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 8>;
using Doubles = hn::CappedTag<double, 8>;
using HalfFloats = hn::Rebind<float, Doubles>;

constexpr std::uint32_t kInfinityBits = 0x7f800000;

// Where the first of the run's values that equals `value` stands; there is one.
template <typename V>
std::uint16_t FirstEqual(const float* values, V value) {
  const Floats d;
  std::uint64_t equal = 0;
  for (std::size_t i = 0; i < kKernelRun; i += hn::Lanes(d)) {
    std::uint8_t bits[8] = {};
    hn::StoreMaskBits(d, hn::Eq(hn::LoadU(d, values + i), value), bits);
    equal |= std::uint64_t{bits[0]} << i;
  }
  return static_cast<std::uint16_t>(std::countr_zero(equal));
}

double SumOfRun(const float* values) {
  const Doubles d;
  const HalfFloats half;
  constexpr std::size_t kLanes = hn::MaxLanes(Doubles());
  EightSums eight;
  for (std::size_t part = 0; part < 8; part += kLanes) {
    auto sum = hn::Zero(d);
    for (std::size_t i = part; i < kKernelRun; i += 8) {
      sum = hn::Add(sum, hn::PromoteTo(d, hn::LoadU(half, values + i)));
    }
    hn::StoreU(sum, d, eight.sums.data() + part);
  }
  return eight.Total();
}

bool SummarizeRunLoop(const float* values, RollupEntry* entry) {
  const Floats d;
  const hn::RebindToSigned<Floats> whole;
  const auto magnitude = hn::Set(whole, 0x7fffffff);
  auto min = hn::LoadU(d, values);
  auto max = min;
  auto largest = hn::Zero(whole);
  for (std::size_t i = 0; i < kKernelRun; i += hn::Lanes(d)) {
    const auto v = hn::LoadU(d, values + i);
    largest = hn::Max(largest, hn::And(hn::BitCast(whole, v), magnitude));
    min = hn::Min(min, v);
    max = hn::Max(max, v);
  }
  const auto beyond = hn::Gt(
      largest, hn::Set(whole, static_cast<std::int32_t>(kInfinityBits) - 1));
  if (!hn::AllFalse(whole, beyond)) return false;
  *entry = {};
  entry->finite = kKernelRun;
  entry->min_at = FirstEqual(values, hn::MinOfLanes(d, min));
  entry->max_at = FirstEqual(values, hn::MaxOfLanes(d, max));
  entry->min = values[entry->min_at];
  entry->max = values[entry->max_at];
  entry->mean = MeanOf(SumOfRun(values), *entry);
  return true;
}

// std^2 + mean^2 of the next lanes. Squares of float32 neither overflow nor
// vanish in double.
auto SquareSum(const float* std, const float* mean) {
  const Doubles d;
  const HalfFloats half;
  const auto s = hn::PromoteTo(d, hn::LoadU(half, std));
  const auto m = hn::PromoteTo(d, hn::LoadU(half, mean));
  return hn::MulAdd(s, s, hn::Mul(m, m));
}

// Calls `value(i)` for the lanes from i on, rounds what it gives, and collects
// where a change by 2^-46 of it would round otherwise. The rest of `count` that
// fills no vector is unsure altogether. (A conversion of what exceeds float32
// gives infinity on some machines, the largest float32 on others.)
template <typename Value>
std::size_t RoundColumn(const Value& value, std::size_t count, float* out,
                        std::uint32_t* unsure) {
  const Doubles d;
  const HalfFloats half;
  const auto down = hn::Set(d, 1 - 0x1p-46);
  const auto up = hn::Set(d, 1 + 0x1p-46);
  const auto largest = hn::Set(d, std::numeric_limits<float>::max());
  std::size_t unsures = 0;
  std::size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto v = value(i);
    const auto high = hn::Mul(v, up);
    const auto rounded = hn::DemoteTo(half, hn::Mul(v, down));
    hn::StoreU(rounded, half, out + i);
    if (hn::AllTrue(d, hn::Le(high, largest)) &&
        hn::AllTrue(half, hn::Eq(rounded, hn::DemoteTo(half, high)))) {
      continue;
    }
    for (std::size_t lane = 0; lane < hn::Lanes(d); ++lane) {
      unsure[unsures++] = static_cast<std::uint32_t>(i + lane);
    }
  }
  for (; i < count; ++i) unsure[unsures++] = static_cast<std::uint32_t>(i);
  return unsures;
}

std::size_t L2Loop(const float* std, const float* mean, double sqrt_n,
                   std::size_t count, float* out, std::uint32_t* unsure) {
  const auto factor = hn::Set(Doubles(), sqrt_n);
  return RoundColumn(
      [&](std::size_t i) HWY_ATTR {
        return hn::Mul(factor, hn::Sqrt(SquareSum(std + i, mean + i)));
      },
      count, out, unsure);
}

std::size_t RatioLoop(const float* std, const float* mean,
                      const float* weight_std, const float* weight_mean,
                      std::size_t count, float* out, std::uint32_t* unsure) {
  return RoundColumn(
      [&](std::size_t i) HWY_ATTR {
        return hn::Sqrt(hn::Div(SquareSum(std + i, mean + i),
                                SquareSum(weight_std + i, weight_mean + i)));
      },
      count, out, unsure);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::server::rollup
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradtap::server::rollup {

HWY_EXPORT(SummarizeRunLoop);
HWY_EXPORT(L2Loop);
HWY_EXPORT(RatioLoop);

bool SummarizeRun(const float* values, RollupEntry* entry) {
  return HWY_DYNAMIC_DISPATCH(SummarizeRunLoop)(values, entry);
}

std::size_t L2Column(const float* std, const float* mean, double sqrt_n,
                     std::size_t count, float* out, std::uint32_t* unsure) {
  return HWY_DYNAMIC_DISPATCH(L2Loop)(std, mean, sqrt_n, count, out, unsure);
}

std::size_t RatioColumn(const float* std, const float* mean,
                        const float* weight_std, const float* weight_mean,
                        std::size_t count, float* out, std::uint32_t* unsure) {
  return HWY_DYNAMIC_DISPATCH(RatioLoop)(std, mean, weight_std, weight_mean,
                                         count, out, unsure);
}

}  // namespace gradtap::server::rollup
#endif  // HWY_ONCE
