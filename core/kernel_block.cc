#include "core/kernel_block.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace gradtap::kernel {
namespace {

// Accumulators side by side, so that loops vectorise and additions overlap.
constexpr std::size_t kLanes = 8;

template <typename T>
struct FirstPass {
  double sum = 0;
  double abs_sum = 0;  // Not finite if an element is not, or if it overflowed.
  T min = std::numeric_limits<T>::infinity();
  T max = -std::numeric_limits<T>::infinity();
  std::uint64_t zero = 0;
};

double SumOf(const std::array<double, kLanes>& lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
         ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
}

template <typename T>
FirstPass<T> RunFirstPass(const T* x, std::size_t n) {
  // As wide as T, which vectorises; a block's count fits.
  using Count =
      std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  FirstPass<T> out;
  std::array<double, kLanes> sum{};
  std::array<double, kLanes> abs_sum{};
  std::array<T, kLanes> min;
  std::array<T, kLanes> max;
  std::array<Count, kLanes> zero{};
  min.fill(out.min);
  max.fill(out.max);
  const auto take = [&](std::size_t lane, T value) {
    const double wide = value;
    sum[lane] += wide;
    abs_sum[lane] += std::fabs(wide);
    min[lane] = value < min[lane] ? value : min[lane];
    max[lane] = value > max[lane] ? value : max[lane];
    zero[lane] += value == 0 ? 1 : 0;
  };
  const std::size_t whole = n - n % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) take(lane, x[i + lane]);
  }
  for (std::size_t i = whole; i < n; ++i) take(i - whole, x[i]);
  out.sum = SumOf(sum);
  out.abs_sum = SumOf(abs_sum);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    out.min = std::min(out.min, min[lane]);
    out.max = std::max(out.max, max[lane]);
    out.zero += zero[lane];
  }
  return out;
}

template <typename T>
double SumOfSquaredDeviations(const T* x, std::size_t n, double mean) {
  std::array<double, kLanes> sum{};
  const std::size_t whole = n - n % kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double deviation = static_cast<double>(x[i + lane]) - mean;
      sum[lane] += deviation * deviation;
    }
  }
  for (std::size_t i = whole; i < n; ++i) {
    const double deviation = static_cast<double>(x[i]) - mean;
    sum[i - whole] += deviation * deviation;
  }
  return SumOf(sum);
}

// From the first pass over finite elements, whose sums did not overflow.
template <typename T>
Moments Finish(const T* x, std::size_t n, const FirstPass<T>& first) {
  Moments m;
  m.finite = n;
  m.zero = first.zero;
  m.min = first.min;
  m.max = first.max;
  m.abs_mean = first.abs_sum / static_cast<double>(n);
  if (m.min == m.max) {  // Exactly, whatever their sum rounded to.
    m.mean = m.min;
    m.abs_mean = std::fabs(m.mean);
    return m;
  }
  m.mean = std::clamp(first.sum / static_cast<double>(n), m.min, m.max);
  m.m2 = SumOfSquaredDeviations(x, n, m.mean);
  return m;
}

// Above this, squares or sums of a block could overflow.
constexpr double kLargeBound = 0x1p500;
constexpr double kLargeScale = 0x1p-600;

double Unscale(double value) {
  return std::clamp(value / kLargeScale, -std::numeric_limits<double>::max(),
                    std::numeric_limits<double>::max());
}

// Finite elements of any size. Overwrites `x`.
Moments ReduceFinite(double* x, std::size_t n) {
  FirstPass<double> first = RunFirstPass(x, n);
  if (first.max <= kLargeBound && first.min >= -kLargeBound) {
    return Finish(x, n, first);
  }
  // Scaling is exact but for elements that cannot matter beside the largest;
  // zeros, min and max are those of the elements as they are.
  for (std::size_t i = 0; i < n; ++i) x[i] *= kLargeScale;
  const FirstPass<double> scaled = RunFirstPass(x, n);
  Moments m = Finish(x, n, scaled);
  m.zero = first.zero;
  m.min = first.min;
  m.max = first.max;
  m.mean = std::clamp(Unscale(m.mean), m.min, m.max);
  m.abs_mean = Unscale(m.abs_mean);
  m.m2 = std::min(m.m2 / kLargeScale / kLargeScale,
                  std::numeric_limits<double>::max());
  return m;
}

// Any elements: the finite ones are picked out first.
template <typename T>
Moments ReduceAny(const T* x, std::size_t n) {
  std::array<double, kBlock> finite;
  std::size_t count = 0;
  Moments others;
  for (std::size_t i = 0; i < n; ++i) {
    if (std::isfinite(x[i])) {
      finite[count++] = x[i];
    } else if (std::isnan(x[i])) {
      ++others.nan;
    } else if (x[i] > 0) {
      ++others.pos_inf;
    } else {
      ++others.neg_inf;
    }
  }
  if (count == 0) return others;
  return Merge(ReduceFinite(finite.data(), count), others);
}

}  // namespace

Moments ReduceBlock(const float* x, std::size_t n) {
  const FirstPass<float> first = RunFirstPass(x, n);
  // Sums of a block of finite floats are finite in double.
  if (std::isfinite(first.abs_sum)) return Finish(x, n, first);
  return ReduceAny(x, n);
}

Moments ReduceBlock(const double* x, std::size_t n) {
  const FirstPass<double> first = RunFirstPass(x, n);
  if (first.abs_sum <= kLargeBound) return Finish(x, n, first);
  return ReduceAny(x, n);  // NaN compares false, too.
}

void PairwiseMerger::Add(const Moments& block) {
  Moments carry = block;
  std::size_t level = 0;
  for (; (added_ >> level) & 1; ++level) carry = Merge(level_[level], carry);
  level_[level] = carry;
  ++added_;
}

Moments PairwiseMerger::Total() const {
  Moments total;
  for (std::size_t level = 0; level < level_.size(); ++level) {
    if ((added_ >> level) & 1) total = Merge(level_[level], total);
  }
  return total;
}

}  // namespace gradtap::kernel
