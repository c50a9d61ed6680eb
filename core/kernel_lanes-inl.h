// How elements come into vectors, once for each target (Highway's way of
// inclusion: no usual guard).
//
// Layer: core. Included by the kernels' units alone.

#if defined(GRADTAP_CORE_KERNEL_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADTAP_CORE_KERNEL_LANES_INL_H_
#undef GRADTAP_CORE_KERNEL_LANES_INL_H_
#else
#define GRADTAP_CORE_KERNEL_LANES_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/kernel_convert.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gradtap::kernel {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using DoubleTag = hn::ScalableTag<double>;
using Floats = hn::Vec<FloatTag>;
using Doubles = hn::Vec<DoubleTag>;

// How many lanes were true, over at most 2^16 vectors of `D`. Counted by lane:
// GCC 12 reads the upper bits of a mask that it has spilled, which CountTrue()
// takes for set ones.
template <class D>
class LaneCounter {
 public:
  HWY_INLINE LaneCounter() : count_(hn::Zero(Counts())) {}

  HWY_INLINE void Add(hn::Mask<D> mask) {
    count_ = hn::Sub(count_, hn::BitCast(Counts(), hn::VecFromMask(D(), mask)));
  }
  HWY_INLINE std::size_t Total() const {
    return static_cast<std::size_t>(
        hn::GetLane(hn::SumOfLanes(Counts(), count_)));
  }

 private:
  using Counts = hn::RebindToUnsigned<D>;
  hn::Vec<Counts> count_;
};

// Exactly: a vector of elements from `x` on, in the lanes they are reduced in.
HWY_INLINE Floats LoadLanes(const float* x) { return hn::LoadU(FloatTag(), x); }
HWY_INLINE Doubles LoadLanes(const double* x) {
  return hn::LoadU(DoubleTag(), x);
}

HWY_INLINE hn::Vec<hn::RebindToUnsigned<FloatTag>> LoadBits(
    const std::uint16_t* x) {
  const hn::Rebind<std::uint16_t, FloatTag> narrow;
  return hn::PromoteTo(hn::RebindToUnsigned<FloatTag>(), hn::LoadU(narrow, x));
}

HWY_INLINE Floats LoadLanes(const Bfloat16* x) {
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(LoadBits(&x->bits)));
}

HWY_INLINE Floats LoadLanes(const Half* x) {
#if HWY_TARGET <= HWY_AVX2 && HWY_ARCH_X86  // These have an instruction.
  const hn::Rebind<hwy::float16_t, FloatTag> narrow;
  return hn::PromoteTo(
      FloatTag(),
      hn::LoadU(narrow, reinterpret_cast<const hwy::float16_t*>(x)));
#else  // As ToFloat(Half) does it.
  const FloatTag d;
  const hn::RebindToUnsigned<FloatTag> du;
  const hn::RebindToSigned<FloatTag> di;
  const auto bits = LoadBits(&x->bits);
  const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffu));
  const auto rebias = hn::Set(di, 112 << 23);
  const auto infinite = hn::Gt(hn::BitCast(di, magnitude), hn::Set(di, 0x7bff));
  auto normal = hn::Add(hn::BitCast(di, hn::ShiftLeft<13>(magnitude)), rebias);
  normal = hn::Add(normal, hn::IfThenElseZero(infinite, rebias));
  const auto subnormal = hn::Mul(hn::ConvertTo(d, hn::BitCast(di, magnitude)),
                                 hn::Set(d, 0x1p-24f));
  const auto small = hn::Lt(hn::BitCast(di, magnitude), hn::Set(di, 0x400));
  const auto sign = hn::ShiftLeft<16>(hn::Xor(bits, magnitude));
  return hn::Or(hn::IfThenElse(hn::RebindMask(d, small), subnormal,
                               hn::BitCast(d, normal)),
                hn::BitCast(d, sign));
#endif
}

// Asks for the cache lines of `bytes` bytes, `ahead` bytes after `from`. The
// processor's own prefetching ends with a page and misses the pauses between
// units. Distances and caches (3: the first, 2: the second) are measured: where
// one array is read, farther ahead than where two are, and so far that the
// first cache would not hold it.
template <std::size_t ahead, int cache>
HWY_INLINE void FetchAhead(const void* from, std::size_t bytes) {
  const char* const p = static_cast<const char*>(from) + ahead;
  for (std::size_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(p + i, /*rw=*/0, cache);
  }
}

// Elements as they are.
template <typename T, std::size_t ahead = 16384, int cache = 2>
struct Plain {
  static constexpr bool kExact = true;

  const T* x;

  static hn::ScalableTag<std::conditional_t<sizeof(T) == 8, double, float>>
  Tag() {
    return {};
  }
  HWY_INLINE auto Load(std::size_t i) const { return LoadLanes(x + i); }
  HWY_INLINE void Fetch(std::size_t i, std::size_t n) const {
    FetchAhead<ahead, cache>(x + i, n * sizeof(T));
  }
  // The first `n` elements, of which there are less than lanes; then zeros.
  HWY_INLINE auto LoadShort(std::size_t n) const {
    T padded[hn::MaxLanes(decltype(Tag())())] = {};
    std::memcpy(padded, x, n * sizeof(T));
    return LoadLanes(padded);
  }
  HWY_INLINE void Widen(std::size_t i, std::size_t n, double* out) const {
    for (std::size_t k = 0; k < n; ++k) {
      out[k] = static_cast<double>(Element<T>::To(x[i + k]));
    }
  }
};

template <typename T>
using PlainOfTwo = Plain<T, 4096, 3>;

// x - before. In lanes of float, rounded once; widened, taken in double.
template <typename T>
struct Difference {
  static constexpr bool kExact = sizeof(T) == 8;  // Enough so, in double.

  PlainOfTwo<T> x;
  PlainOfTwo<T> before;

  static auto Tag() { return Plain<T>::Tag(); }
  HWY_INLINE auto Load(std::size_t i) const {
    return hn::Sub(x.Load(i), before.Load(i));
  }
  // Where the difference `d`, as loaded, is not exact, if it is finite
  // (Shewchuk 1997, Two-Diff). In lanes of float.
  template <class V>
  HWY_INLINE auto Rounded(std::size_t i, V d) const {
    const V a = x.Load(i);
    const V b = before.Load(i);
    const V b_virtual = hn::Sub(a, d);
    const V a_virtual = hn::Add(d, b_virtual);
    const V error = hn::Add(hn::Sub(a, a_virtual), hn::Sub(b_virtual, b));
    return hn::Ne(error, hn::Zero(Tag()));
  }
  // The elements of x are those that Plain reads beside it.
  HWY_INLINE void Fetch(std::size_t i, std::size_t n) const {
    before.Fetch(i, n);
  }
  HWY_INLINE auto LoadShort(std::size_t n) const {
    return hn::Sub(x.LoadShort(n), before.LoadShort(n));
  }
  HWY_INLINE void Widen(std::size_t i, std::size_t n, double* out) const {
    for (std::size_t k = 0; k < n; ++k) {
      out[k] = Element<T>::Minus(x.x[i + k], before.x[i + k]);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#endif  // Target toggle.
