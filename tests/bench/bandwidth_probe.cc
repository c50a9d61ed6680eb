#include "bench/bandwidth_probe.h"

#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/bandwidth_probe.cc"
#include "hwy/foreach_target.h"
// clang-format off: highway.h must come after foreach_target.h.
#include "hwy/highway.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace gradtap::bench {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// How far ahead memory is asked for. 0: that is left to the processor.
template <std::size_t ahead>
HWY_INLINE void Ask(const char* p, std::size_t bytes) {
  if constexpr (ahead != 0) {
    for (std::size_t i = 0; i < bytes; i += 64) {
      __builtin_prefetch(p + ahead + i);
    }
  }
}

// SumOfLanes() adds signed numbers where there is AVX-512, which may overflow.
template <class D>
HWY_INLINE std::uint64_t Sum(D d, hn::Vec<D> v) {
  HWY_ALIGN std::uint64_t lanes[HWY_MAX_BYTES / 8];
  hn::Store(v, d, lanes);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < hn::Lanes(d); ++i) sum += lanes[i];
  return sum;
}

template <class D, std::size_t ahead>
HWY_INLINE std::uint64_t ReadWith(const char* data, std::size_t bytes) {
  const D d;
  const std::size_t size = hn::Lanes(d) * 8;
  auto a = hn::Zero(d), b = a, c = a, e = a, f = a, g = a, h = a, k = a;
  const auto at = [](const char* p) HWY_ATTR {
    return hn::LoadU(D(), reinterpret_cast<const std::uint64_t*>(p));
  };
  for (std::size_t i = 0; i < bytes; i += 8 * size) {
    const char* const p = data + i;
    Ask<ahead>(p, 8 * size);
    a = hn::Add(a, at(p));
    b = hn::Add(b, at(p + size));
    c = hn::Add(c, at(p + 2 * size));
    e = hn::Add(e, at(p + 3 * size));
    f = hn::Add(f, at(p + 4 * size));
    g = hn::Add(g, at(p + 5 * size));
    h = hn::Add(h, at(p + 6 * size));
    k = hn::Add(k, at(p + 7 * size));
  }
  a = hn::Add(hn::Add(a, b), hn::Add(c, e));
  f = hn::Add(hn::Add(f, g), hn::Add(h, k));
  return Sum(d, hn::Add(a, f));
}

template <class D, std::size_t ahead>
HWY_INLINE std::uint64_t CopyWith(const char* from, char* to,
                                  std::size_t bytes) {
  const D d;
  const std::size_t size = hn::Lanes(d) * 8;
  auto sum = hn::Zero(d), other = sum;
  for (std::size_t i = 0; i < bytes; i += 4 * size) {
    Ask<ahead>(from + i, 4 * size);
    Ask<ahead>(to + i, 4 * size);
    for (std::size_t j = i; j < i + 4 * size; j += 2 * size) {
      const auto* const p = reinterpret_cast<const std::uint64_t*>(from + j);
      auto* const q = reinterpret_cast<std::uint64_t*>(to + j);
      const auto a = hn::LoadU(d, p), b = hn::LoadU(d, p + hn::Lanes(d));
      sum = hn::Add(sum, hn::Sub(a, hn::LoadU(d, q)));
      other = hn::Add(other, hn::Sub(b, hn::LoadU(d, q + hn::Lanes(d))));
      hn::StoreU(a, d, q);
      hn::StoreU(b, d, q + hn::Lanes(d));
    }
  }
  return Sum(d, hn::Add(sum, other));
}

using Wide = hn::ScalableTag<std::uint64_t>;
using Narrow = hn::CappedTag<std::uint64_t, 4>;

std::uint64_t Read(int way, const char* data, std::size_t bytes) {
  if (way == 0) return ReadWith<Wide, 0>(data, bytes);
  if (way == 1) return ReadWith<Wide, 512>(data, bytes);
  return ReadWith<Narrow, 0>(data, bytes);
}

std::uint64_t Copy(int way, const char* from, char* to, std::size_t bytes) {
  if (way == 0) return CopyWith<Wide, 0>(from, to, bytes);
  if (way == 1) return CopyWith<Wide, 512>(from, to, bytes);
  return CopyWith<Narrow, 0>(from, to, bytes);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::bench
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace gradtap::bench {

HWY_EXPORT(Read);
HWY_EXPORT(Copy);

std::uint64_t ReadAll(int way, const char* data, std::size_t bytes) {
  return HWY_DYNAMIC_DISPATCH(Read)(way, data, bytes);
}

std::uint64_t ReadBothWriteOne(int way, const char* from, char* to,
                               std::size_t bytes) {
  return HWY_DYNAMIC_DISPATCH(Copy)(way, from, to, bytes);
}

}  // namespace gradtap::bench
#endif  // HWY_ONCE
