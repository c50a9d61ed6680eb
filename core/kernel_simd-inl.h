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

// A group's sums are taken in lanes, in two chains that take vectors by turns,
// and then widened.
inline constexpr std::size_t kGroup = 16;  // Vectors.

// Sums up a unit.
template <class D>
class Summer {
 public:
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;

  explicit HWY_INLINE Summer(T shift)
      : shift_(hn::Set(D(), shift)),
        min_(hn::Set(D(), std::numeric_limits<T>::infinity())),
        max_(hn::Neg(min_)),
        wide_(NoSums(DoubleTag())) {}

  HWY_INLINE void Take(V x, Sums<V>& to) {
    const V deviation = hn::Sub(x, shift_);
    to.sum = hn::Add(to.sum, deviation);
    to.squares = hn::MulAdd(deviation, deviation, to.squares);
    to.abs = hn::Add(to.abs, hn::Abs(x));
    min_ = hn::Min(min_, x);
    max_ = hn::Max(max_, x);
    zero_.Add(hn::Eq(x, hn::Zero(D())));
  }

  // The lanes of `x` that have an element.
  HWY_INLINE void TakeSome(const Tail<D>& x, Sums<V>& to) {
    const V deviation = hn::IfThenElseZero(x.which, hn::Sub(x.x, shift_));
    to.sum = hn::Add(to.sum, deviation);
    to.squares = hn::MulAdd(deviation, deviation, to.squares);
    to.abs = hn::Add(to.abs, hn::IfThenElseZero(x.which, hn::Abs(x.x)));
    min_ = hn::Min(min_, hn::IfThenElse(x.which, x.x, min_));
    max_ = hn::Max(max_, hn::IfThenElse(x.which, x.x, max_));
    zero_.Add(hn::And(x.which, hn::Eq(x.x, hn::Zero(D()))));
  }

  // With the chains of a group.
  HWY_INLINE void EndGroup(const Sums<V>& even, const Sums<V>& odd) {
    const Sums<V> all = Plus(even, odd);
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
            zero_.Total()};
  }

 private:
  const V shift_;
  V min_;
  V max_;
  Sums<hn::Vec<DoubleTag>> wide_;
  LaneCounter<D> zero_;
};

// Hands a unit of `n` elements to `pass`, vector by vector, the chains by
// turns; then what is left, and the end of each group. (The chains are
// variables here: as members, GCC keeps them in memory.)
template <class Pass>
HWY_INLINE void RunPass(std::size_t n, Pass& pass) {
  const std::size_t lanes = hn::Lanes(typename Pass::D());
  const std::size_t turn = 2 * lanes;
  for (std::size_t i = 0; i < n;) {
    const std::size_t end = std::min(n, i + kGroup * lanes);
    typename Pass::Chain even = Pass::NewChain(), odd = Pass::NewChain();
    for (; i + turn <= end; i += turn) {
      pass.Fetch(i, turn);
      pass.Take(i, even);
      pass.Take(i + lanes, odd);
    }
    if (i < end) {  // The end of the unit: less than a turn.
      if (i + lanes <= end) {
        pass.Take(i, even);
        i += lanes;
      }
      if (i < end) pass.TakeLast(end - i, odd);
      i = end;
    }
    pass.EndGroup(even, odd);
  }
}

// ---- Exact: two passes in double over what is finite -----------------------

