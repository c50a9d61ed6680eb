// The body of kernel_simd.cc, once for each target (Highway's way of inclusion:
// no usual guard).
//
// Layer: core. Included by kernel_simd.cc alone.

#if defined(GRADTAP_CORE_KERNEL_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADTAP_CORE_KERNEL_SIMD_INL_H_
#undef GRADTAP_CORE_KERNEL_SIMD_INL_H_
#else
#define GRADTAP_CORE_KERNEL_SIMD_INL_H_
#endif

#include "core/kernel_lanes-inl.h"
#include "core/kernel_simd_finish.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gradtap::kernel {
namespace HWY_NAMESPACE {

// ---- Fast: one pass of shifted sums ----------------------------------------

template <class V>
struct Sums {  // Of d = x - shift, d * d and |x|.
  V sum, squares, abs;
};

template <class D>
HWY_INLINE Sums<hn::Vec<D>> NoSums(D d) {
  return {hn::Zero(d), hn::Zero(d), hn::Zero(d)};
}

template <class V>
HWY_INLINE Sums<V> Plus(const Sums<V>& a, const Sums<V>& b) {
  return {hn::Add(a.sum, b.sum), hn::Add(a.squares, b.squares),
          hn::Add(a.abs, b.abs)};
}

HWY_INLINE Doubles Widened(Floats v) {
#if HWY_TARGET == HWY_SCALAR
  return hn::PromoteTo(DoubleTag(), v);
#else
  const hn::Half<FloatTag> half;
  const DoubleTag d;
  return hn::Add(hn::PromoteTo(d, hn::LowerHalf(half, v)),
                 hn::PromoteTo(d, hn::UpperHalf(half, v)));
#endif
}
HWY_INLINE Doubles Widened(Doubles v) { return v; }

// The last `left` of `n` elements, fewer than lanes, and which lanes have them.
template <class D>
struct Tail {
  hn::Vec<D> x;
  hn::Mask<D> which;
};
template <class Source, class D = decltype(Source::Tag())>
HWY_INLINE Tail<D> LoadTail(const Source& source, std::size_t n,
                            std::size_t left) {
  const D d;
  const std::size_t lanes = hn::Lanes(d);
  if (n < lanes) return {source.LoadShort(n), hn::FirstN(d, n)};
  // With some before them, which are left out.
  return {source.Load(n - lanes), hn::Not(hn::FirstN(d, lanes - left))};
}

// A shift is of use if the mean is not small against the elements. It is the
// mean of the first few: a guess, that Finish() checks.
inline constexpr std::size_t kSample = 64;
template <class Source, class D = decltype(Source::Tag())>
HWY_INLINE hn::TFromD<D> ChooseShift(const Source& source, std::size_t n) {
  using T = hn::TFromD<D>;
  if constexpr (!Source::kExact) return 0;
  const D d;
  const std::size_t lanes = hn::Lanes(d);
  n = std::min(n, kSample);
  hn::Vec<D> sum = hn::Zero(d);
  hn::Vec<D> abs = hn::Zero(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const hn::Vec<D> x = source.Load(i);
    sum = hn::Add(sum, x);
    abs = hn::Add(abs, hn::Abs(x));
  }
  if (i < n) {
    const Tail<D> tail = LoadTail(source, n, n - i);
    const hn::Vec<D> x = hn::IfThenElseZero(tail.which, tail.x);
    sum = hn::Add(sum, x);
    abs = hn::Add(abs, hn::Abs(x));
  }
  const T total = hn::GetLane(hn::SumOfLanes(d, sum));
  const T abs_total = hn::GetLane(hn::SumOfLanes(d, abs));
  const bool finite = abs_total <= std::numeric_limits<T>::max();
  return finite && std::fabs(total) > abs_total / 2 ? total / static_cast<T>(n)
                                                    : T{0};
}

// Sums up a unit, group by group. A group's sums are taken in lanes (four
// chains of four vectors) and then widened.
template <class Source>
class Summer {
 public:
  using D = decltype(Source::Tag());
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  HWY_INLINE Summer(const Source& source, std::size_t n, T shift)
      : source_(source),
        n_(n),
        shift_(hn::Set(D(), shift)),
        min_(hn::Set(D(), std::numeric_limits<T>::infinity())),
        max_(hn::Neg(min_)),
        wide_(NoSums(DoubleTag())) {}

  static HWY_INLINE std::size_t GroupSize() { return 16 * hn::Lanes(D()); }

