// Elements of a fused reduction: how they are read, and the moments of a few of
// them.
//
// Where it pays, elements are reduced as float: blocks of 16 around their own
// mean, so that no sum cancels, which are added up in double. All else, blocks
// with a NaN, an infinity or something huge among them, goes one by one in
// double. Conversions are exact, but for int64's.
//
// Plain C++17: nvcc compiles it for the device, the C++ compiler for tests.
// Additions must not be reordered (no -ffast-math).
//
// Layer: agent/capture. This file: std, and what nvcc brings.

#ifndef GRADTAP_AGENT_CAPTURE_FUSED_ELEMENTS_H_
#define GRADTAP_AGENT_CAPTURE_FUSED_ELEMENTS_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "agent/capture/fused_table.h"
#include "agent/capture/moments_layout.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define GRADTAP_ANYWHERE __host__ __device__ inline
#define GRADTAP_ANYWHERE_APART __host__ __device__ __noinline__
#define GRADTAP_UNROLL _Pragma("unroll")
#else
#define GRADTAP_ANYWHERE inline
#define GRADTAP_ANYWHERE_APART [[gnu::noinline]]
#define GRADTAP_UNROLL
#endif

namespace gradtap::agent::fused {

inline constexpr double kLargestDouble = 0x1.fffffffffffffp+1023;

// What one thread takes at once, in elements; and its warp.
inline constexpr int kBlock = 16;
inline constexpr std::uint64_t kTile = std::uint64_t{kBlock} * kLanes;

template <class To, class From>
GRADTAP_ANYWHERE To BitsAs(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

// ---- Types ------------------------------------------------------------------

// What a type has: Raw, as it lies in memory; To(), as a double; and if kFast,
// kPerVector elements in 16 bytes, of which At() is one as a float.

GRADTAP_ANYWHERE float HalfToFloat(std::uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __half2float(__ushort_as_half(static_cast<unsigned short>(bits)));
#else
  const std::uint32_t exponent = bits & 0x7c00u;
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  if (exponent == 0) {
    const float subnormal = static_cast<float>(bits & 0x03ffu) * 0x1p-24f;
    return BitsAs<float>(BitsAs<std::uint32_t>(subnormal) | sign);
  }
  const std::uint32_t rebias = exponent == 0x7c00u ? 224u << 23 : 112u << 23;
  return BitsAs<float>((((bits & 0x7fffu) << 13) + rebias) | sign);
#endif
}

struct Float32 {
  using Raw = float;
  static constexpr bool kFast = true;
  static constexpr int kPerVector = 4;
  GRADTAP_ANYWHERE static float At(const std::uint32_t* words, int k) {
    return BitsAs<float>(words[k]);
  }
  GRADTAP_ANYWHERE static double To(Raw x) { return x; }
};

struct Float16 {
  using Raw = std::uint16_t;
  static constexpr bool kFast = true;
  static constexpr int kPerVector = 8;
  GRADTAP_ANYWHERE static float At(const std::uint32_t* words, int k) {
    return HalfToFloat((words[k / 2] >> (k % 2 * 16)) & 0xffffu);
  }
  GRADTAP_ANYWHERE static double To(Raw x) { return HalfToFloat(x); }
};

struct Bfloat16 {
  using Raw = std::uint16_t;
  static constexpr bool kFast = true;
  static constexpr int kPerVector = 8;
  GRADTAP_ANYWHERE static float At(const std::uint32_t* words, int k) {
    const std::uint32_t word = words[k / 2];
    return BitsAs<float>(k % 2 == 0 ? word << 16 : word & 0xffff0000u);
  }
  GRADTAP_ANYWHERE static double To(Raw x) {
    return BitsAs<float>(static_cast<std::uint32_t>(x) << 16);
  }
};

template <class T>
struct Slow {
  using Raw = T;
  static constexpr bool kFast = false;
  static constexpr int kPerVector = 1;
  GRADTAP_ANYWHERE static double To(Raw x) { return static_cast<double>(x); }
};

struct Boolean : Slow<std::uint8_t> {
  GRADTAP_ANYWHERE static double To(Raw x) { return x != 0 ? 1.0 : 0.0; }
};

// Element j of a thread's block, by number: so that neighbours read vectors
// side by side.
template <class E>
GRADTAP_ANYWHERE std::uint64_t IndexOf(std::uint64_t tile, int lane, int j) {
  constexpr int kPer = E::kPerVector;
  return tile + static_cast<std::uint64_t>((j / kPer * kLanes + lane) * kPer +
                                           j % kPer);
}

// ---- Bins -------------------------------------------------------------------

// Counts by key, shared by the threads of a block. Null: nothing is counted.
struct Bins {
  unsigned* counts = nullptr;

  GRADTAP_ANYWHERE void Add(std::uint32_t key) const {
#ifdef __CUDA_ARCH__
    atomicAdd(counts + key, 1u);
#else
    ++counts[key];
#endif
  }
};

GRADTAP_ANYWHERE std::uint32_t KeyOf(float x) {
  const auto bits = BitsAs<std::uint32_t>(x);
  const std::uint32_t exponent = (bits >> 23) & 0xff;
  const bool negative = (bits >> 31) != 0;
  if (exponent == 255) {
    if ((bits << 9) != 0) return kKeyNan;
    return negative ? kKeyNegInf : kKeyPosInf;
  }
  if ((bits << 1) == 0) return kKeyZero;
  return exponent + (negative ? kKeyNegative : 0);
}

GRADTAP_ANYWHERE std::uint32_t KeyOf(double x) {
  const auto bits = BitsAs<std::uint64_t>(x);
  const auto biased = static_cast<std::int32_t>((bits >> 52) & 0x7ff);
  const bool negative = (bits >> 63) != 0;
  if (biased == 0x7ff) {
    if ((bits << 12) != 0) return kKeyNan;
    return negative ? kKeyNegInf : kKeyPosInf;
  }
  if ((bits << 1) == 0) return kKeyZero;
  // Double's biased exponent is 896 more than float32's.
  const std::int32_t exponent = biased - 896;
  const std::int32_t key = exponent < 0 ? 0 : exponent > 254 ? 254 : exponent;
  return static_cast<std::uint32_t>(key + (negative ? kKeyNegative : 0));
}

// ---- Partials ---------------------------------------------------------------

GRADTAP_ANYWHERE double Bounded(double x) {
  if (x > kLargestDouble) return kLargestDouble;
  if (x < -kLargestDouble) return -kLargestDouble;
  return x;
}

// a + w * (b - a), for w in [0, 1], without overflow.
GRADTAP_ANYWHERE double Interpolate(double a, double b, double w) {
  const double delta = b - a;
  if (delta <= kLargestDouble && delta >= -kLargestDouble) return a + w * delta;
  return a * (1 - w) + b * w;
}

// As gradtap::Merge().
GRADTAP_ANYWHERE void MergeInto(Partial* a, const Partial& b) {
  a->zero += b.zero;
  a->nan += b.nan;
  a->pos_inf += b.pos_inf;
  if (b.finite == 0) return;
  if (a->finite == 0) {
    a->finite = b.finite;
    a->mean = b.mean;
    a->m2 = b.m2;
    a->abs_mean = b.abs_mean;
    a->min = b.min;
    a->max = b.max;
    return;
  }
  const double na = static_cast<double>(a->finite);
  a->finite += b.finite;
  const double w =
      static_cast<double>(b.finite) / static_cast<double>(a->finite);
  const double delta = b.mean - a->mean;
  a->m2 = Bounded(a->m2 + b.m2 + delta * delta * na * w);
  a->mean = Interpolate(a->mean, b.mean, w);
  a->abs_mean = Interpolate(a->abs_mean, b.abs_mean, w);
  if (b.min < a->min) a->min = b.min;
  if (b.max > a->max) a->max = b.max;
}

// ---- One by one -------------------------------------------------------------

// Elements by number, as doubles.
template <class E>
struct Plain {
  const typename E::Raw* x;

  GRADTAP_ANYWHERE double operator()(std::uint64_t i) const {
    return E::To(x[i]);
  }
};

template <class E>
struct Change {
  const typename E::Raw* x;
  const typename E::Raw* before;

  GRADTAP_ANYWHERE double operator()(std::uint64_t i) const {
    return E::To(x[i]) - E::To(before[i]);
  }
};

// A thread's elements of a tile, those below `end`, merged into *partial.
template <class E, class Value>
GRADTAP_ANYWHERE_APART void ReduceSlowly(const Value& value, std::uint64_t tile,
                                         std::uint64_t end, int lane,
                                         Partial* partial) {
  Partial p;
  double sum = 0;  // Sixteenths: they do not overflow.
  double abs_sum = 0;
  for (int j = 0; j < kBlock; ++j) {
    const std::uint64_t i = IndexOf<E>(tile, lane, j);
    if (i >= end) break;
    const double x = value(i);
    const double size = fabs(x);
    if (x == 0) ++p.zero;
    if (!(size <= kLargestDouble)) {
      if (x != x) ++p.nan;
      if (x > 0) ++p.pos_inf;
      continue;
    }
    sum += x * (1.0 / kBlock);
    abs_sum += size * (1.0 / kBlock);
    if (p.finite == 0 || x < p.min) p.min = x;
    if (p.finite == 0 || x > p.max) p.max = x;
    ++p.finite;
  }
  if (p.finite != 0) {
    const double share = kBlock / static_cast<double>(p.finite);
    p.mean = Bounded(sum * share);
    p.abs_mean = Bounded(abs_sum * share);
    for (int j = 0; j < kBlock; ++j) {
      const std::uint64_t i = IndexOf<E>(tile, lane, j);
      if (i >= end) break;
      const double x = value(i);
      if (!(fabs(x) <= kLargestDouble)) continue;
      p.m2 += (x - p.mean) * (x - p.mean);
    }
    p.m2 = Bounded(p.m2);
  }
  MergeInto(partial, p);
}

template <class E, class Value>
GRADTAP_ANYWHERE_APART void CountSlowly(const Value& value, double multiplier,
                                        std::uint64_t tile, std::uint64_t end,
                                        int lane, Bins bins) {
  for (int j = 0; j < kBlock; ++j) {
    const std::uint64_t i = IndexOf<E>(tile, lane, j);
    if (i >= end) break;
    bins.Add(KeyOf(value(i) * multiplier));
  }
}

// ---- Blocks of floats -------------------------------------------------------

// Blocks whose elements are all finite and not huge, around the mean of the
// first one: it is of their size if they are far from zero.
struct Sums {
  double shift = 0;
  double sum = 0;      // Of x - shift.
  double squares = 0;  // Of the same.
  double abs = 0;
  float min = 0;
  float max = 0;
  std::uint32_t blocks = 0;
  std::uint32_t zero = 0;

  GRADTAP_ANYWHERE Partial Total() const {
    Partial p;
    if (blocks == 0) return p;
    const double n = static_cast<double>(blocks) * kBlock;
    p.finite = static_cast<unsigned long long>(blocks) * kBlock;
    p.zero = zero;
    p.mean = shift + sum / n;
    const double m2 = squares - sum * (sum / n);
    p.m2 = m2 > 0 ? m2 : 0;
    p.abs_mean = abs / n;
    p.min = min;
    p.max = max;
    return p;
  }
};

// As a tree: its error is that of four additions. `x` is used up.
GRADTAP_ANYWHERE float TreeSum(float (&x)[kBlock]) {
  GRADTAP_UNROLL
  for (int half = kBlock / 2; half > 0; half /= 2) {
    GRADTAP_UNROLL
    for (int i = 0; i < kBlock / 2; ++i) {
      if (i < half) x[i] += x[i + half];
    }
  }
  return x[0];
}

// Sums of squares stay within float if sizes add up to something from kTiny to
// kHuge; what adds up to less is taken times kScale.
inline constexpr float kHuge = 0x1p60f;
inline constexpr float kTiny = 0x1p-26f;
inline constexpr float kScale = 0x1p86f;

// Adds elements x + rest, `rest` being far smaller. False, and nothing is
// added: something is huge, infinite or NaN.
template <bool kHasRest>
GRADTAP_ANYWHERE bool AddBlock(const float (&x)[kBlock],
                               const float (&rest)[kBlock], Sums* sums) {
  float work[kBlock];
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) work[i] = fabsf(x[i]);
  const float abs = TreeSum(work);
  if (!(abs <= kHuge)) return false;
  float min = x[0];
  float max = x[0];
  std::uint32_t zero = 0;
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) {
    min = fminf(min, x[i]);
    max = fmaxf(max, x[i]);
    zero += x[i] == 0 ? 1 : 0;
  }
  const float scale = abs < kTiny ? kScale : 1.0f;
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) work[i] = x[i] * scale;
  const float mean = TreeSum(work) * (1.0f / kBlock);
  float squares[kBlock];
  GRADTAP_UNROLL
  for (int i = 0; i < kBlock; ++i) {
    float off = x[i] * scale - mean;
    if (kHasRest) off += rest[i] * scale;
    work[i] = off;
    squares[i] = off * off;
  }
  const double back = abs < kTiny ? 0x1p-86 : 1.0;
  const double off = TreeSum(work) * back;
  const double off_squares = TreeSum(squares) * (back * back);
  const double center = mean * back;
  if (sums->blocks == 0) {
    sums->shift = center;
    sums->min = min;
    sums->max = max;
  }
  const double delta = center - sums->shift;
  sums->sum += kBlock * delta + off;
  sums->squares += delta * (kBlock * delta + 2 * off) + off_squares;
  sums->abs += abs;
  sums->min = fminf(sums->min, min);
  sums->max = fmaxf(sums->max, max);
  sums->zero += zero;
  ++sums->blocks;
  return true;
}

// x - before = *difference + the result, exactly, if nothing overflows.
GRADTAP_ANYWHERE float RestOf(float x, float before, float* difference) {
  const float d = x - before;
  const float minus = d - x;
  *difference = d;
  return (x - (d - minus)) + (-before - minus);
}

}  // namespace gradtap::agent::fused

#endif  // GRADTAP_AGENT_CAPTURE_FUSED_ELEMENTS_H_