// Of `padded` doubles, a whole number of vectors, each times `scale`; min, max
// and counts are those of the elements as they are.
HWY_INLINE FiniteSums SumFinite(const double* x, std::size_t padded,
                                double scale) {
  const DoubleTag d;
  const Doubles inf = hn::Set(d, std::numeric_limits<double>::infinity());
  const Doubles factor = hn::Set(d, scale);
  Doubles sum = hn::Zero(d), abs = hn::Zero(d), min = inf, max = hn::Neg(inf);
  LaneCounter<DoubleTag> finite_lanes, zero;
  for (std::size_t i = 0; i < padded; i += hn::Lanes(d)) {
    const Doubles v = hn::LoadU(d, x + i);
    const auto finite = hn::Lt(hn::Abs(v), inf);
    const Doubles scaled = hn::IfThenElseZero(finite, hn::Mul(v, factor));
    sum = hn::Add(sum, scaled);
    abs = hn::Add(abs, hn::Abs(scaled));
    min = hn::Min(min, hn::IfThenElse(finite, v, inf));
    max = hn::Max(max, hn::IfThenElse(finite, v, hn::Neg(inf)));
    finite_lanes.Add(finite);
    zero.Add(hn::Eq(v, hn::Zero(d)));
  }
  FiniteSums out;
  out.finite = finite_lanes.Total();
  out.zero = zero.Total();
  if (out.finite != padded) {
    LaneCounter<DoubleTag> pos_inf, neg_inf;
    for (std::size_t i = 0; i < padded; i += hn::Lanes(d)) {
      const Doubles v = hn::LoadU(d, x + i);
      pos_inf.Add(hn::Eq(v, inf));
      neg_inf.Add(hn::Eq(v, hn::Neg(inf)));
    }
    out.pos_inf = pos_inf.Total();
    out.neg_inf = neg_inf.Total();
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
HWY_INLINE void FinishUnit(const Source& source, std::size_t n,
                           const ShiftedSums& sums, Moments* out) {
  using T = hn::TFromD<decltype(Source::Tag())>;
  if (!FinishShifted<T>(sums, n, out)) *out = RunExactly(source, n);
}

// The moments of x. (Methods, not lambdas: GCC takes out a lambda that does
// nothing but prefetch.)
template <typename T>
class ReducePass {
 public:
  using D = decltype(Plain<T>::Tag());
  using Chain = Sums<hn::Vec<D>>;

  static HWY_INLINE Chain NewChain() { return NoSums(D()); }

  HWY_INLINE ReducePass(const T* x, std::size_t n)
      : source_{x}, n_(n), summer_(ChooseShift(source_, n)) {}

  HWY_INLINE void Fetch(std::size_t i, std::size_t n) { source_.Fetch(i, n); }
  HWY_INLINE void Take(std::size_t i, Chain& to) {
    summer_.Take(source_.Load(i), to);
  }
  HWY_INLINE void TakeLast(std::size_t left, Chain& to) {
    summer_.TakeSome(LoadTail(source_, n_, left), to);
  }
  HWY_INLINE void EndGroup(const Chain& even, const Chain& odd) {
    summer_.EndGroup(even, odd);
  }
  HWY_INLINE void Finish(Moments* out) {
    FinishUnit(source_, n_, summer_.Total(), out);
  }

 private:
  const Plain<T> source_;
  const std::size_t n_;
  Summer<D> summer_;
};

template <typename T>
HWY_INLINE void Run(const T* x, std::size_t n, Moments* out) {
  ReducePass<T> pass(x, n);
  RunPass(n, pass);
  pass.Finish(out);
}

// Besides, the moments of x - previous, and x is copied to previous. What that
// held is kept until both are finished.
template <typename T>
class UpdatePass {
 public:
  using D = decltype(Plain<T>::Tag());
  struct Chain {
    Sums<hn::Vec<D>> weight, update;
  };

  static HWY_INLINE Chain NewChain() { return {NoSums(D()), NoSums(D())}; }

  HWY_INLINE UpdatePass(const T* x, T* previous, T* before, std::size_t n)
      : source_{x},
        change_{{x}, {previous}},
        previous_(previous),
        before_(before),
        n_(n),
        summer_(ChooseShift(source_, n)),
        change_summer_(ChooseShift(change_, n)) {}

  HWY_INLINE void Fetch(std::size_t i, std::size_t n) {
    source_.Fetch(i, n);
    change_.Fetch(i, n);
  }
  HWY_INLINE void Take(std::size_t i, Chain& to) {
    const auto now = source_.Load(i);
    const auto difference = change_.Load(i);
    using Bits = std::conditional_t<sizeof(T) == 2, std::uint16_t, T>;
    const hn::Rebind<Bits, D> bits;
    Bits* const previous = reinterpret_cast<Bits*>(previous_ + i);
    hn::StoreU(hn::LoadU(bits, previous), bits,
               reinterpret_cast<Bits*>(before_ + i));
    hn::StoreU(hn::LoadU(bits, reinterpret_cast<const Bits*>(source_.x + i)),
               bits, previous);
    summer_.Take(now, to.weight);
    change_summer_.Take(difference, to.update);
  }
  HWY_INLINE void TakeLast(std::size_t left, Chain& to) {
    summer_.TakeSome(LoadTail(source_, n_, left), to.weight);
    change_summer_.TakeSome(LoadTail(change_, n_, left), to.update);
    const std::size_t i = n_ - left;
    std::memcpy(before_ + i, previous_ + i, left * sizeof(T));
    std::memcpy(previous_ + i, source_.x + i, left * sizeof(T));
  }
  HWY_INLINE void EndGroup(const Chain& even, const Chain& odd) {
    summer_.EndGroup(even.weight, odd.weight);
    change_summer_.EndGroup(even.update, odd.update);
  }
  HWY_INLINE void Finish(Moments* weight, Moments* update) {
    FinishUnit(source_, n_, summer_.Total(), weight);
    FinishUnit(Difference<T>{source_, {before_}}, n_, change_summer_.Total(),
               update);
  }

 private:
  const PlainOfTwo<T> source_;
  const Difference<T> change_;
  T* const previous_;
  T* const before_;
  const std::size_t n_;
  Summer<D> summer_;
  Summer<D> change_summer_;
};

template <typename T>
HWY_INLINE void RunBoth(const T* x, T* previous, std::size_t n, Moments* weight,
                        Moments* update) {
  T before[kUnit];
  UpdatePass<T> pass(x, previous, before, n);
  RunPass(n, pass);
  pass.Finish(weight, update);
}

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#endif  // Target toggle.
