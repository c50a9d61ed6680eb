// Element types: how the kernels read them as float or double.
//
// Each conversion to the working type is exact, but for int64 and uint64
// differences beyond 2^53, which are rounded to nearest once.
//
// Layer: core.

#ifndef GRADTAP_CORE_KERNEL_CONVERT_H_
#define GRADTAP_CORE_KERNEL_CONVERT_H_

#include <bit>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace gradtap::kernel {

// IEEE binary16 and the upper half of a binary32, as bits.
struct Half {
  std::uint16_t bits;
};
struct Bfloat16 {
  std::uint16_t bits;
};
// float8 as the Open Compute Project has it, as bits: e4m3fn has no infinity
// and one NaN of each sign; e5m2 is the upper half of a binary16.
struct Float8E4m3fn {
  std::uint8_t bits;
};
struct Float8E5m2 {
  std::uint8_t bits;
};
// One byte; anything but zero is true.
struct Bool {
  std::uint8_t byte;
};

inline float ToFloat(Bfloat16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

// Without a branch, so that loops over it vectorise.
inline float ToFloat(Half x) {
  const std::uint32_t bits = x.bits;
  const std::uint32_t exponent = bits & 0x7c00u;
  const std::uint32_t mantissa = bits & 0x03ffu;
  // Rebias the exponent by 112; infinity and NaN once more, to all ones.
  const std::uint32_t normal = ((bits & 0x7fffu) << 13) + (112u << 23) +
                               (exponent == 0x7c00u ? 112u << 23 : 0u);
  const float subnormal =
      static_cast<float>(static_cast<std::int32_t>(mantissa)) * 0x1p-24f;
  const std::uint32_t magnitude =
      exponent == 0 ? std::bit_cast<std::uint32_t>(subnormal) : normal;
  return std::bit_cast<float>(magnitude | ((bits & 0x8000u) << 16));
}

inline float ToFloat(Float8E5m2 x) {
  return ToFloat(Half{static_cast<std::uint16_t>(x.bits << 8)});
}

inline float ToFloat(Float8E4m3fn x) {
  const std::uint32_t magnitude = x.bits & 0x7fu;
  const std::uint32_t normal = (magnitude << 20) + (120u << 23);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(
      static_cast<float>(static_cast<std::int32_t>(magnitude)) * 0x1p-9f);
  const std::uint32_t finite = magnitude < 8 ? subnormal : normal;
  return std::bit_cast<float>((magnitude == 0x7f ? 0x7fc00000u : finite) |
                              ((x.bits & 0x80u) << 24));
}

// The magnitude that stands for a complex element: NaN if a part is NaN, else
// infinite if a part is; that of finite parts is finite (it saturates).
inline double Magnitude(double re, double im) {
  if (std::isnan(re) || std::isnan(im)) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double magnitude = std::hypot(re, im);
  if (std::isinf(magnitude) && std::isfinite(re) && std::isfinite(im)) {
    return std::numeric_limits<double>::max();
  }
  return magnitude;
}

// What Element<T> provides:
//   Work     the type that a reduction reads: float or double.
//   To(x)    the element in it.
//   Minus(a, b)  a - b, taken in double.
template <typename T>
struct Element;

template <typename T>
concept ExactInFloat = std::is_same_v<T, float> ||
    (std::is_integral_v<T> && sizeof(T) <= 2);

template <ExactInFloat T>
struct Element<T> {
  using Work = float;
  static float To(T x) { return static_cast<float>(x); }
  static double Minus(T a, T b) {
    return static_cast<double>(a) - static_cast<double>(b);
  }
};

template <>
struct Element<double> {
  using Work = double;
  static double To(double x) { return x; }
  static double Minus(double a, double b) { return a - b; }
};

template <>
struct Element<std::int32_t> {
  using Work = double;
  static double To(std::int32_t x) { return x; }
  static double Minus(std::int32_t a, std::int32_t b) {
    return static_cast<double>(a) - static_cast<double>(b);
  }
};

template <>
struct Element<std::int64_t> {
  using Work = double;
  static double To(std::int64_t x) { return static_cast<double>(x); }
  // The exact difference needs 65 bits: its size in 64, and its sign.
  static double Minus(std::int64_t a, std::int64_t b) {
    const auto ua = static_cast<std::uint64_t>(a);
    const auto ub = static_cast<std::uint64_t>(b);
    return a >= b ? static_cast<double>(ua - ub)
                  : -static_cast<double>(ub - ua);
  }
};

template <typename T>
struct SmallFloat {
  using Work = float;
  static float To(T x) { return ToFloat(x); }
  static double Minus(T a, T b) {
    return static_cast<double>(ToFloat(a)) - static_cast<double>(ToFloat(b));
  }
};
template <>
struct Element<Half> : SmallFloat<Half> {};
template <>
struct Element<Bfloat16> : SmallFloat<Bfloat16> {};
template <>
struct Element<Float8E4m3fn> : SmallFloat<Float8E4m3fn> {};
template <>
struct Element<Float8E5m2> : SmallFloat<Float8E5m2> {};

template <>
struct Element<Bool> {
  using Work = float;
  static float To(Bool x) { return x.byte != 0 ? 1.0f : 0.0f; }
  static double Minus(Bool a, Bool b) { return To(a) - To(b); }
};

// Parts that are floats, or differences of two: their squares stay in double.
template <>
struct Element<std::complex<float>> {
  using Work = double;
  static double To(std::complex<float> x) { return Length(x.real(), x.imag()); }
  static double Minus(std::complex<float> a, std::complex<float> b) {
    return Length(static_cast<double>(a.real()) - b.real(),
                  static_cast<double>(a.imag()) - b.imag());
  }
  // NaN if a part is: infinity plus NaN is NaN.
  static double Length(double re, double im) {
    return std::sqrt(re * re + im * im);
  }
};

template <>
struct Element<std::complex<double>> {
  using Work = double;
  static double To(std::complex<double> x) {
    return Magnitude(x.real(), x.imag());
  }
  static double Minus(std::complex<double> a, std::complex<double> b) {
    return Magnitude(a.real() - b.real(), a.imag() - b.imag());
  }
};

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_CONVERT_H_
