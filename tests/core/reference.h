// What the kernels must compute, done slowly: element by element, in long
// double, whose range no element's square leaves.

#ifndef GRADTAP_TESTS_CORE_REFERENCE_H_
#define GRADTAP_TESTS_CORE_REFERENCE_H_

#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "core/kernel.h"
#include "core/kernel_convert.h"
#include "core/record.h"
#include "core/statistic.h"

namespace gradtap::testing {

template <typename T>
constexpr Dtype DtypeOf() {
  if (std::is_same_v<T, float>) return Dtype::kFloat32;
  if (std::is_same_v<T, double>) return Dtype::kFloat64;
  if (std::is_same_v<T, kernel::Half>) return Dtype::kFloat16;
  if (std::is_same_v<T, kernel::Bfloat16>) return Dtype::kBfloat16;
  if (std::is_same_v<T, std::int8_t>) return Dtype::kInt8;
  if (std::is_same_v<T, std::int16_t>) return Dtype::kInt16;
  if (std::is_same_v<T, std::int32_t>) return Dtype::kInt32;
  if (std::is_same_v<T, std::int64_t>) return Dtype::kInt64;
  if (std::is_same_v<T, std::uint8_t>) return Dtype::kUint8;
  if (std::is_same_v<T, kernel::Bool>) return Dtype::kBool;
  if (std::is_same_v<T, std::complex<float>>) return Dtype::kComplex64;
  if (std::is_same_v<T, std::complex<double>>) return Dtype::kComplex128;
  if (std::is_same_v<T, kernel::Float8E4m3fn>) return Dtype::kFloat8E4m3fn;
  if (std::is_same_v<T, kernel::Float8E5m2>) return Dtype::kFloat8E5m2;
  return Dtype::kUnsupported;
}

// binary16 by its definition.
inline long double Exact(kernel::Half x) {
  const int exponent = (x.bits >> 10) & 31;
  const int mantissa = x.bits & 1023;
  const long double sign = (x.bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 31) {
    return mantissa != 0 ? std::numeric_limits<long double>::quiet_NaN()
                         : sign * std::numeric_limits<long double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(1.0L * mantissa, -24);
  return sign * std::ldexp(1024.0L + mantissa, exponent - 25);
}
// bfloat16 by its definition.
inline long double Exact(kernel::Bfloat16 x) {
  const int exponent = (x.bits >> 7) & 255;
  const int mantissa = x.bits & 127;
  const long double sign = (x.bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == 255) {
    return mantissa != 0 ? std::numeric_limits<long double>::quiet_NaN()
                         : sign * std::numeric_limits<long double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(1.0L * mantissa, -133);
  return sign * std::ldexp(128.0L + mantissa, exponent - 134);
}
// Float8 by its definition.
inline long double Exact(kernel::Float8E4m3fn x) {
  const int exponent = (x.bits >> 3) & 15;
  const int mantissa = x.bits & 7;
  const long double sign = (x.bits & 0x80) != 0 ? -1 : 1;
  if (exponent == 15 && mantissa == 7) {
    return std::numeric_limits<long double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(1.0L * mantissa, -9);
  return sign * std::ldexp(8.0L + mantissa, exponent - 10);
}
inline long double Exact(kernel::Float8E5m2 x) {
  const int exponent = (x.bits >> 2) & 31;
  const int mantissa = x.bits & 3;
  const long double sign = (x.bits & 0x80) != 0 ? -1 : 1;
  if (exponent == 31) {
    return mantissa != 0 ? std::numeric_limits<long double>::quiet_NaN()
                         : sign * std::numeric_limits<long double>::infinity();
  }
  if (exponent == 0) return sign * std::ldexp(1.0L * mantissa, -16);
  return sign * std::ldexp(4.0L + mantissa, exponent - 17);
}
inline long double Exact(kernel::Bool x) { return x.byte != 0 ? 1 : 0; }

inline long double ExactMagnitude(long double re, long double im) {
  if (std::isnan(re) || std::isnan(im)) {
    return std::numeric_limits<long double>::quiet_NaN();
  }
  const long double magnitude = std::hypot(re, im);
  if (std::isinf(magnitude)) return magnitude;
  constexpr long double kMax = std::numeric_limits<double>::max();
  return std::fmin(magnitude, kMax);
}
template <typename T>
long double Exact(std::complex<T> x) {
  return ExactMagnitude(x.real(), x.imag());
}
template <typename T>
requires std::is_arithmetic_v<T>
long double Exact(T x) { return x; }

// a - b; infinite where it is so in double.
inline long double DifferenceInDouble(long double a, long double b) {
  const long double exact = a - b;
  const double rounded = static_cast<double>(exact);
  return std::isfinite(rounded) ? exact : static_cast<long double>(rounded);
}
template <typename T>
long double ExactDifference(T a, T b) {
  return DifferenceInDouble(Exact(a), Exact(b));
}
template <typename T>
long double ExactDifference(std::complex<T> a, std::complex<T> b) {
  return ExactMagnitude(DifferenceInDouble(a.real(), b.real()),
                        DifferenceInDouble(a.imag(), b.imag()));
}

// Element by element.
template <typename T>
std::vector<long double> Differences(const std::vector<T>& a,
                                     const std::vector<T>& b) {
  std::vector<long double> all;
  for (std::size_t i = 0; i < a.size(); ++i) {
    all.push_back(ExactDifference(a[i], b[i]));
  }
  return all;
}

struct Reference {
  std::uint64_t finite = 0, zero = 0, nan = 0, pos_inf = 0, neg_inf = 0;
  long double mean = 0, std = 0, abs_mean = 0, min = 0, max = 0;
  long double l2 = 0, rms = 0;

  std::uint64_t numel() const { return finite + nan + pos_inf + neg_inf; }
};

inline Reference ReferenceOf(const std::vector<long double>& elements) {
  Reference r;
  std::vector<long double> finite;
  for (const long double x : elements) {
    if (std::isnan(x)) {
      ++r.nan;
    } else if (std::isinf(x)) {
      ++(x > 0 ? r.pos_inf : r.neg_inf);
    } else {
      finite.push_back(x);
      r.zero += x == 0 ? 1 : 0;
    }
  }
  r.finite = finite.size();
  if (finite.empty()) return r;
  const long double n = static_cast<long double>(finite.size());
  r.min = r.max = finite[0];
  long double squares = 0;
  for (const long double x : finite) {
    r.mean += x / n;
    r.abs_mean += std::fabs(x) / n;
    squares += x * x;
    r.min = std::fmin(r.min, x);
    r.max = std::fmax(r.max, x);
  }
  long double m2 = 0;
  for (const long double x : finite) m2 += (x - r.mean) * (x - r.mean);
  r.std = std::sqrt(m2 / n);
  r.l2 = std::sqrt(squares);
  r.rms = std::sqrt(squares / n);
  return r;
}

// Collects what is out of bounds, in words.
class BoundsCheck {
 public:
  void Within(const char* what, long double got, long double low,
              long double high) {
    if (got >= low && got <= high) return;
    out_.precision(20);
    out_ << what << ": got " << got << ", want " << low << " to " << high
         << "; ";
  }
  void Equal(const char* what, std::uint64_t got, std::uint64_t want) {
    if (got == want) return;
    out_ << what << ": got " << got << ", want " << want << "; ";
  }
  void NaN(const char* what, long double got) {
    if (!std::isnan(got)) out_ << what << ": got " << got << ", want NaN; ";
  }
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

// The bounds of core/README.md; after a merge, std's is wider. Returns what is
// out of bounds, or "".
inline std::string OutOfBounds(const Record& got, const Reference& want,
                               bool merged = false) {
  BoundsCheck check;
  check.Equal("zero", got.zero, want.zero);
  check.Equal("nan", got.nan, want.nan);
  check.Equal("pos_inf", got.pos_inf, want.pos_inf);
  check.Equal("neg_inf", got.neg_inf, want.neg_inf);
  const std::uint64_t numel = want.numel();
  if (want.finite == 0) {
    for (const float x : {got.mean, got.std, got.abs_mean, got.min, got.max}) {
      check.NaN("a float", x);
    }
    check.NaN("rms", Derive(Field::kRms, got, numel));
    return check.str();
  }
  // Bounds hold before saturation: of values beyond float, a mean that cancels
  // may be anything within 1e-6 of theirs.
  constexpr long double kMax = std::numeric_limits<float>::max();
  const long double tiny = std::ldexp(1.0L, -149);
  const auto near = [&](const char* what, long double value, long double exact,
                        long double bound) {
    const auto saturated = [](long double x) {
      return std::fmin(std::fmax(x, -kMax), kMax);
    };
    check.Within(what, value, saturated(exact - bound - tiny),
                 saturated(exact + bound + tiny));
  };
  const long double mean = std::fabs(want.mean);
  near("min", got.min, want.min, 1e-6L * std::fabs(want.min));
  near("max", got.max, want.max, 1e-6L * std::fabs(want.max));
  near("abs_mean", got.abs_mean, want.abs_mean, 1e-6L * want.abs_mean);
  near("mean", got.mean, want.mean, 1e-6L * want.abs_mean);
  near("std", got.std, want.std,
       merged ? 1e-6L * (mean + want.std) : 1e-6L * want.std + 1e-9L * mean);
  // Beyond float, a length of which a part or both saturated.
  const bool fits = want.rms <= kMax;
  const long double low = fits ? want.rms : kMax;
  const long double high = fits ? want.rms : std::sqrt(2.0L) * kMax;
  const long double root = std::sqrt(static_cast<long double>(want.finite));
  check.Within("rms", Derive(Field::kRms, got, numel), low * (1 - 1e-6L) - tiny,
               high * (1 + 1e-6L) + tiny);
  check.Within("l2", Derive(Field::kL2, got, numel),
               root * (low * (1 - 1e-6L) - tiny),
               root * (high * (1 + 1e-6L) + tiny));
  return check.str();
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_CORE_REFERENCE_H_