  // The elements from `i` on: a group, or less at the end of the unit.
  HWY_INLINE void Take(std::size_t i) {
    const D d;
    const std::size_t lanes = hn::Lanes(d);
    Sums<V> a = NoSums(d), b = NoSums(d), c = NoSums(d), e = NoSums(d);
    const std::size_t end = std::min(n_, i + GroupSize());
    for (; i + 4 * lanes <= end; i += 4 * lanes) {
      source_.Fetch(i, 4 * lanes);
      Take(source_.Load(i), a);
      Take(source_.Load(i + lanes), b);
      Take(source_.Load(i + 2 * lanes), c);
      Take(source_.Load(i + 3 * lanes), e);
    }
    if (i < end) {  // The end of the unit: less than four vectors.
      const std::size_t whole = (end - i) / lanes;
      if (whole > 0) Take(source_.Load(i), a);
      if (whole > 1) Take(source_.Load(i + lanes), b);
      if (whole > 2) Take(source_.Load(i + 2 * lanes), c);
      const std::size_t left = end - i - whole * lanes;
      if (left > 0) {
        const Tail<D> tail = LoadTail(source_, n_, left);
        TakeSome(tail.x, tail.which, e);
      }
    }
    const Sums<V> all = Plus(Plus(a, b), Plus(c, e));
    wide_ =
        Plus(wide_, {Widened(all.sum), Widened(all.squares), Widened(all.abs)});
  }

  HWY_INLINE ShiftedSums Total() const {
    const D d;
    const DoubleTag dd;
    return {static_cast<double>(hn::GetLane(shift_)),
            hn::GetLane(hn::SumOfLanes(dd, wide_.sum)),
            hn::GetLane(hn::SumOfLanes(dd, wide_.squares)),
            hn::GetLane(hn::SumOfLanes(dd, wide_.abs)),
            static_cast<double>(hn::GetLane(hn::MinOfLanes(d, min_))),
            static_cast<double>(hn::GetLane(hn::MaxOfLanes(d, max_))),
            zero_};
  }

 private:
  HWY_INLINE void Take(V x, Sums<V>& to) {
    const D d;
    const V deviation = hn::Sub(x, shift_);
    to.sum = hn::Add(to.sum, deviation);
    to.squares = hn::MulAdd(deviation, deviation, to.squares);
    to.abs = hn::Add(to.abs, hn::Abs(x));
    min_ = hn::Min(min_, x);
    max_ = hn::Max(max_, x);
    zero_ += hn::CountTrue(d, hn::Eq(x, hn::Zero(d)));
  }

  HWY_INLINE void TakeSome(V x, hn::Mask<D> which, Sums<V>& to) {
    const D d;
    const V deviation = hn::IfThenElseZero(which, hn::Sub(x, shift_));
    to.sum = hn::Add(to.sum, deviation);
    to.squares = hn::MulAdd(deviation, deviation, to.squares);
    to.abs = hn::Add(to.abs, hn::IfThenElseZero(which, hn::Abs(x)));
    min_ = hn::Min(min_, hn::IfThenElse(which, x, min_));
    max_ = hn::Max(max_, hn::IfThenElse(which, x, max_));
    zero_ += hn::CountTrue(d, hn::And(which, hn::Eq(x, hn::Zero(d))));
  }

