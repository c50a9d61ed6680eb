#include "core/kernel_simd_finish.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap::kernel {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

// What lanes of T can vouch for. u is T's unit roundoff, 2^-24 for float.
//
// Float: a sum goes through at most 8 roundings, one of squares through 9
// (chains of eight in a vector, two chains), before it is widened, and with a
// shift d is rounded once more. So squares are within 11u, and the sum within
// 9u of that of |d|. m2 = squares - sum^2 / n, where squares <= 1.5 m2, is
// within 16.5u + 15.6u, hence std within 16.1u = 9.6e-7. Without a shift it
// is 13.7u; a difference that was itself rounded to float adds u of its rms,
// which is below 1.3 std then. The error of the mean is at most 9u of the mean
// of |d|, which is below rms(d) and below abs_mean + |shift|: held under 1.75
// abs_mean it is 9.4e-7. abs_mean is within 8u. Squares below 2^-126 lose bits;
// beside a mean square of 2^-120 that does not matter.
template <typename T>
struct Trust;
template <>
struct Trust<float> {
  static constexpr double kSquaresOverM2 = 1.5;
  static constexpr double kDeviationOverAbs = 1.75;
  static constexpr double kLeastMeanSquare = 0x1p-120;
};
// Double: u = 2^-53 and at most some 40 roundings; there is room for a shift
// that is far off. Squares that vanish are those of deviations below float's.
template <>
struct Trust<double> {
  static constexpr double kSquaresOverM2 = 1e5;
  static constexpr double kDeviationOverAbs = 1e5;
  static constexpr double kLeastMeanSquare = 0;
};

// Above this, squares or sums of a block could overflow.
constexpr double kLargeBound = 0x1p500;
constexpr double kLargeScale = 0x1p-600;

double Unscale(double value, double scale) {
  if (scale == 1) return value;
  return std::clamp(value / scale, -kLargest, kLargest);
}

}  // namespace

template <typename T>
bool FinishShifted(const ShiftedSums& sums, std::size_t n, Moments* out) {
  if (!(sums.squares + sums.abs_sum <= kLargest)) return false;
  const double count = static_cast<double>(n);
  out->finite = n;
  out->zero = sums.zero;
  out->min = sums.min;
  out->max = sums.max;
  if (sums.min == sums.max) {  // Exactly, whatever their sum rounded to.
    out->mean = sums.min;
    out->abs_mean = std::fabs(sums.min);
    return true;
  }
  const double distance = sums.sum / count;  // Of the mean from the shift.
  out->mean = std::clamp(sums.shift + distance, sums.min, sums.max);
  out->m2 = sums.squares - sums.sum * distance;
  out->abs_mean = sums.abs_sum / count;
  if (!(out->m2 * Trust<T>::kSquaresOverM2 >= sums.squares) ||
      sums.squares < count * Trust<T>::kLeastMeanSquare) {
    return false;
  }
  if (sums.shift == 0) return true;
  const double most = Trust<T>::kDeviationOverAbs * out->abs_mean;
  return out->abs_mean + std::fabs(sums.shift) <= most ||
         sums.squares <= count * most * most;
}

template bool FinishShifted<float>(const ShiftedSums&, std::size_t, Moments*);
template bool FinishShifted<double>(const ShiftedSums&, std::size_t, Moments*);

double ScaleOf(const FiniteSums& sums) {
  const bool large =
      sums.finite != 0 && std::max(sums.max, -sums.min) > kLargeBound;
  return large ? kLargeScale : 1;
}

double MeanOf(const FiniteSums& sums) {
  return sums.sum / static_cast<double>(sums.finite);
}

Moments FinishFirst(const FiniteSums& sums, std::size_t n, double scale) {
  Moments m;
  m.zero = sums.zero;
  m.pos_inf = sums.pos_inf;
  m.neg_inf = sums.neg_inf;
  m.nan = n - sums.finite - sums.pos_inf - sums.neg_inf;
  if (sums.finite == 0) return m;
  m.finite = sums.finite;
  m.min = sums.min;
  m.max = sums.max;
  if (m.min == m.max) {
    m.mean = m.min;
    m.abs_mean = std::fabs(m.min);
    return m;
  }
  m.mean = std::clamp(Unscale(MeanOf(sums), scale), m.min, m.max);
  m.abs_mean = Unscale(sums.abs_sum / static_cast<double>(sums.finite), scale);
  return m;
}

void FinishSecond(double squares, double scale, Moments* moments) {
  moments->m2 = std::min(squares / scale / scale, kLargest);
}

}  // namespace gradtap::kernel
