#include "core/record.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace gradtap {
namespace {

constexpr double kLargest = std::numeric_limits<double>::max();

std::uint64_t SaturatingAdd(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t sum = a + b;
  return sum < a ? std::numeric_limits<std::uint64_t>::max() : sum;
}

// a + w * (b - a), for finite a and b and w in [0, 1], without overflow.
double Interpolate(double a, double b, double w) {
  const double delta = b - a;
  if (std::isfinite(delta)) return a + w * delta;
  return a * (1 - w) + b * w;  // Of opposite signs: no overflow.
}

// Rounded to nearest once; what exceeds float saturates. NaN stays. A thread
// that flushes subnormals to zero would lose them in a conversion: those are
// counted in units of the smallest one.
float RoundToFloat(double value) {
  constexpr double kMax = std::numeric_limits<float>::max();
  if (std::fabs(value) < std::numeric_limits<float>::min()) {
    const double units = std::nearbyint(std::fabs(value) * 0x1p149);
    const auto bits = static_cast<std::uint32_t>(units);
    return std::bit_cast<float>(bits | (std::signbit(value) ? 1u << 31 : 0u));
  }
  if (value > kMax) return std::numeric_limits<float>::max();
  if (value < -kMax) return -std::numeric_limits<float>::max();
  return static_cast<float>(value);
}

}  // namespace

Moments Merge(const Moments& a, const Moments& b) {
  Moments out = a.finite == 0 ? b : a;
  if (a.finite != 0 && b.finite != 0) {
    out.finite = SaturatingAdd(a.finite, b.finite);
    const double na = static_cast<double>(a.finite);
    const double weight_of_b =
        static_cast<double>(b.finite) / (na + static_cast<double>(b.finite));
    const double delta = b.mean - a.mean;
    out.mean = Interpolate(a.mean, b.mean, weight_of_b);
    out.abs_mean = Interpolate(a.abs_mean, b.abs_mean, weight_of_b);
    const double m2 = a.m2 + b.m2 + delta * delta * na * weight_of_b;
    out.m2 = m2 > kLargest ? kLargest : m2;
    out.min = std::min(a.min, b.min);
    out.max = std::max(a.max, b.max);
  }
  out.zero = SaturatingAdd(a.zero, b.zero);
  out.nan = SaturatingAdd(a.nan, b.nan);
  out.pos_inf = SaturatingAdd(a.pos_inf, b.pos_inf);
  out.neg_inf = SaturatingAdd(a.neg_inf, b.neg_inf);
  return out;
}

Record ToRecord(const Moments& moments) {
  Record record;
  record.zero = moments.zero;
  record.nan = moments.nan;
  record.pos_inf = moments.pos_inf;
  record.neg_inf = moments.neg_inf;
  if (moments.finite == 0) return record;
  record.mean = RoundToFloat(moments.mean);
  record.std =
      RoundToFloat(std::sqrt(moments.m2 / static_cast<double>(moments.finite)));
  record.abs_mean = RoundToFloat(moments.abs_mean);
  record.min = RoundToFloat(moments.min);
  record.max = RoundToFloat(moments.max);
  return record;
}

Moments ToMoments(const Record& record, std::uint64_t numel) {
  Moments moments;
  moments.zero = record.zero;
  moments.nan = record.nan;
  moments.pos_inf = record.pos_inf;
  moments.neg_inf = record.neg_inf;
  const std::uint64_t nonfinite =
      SaturatingAdd(record.nan, SaturatingAdd(record.pos_inf, record.neg_inf));
  if (nonfinite >= numel) return moments;
  moments.finite = numel - nonfinite;
  const double std = record.std;
  moments.mean = record.mean;
  moments.m2 = static_cast<double>(moments.finite) * (std * std);
  moments.abs_mean = record.abs_mean;
  moments.min = record.min;
  moments.max = record.max;
  return moments;
}

}  // namespace gradtap