  const Source source_;
  const std::size_t n_;
  const V shift_;
  V min_;
  V max_;
  Sums<hn::Vec<DoubleTag>> wide_;
  std::size_t zero_ = 0;
};

// ---- Exact: two passes in double over what is finite -----------------------

// Of `padded` doubles, a whole number of vectors, each times `scale`; min, max
// and counts are those of the elements as they are.
HWY_INLINE FiniteSums SumFinite(const double* x, std::size_t padded,
                                double scale) {
  const DoubleTag d;
  const Doubles inf = hn::Set(d, std::numeric_limits<double>::infinity());
  const Doubles factor = hn::Set(d, scale);
  Doubles sum = hn::Zero(d), abs = hn::Zero(d), min = inf, max = hn::Neg(inf);
  FiniteSums out;
  for (std::size_t i = 0; i < padded; i += hn::Lanes(d)) {
    const Doubles v = hn::LoadU(d, x + i);
    const auto finite = hn::Lt(hn::Abs(v), inf);
    const Doubles scaled = hn::IfThenElseZero(finite, hn::Mul(v, factor));
    sum = hn::Add(sum, scaled);
    abs = hn::Add(abs, hn::Abs(scaled));
    min = hn::Min(min, hn::IfThenElse(finite, v, inf));
    max = hn::Max(max, hn::IfThenElse(finite, v, hn::Neg(inf)));
    out.finite += hn::CountTrue(d, finite);
    out.zero += hn::CountTrue(d, hn::Eq(v, hn::Zero(d)));
  }
  if (out.finite != padded) {
    for (std::size_t i = 0; i < padded; i += hn::Lanes(d)) {
      const Doubles v = hn::LoadU(d, x + i);
      out.pos_inf += hn::CountTrue(d, hn::Eq(v, inf));
      out.neg_inf += hn::CountTrue(d, hn::Eq(v, hn::Neg(inf)));
    }
  }
  out.sum = hn::GetLane(hn::SumOfLanes(d, sum));
  out.abs_sum = hn::GetLane(hn::SumOfLanes(d, abs));
  out.min = hn::GetLane(hn::MinOfLanes(d, min));
  out.max = hn::GetLane(hn::MaxOfLanes(d, max));
  return out;
}

HWY_INLINE double SumDeviations(const double* x, std::size_t padded,
                                double scale, double mean) {
  const DoubleTag d;
  const Doubles inf = hn::Set(d, std::numeric_limits<double>::infinity());
  const Doubles factor = hn::Set(d, scale);
  const Doubles middle = hn::Set(d, mean);
  Doubles sum = hn::Zero(d), other = sum;  // Two chains, by turns.
  for (std::size_t i = 0; i < padded; i += hn::Lanes(d)) {
    const Doubles v = hn::LoadU(d, x + i);
    const auto finite = hn::Lt(hn::Abs(v), inf);
    const Doubles deviation =
        hn::IfThenElseZero(finite, hn::MulSub(v, factor, middle));
    const Doubles next = hn::MulAdd(deviation, deviation, other);
    other = sum;
    sum = next;
  }
  sum = hn::Add(sum, other);
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

inline constexpr std::size_t kExactBlock = 1024;

template <class Source>
HWY_NOINLINE Moments RunExactly(const Source& source, std::size_t n) {
  double x[kExactBlock + hn::MaxLanes(DoubleTag())];
  Moments all;
  for (std::size_t i = 0; i < n; i += kExactBlock) {
    const std::size_t size = std::min(kExactBlock, n - i);
    source.Widen(i, size, x);
    std::size_t padded = size;
    for (; padded % hn::Lanes(DoubleTag()) != 0; ++padded) {
      x[padded] = std::numeric_limits<double>::quiet_NaN();  // Left out.
    }
    FiniteSums sums = SumFinite(x, padded, 1);
    const double scale = ScaleOf(sums);
    if (scale != 1) sums = SumFinite(x, padded, scale);
    Moments block = FinishFirst(sums, size, scale);
    if (block.finite != 0 && block.min != block.max) {
      FinishSecond(SumDeviations(x, padded, scale, MeanOf(sums)), scale,
                   &block);
    }
    all = Merge(all, block);
  }
  return all;
}

template <class Source>
HWY_INLINE void Finish(const Source& source, std::size_t n,
                       const ShiftedSums& sums, Moments* out) {
  using T = hn::TFromD<decltype(Source::Tag())>;
  if (!FinishShifted<T>(sums, n, out)) *out = RunExactly(source, n);
}

template <typename T>
HWY_INLINE void Run(const T* x, std::size_t n, Moments* out) {
  const Plain<T> source{x};
  Summer<Plain<T>> summer(source, n, ChooseShift(source, n));
  for (std::size_t i = 0; i < n; i += summer.GroupSize()) summer.Take(i);
  Finish(source, n, summer.Total(), out);
}

// Copies previous to before and x to previous.
template <typename T>
HWY_INLINE void MoveOn(const T* x, std::size_t n, T* previous, T* before) {
  using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, T>;
  const hn::ScalableTag<Bits> d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto old = hn::LoadU(d, reinterpret_cast<const Bits*>(previous + i));
    const auto now = hn::LoadU(d, reinterpret_cast<const Bits*>(x + i));
    hn::StoreU(old, d, reinterpret_cast<Bits*>(before + i));
    hn::StoreU(now, d, reinterpret_cast<Bits*>(previous + i));
  }
  std::memcpy(before + i, previous + i, (n - i) * sizeof(T));
  std::memcpy(previous + i, x + i, (n - i) * sizeof(T));
}

// What `previous` held is kept until both are finished.
template <typename T>
HWY_INLINE void RunBoth(const T* x, T* previous, std::size_t n, Moments* weight,
                        Moments* update) {
  T before[kUnit];
  const PlainOfTwo<T> source{x};
  const Difference<T> change{{x}, {previous}};
  Summer<PlainOfTwo<T>> summer(source, n, ChooseShift(source, n));
  Summer<Difference<T>> change_summer(change, n, ChooseShift(change, n));
  const std::size_t group = summer.GroupSize();
  for (std::size_t i = 0; i < n; i += group) {
    change_summer.Take(i);
    summer.Take(i);
    MoveOn(x + i, std::min(group, n - i), previous + i, before + i);
  }
  Finish(source, n, summer.Total(), weight);
  Finish(Difference<T>{{x}, {before}}, n, change_summer.Total(), update);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#endif  // Target toggle.
