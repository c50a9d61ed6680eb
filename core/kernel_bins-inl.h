// The body of kernel_bins.cc, once for each target (Highway's way of inclusion:
// no usual guard).
//
// Elements of a tensor lie within few powers of two. So a window of 32
// exponents is laid below the largest of the first elements, and each element
// becomes one bit of a 32-bit lane. Bits are added up by place: vectors go
// through carry-save adders into planes of weight 1, 2, 4, ..., which are
// counted once, at the end. If something fell beside the window the elements
// are counted again, one by one.
//
// Layer: core. Included by kernel_bins.cc alone.

#if defined(GRADTAP_CORE_KERNEL_BINS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRADTAP_CORE_KERNEL_BINS_INL_H_
#undef GRADTAP_CORE_KERNEL_BINS_INL_H_
#else
#define GRADTAP_CORE_KERNEL_BINS_INL_H_
#endif

#include "core/kernel_lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace gradtap::kernel {
namespace HWY_NAMESPACE {

// The value of an element that decides its bin.
template <typename T, std::size_t ahead>
HWY_INLINE auto ValueAt(const Plain<T, ahead>& source, std::size_t i) {
  return Element<T>::To(source.x[i]);
}
template <typename T>
HWY_INLINE double ValueAt(const Difference<T>& source, std::size_t i) {
  return Element<T>::Minus(source.x.x[i], source.before.x[i]);
}

// One by one. Four tables: increments of one place would wait for each other.
template <class Source>
HWY_NOINLINE void CountEach(const Source& source, std::size_t first,
                            std::size_t end, BinCounts* bins) {
  std::size_t i = first;
  if (end - first >= 2048) {
    std::array<std::array<std::uint32_t, kBinCount>, 4> table;
    std::memset(&table, 0, sizeof(table));
    for (; i + 4 <= end; i += 4) {
      for (std::size_t k = 0; k < 4; ++k) {
        ++table[k][QuickBin(ValueAt(source, i + k))];
      }
    }
    for (std::size_t bin = 0; bin < kBinCount; ++bin) {
      (*bins)[bin] +=
          table[0][bin] + table[1][bin] + table[2][bin] + table[3][bin];
    }
  }
  for (; i < end; ++i) ++(*bins)[QuickBin(ValueAt(source, i))];
}

#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2  // Shifts by lane are instructions.

using BitsTag = hn::RebindToUnsigned<FloatTag>;
using Bits = hn::Vec<BitsTag>;

struct Pair {  // Of all elements, and of the negative ones.
  Bits all, negative;
};

// Bit by bit: with AVX2 IfVecThenElse looks at the first bit of each byte.
HWY_INLINE Bits Choose(Bits mask, Bits yes, Bits no) {
#if HWY_TARGET <= HWY_AVX3
  return hn::IfVecThenElse(mask, yes, no);
#else
  return hn::Or(hn::And(mask, yes), hn::AndNot(mask, no));
#endif
}

// low + a + b, place by place: the sum stays in `low`, the carry is returned.
HWY_INLINE Bits AddUp(Bits& low, Bits a, Bits b) {
  const Bits differ = hn::Xor(a, b);
  const Bits carry = Choose(differ, low, a);
  low = hn::Xor(differ, low);
  return carry;
}
HWY_INLINE Pair AddUp(Pair& low, Pair a, Pair b) {
  return {AddUp(low.all, a.all, b.all),
          AddUp(low.negative, a.negative, b.negative)};
}

// Counts the elements of a window of exponents.
template <class Source>
class WindowCounter {
 public:
  static constexpr int kInlined = 4;  // 2^4 vectors at a time.
  static constexpr int kPlanes = 18;  // 2^16 elements, one lane or more.

  // `base`, in [1, 223]: the lowest biased exponent of the window.
  HWY_INLINE WindowCounter(const Source& source, std::uint32_t base)
      : source_(source), base_(hn::Set(BitsTag(), base)) {
    const Bits zero = hn::Zero(BitsTag());
    for (int k = 0; k < kPlanes; ++k) plane_[k] = {zero, zero};
  }

  static HWY_INLINE std::size_t GroupSize() {
    return hn::Lanes(FloatTag()) << kInlined;
  }

  // A group of elements, from number `i` on.
  HWY_INLINE void Take(std::size_t i) {
    Pair low[kInlined];
    for (int k = 0; k < kInlined; ++k) low[k] = plane_[k];
    Pair carry = Tree<kInlined>(i, low);
    for (int k = 0; k < kInlined; ++k) plane_[k] = low[k];
    // As a binary counter adds ones.
    int level = kInlined;
    for (std::size_t done = groups_++; done & 1; done >>= 1, ++level) {
      carry = AddUp(plane_[level], waiting_[level], carry);
    }
    waiting_[level] = carry;
  }

  // Adds what was counted in the window; returns how many that were.
  HWY_INLINE std::size_t Total(std::uint32_t (&all)[32],
                               std::uint32_t (&negative)[32]) const {
    int levels = kInlined;
    while ((groups_ >> (levels - kInlined)) != 0) ++levels;
    std::size_t total = 0;
    const BitsTag d;
    for (int place = 0; place < 32; ++place) {
      Bits sum = hn::Zero(d), negative_sum = sum;
      for (int k = 0; k < levels; ++k) {
        sum = hn::Add(sum, Weighed(plane_[k].all, place, k));
        negative_sum =
            hn::Add(negative_sum, Weighed(plane_[k].negative, place, k));
        if (k >= kInlined && ((groups_ >> (k - kInlined)) & 1)) {
          sum = hn::Add(sum, Weighed(waiting_[k].all, place, k));
          negative_sum =
              hn::Add(negative_sum, Weighed(waiting_[k].negative, place, k));
        }
      }
      all[place] = hn::GetLane(hn::SumOfLanes(d, sum));
      negative[place] = hn::GetLane(hn::SumOfLanes(d, negative_sum));
      total += all[place];
    }
    return total;
  }

  HWY_INLINE std::size_t zero() const { return zero_.Total(); }
  // Something that must be counted one by one.
  bool doubtful() const { return doubtful_; }

 private:
  // By lane, what one place of a plane of weight 2^k stands for.
  static HWY_INLINE Bits Weighed(Bits plane, int place, int k) {
    const Bits ones =
        hn::And(hn::ShiftRightSame(plane, place), hn::Set(BitsTag(), 1));
    return hn::ShiftLeftSame(ones, k);
  }

  // 2^k vectors, as one of weight 2^k.
  template <int k>
  HWY_INLINE Pair Tree(std::size_t i, Pair* low) {
    if constexpr (k == 0) {
      return Hot(i);
    } else {
      const std::size_t half = hn::Lanes(FloatTag()) << (k - 1);
      const Pair a = Tree<k - 1>(i, low);
      const Pair b = Tree<k - 1>(i + half, low);
      return AddUp(low[k - 1], a, b);
    }
  }

  // One bit for each element of a vector, its exponent's; none beside the
  // window: a shift by 32 or more leaves nothing.
  HWY_INLINE Pair Hot(std::size_t i) {
    const BitsTag d;
    source_.Fetch(i, hn::Lanes(d));
    const Floats x = source_.Load(i);
    const Bits bits = hn::BitCast(d, x);
    const Bits exponent = hn::ShiftRight<24>(hn::Add(bits, bits));
    const Bits place = hn::Sub(exponent, base_);
    zero_.Add(hn::Eq(x, hn::Zero(FloatTag())));
    if constexpr (!Source::kExact) {
      // A power of two may have been rounded up to.
      const auto power = hn::Eq(hn::ShiftLeft<9>(bits), hn::Zero(d));
      doubtful_ |= !hn::AllFalse(
          d, hn::And(power, hn::RebindMask(d, source_.Rounded(i, x))));
    }
    return {hn::Shl(hn::Set(d, 1), place),
            hn::Shl(hn::ShiftRight<31>(bits), place)};
  }

  const Source source_;
  const Bits base_;
  LaneCounter<FloatTag> zero_;
  bool doubtful_ = false;
  std::size_t groups_ = 0;
  Pair plane_[kPlanes];
  Pair waiting_[kPlanes];  // Vectors of weight 2^k that wait for another one.
};

// The lowest exponent of a window that reaches 2^6 beyond the first elements.
template <class Source>
HWY_INLINE std::uint32_t ChooseBase(const Source& source, std::size_t n) {
  const BitsTag d;
  Bits largest = hn::Zero(d);
  for (std::size_t i = 0; i < n; i += hn::Lanes(d)) {
    const Bits bits = hn::BitCast(d, source.Load(i));
    const Bits exponent = hn::ShiftRight<24>(hn::Add(bits, bits));
    const auto finite = hn::Ne(exponent, hn::Set(d, 255));
    largest = hn::Max(largest, hn::IfThenElseZero(finite, exponent));
  }
  const std::uint32_t top = hn::GetLane(hn::MaxOfLanes(d, largest)) + 6;
  return std::clamp<std::uint32_t>(top, 32, 254) - 31;
}

// Adds the bins of the first `n` elements, whole groups; or returns false and
// leaves the bins as they are.
template <class Source>
HWY_INLINE bool CountWindow(const Source& source, std::size_t n,
                            BinCounts* bins) {
  using Counter = WindowCounter<Source>;
  const std::uint32_t base = ChooseBase(source, std::min<std::size_t>(n, 1024));
  Counter counter(source, base);
  for (std::size_t i = 0; i < n; i += Counter::GroupSize()) counter.Take(i);
  std::uint32_t all[32], negative[32];
  if (counter.Total(all, negative) + counter.zero() != n ||
      counter.doubtful()) {
    return false;
  }
  for (std::uint32_t place = 0; place < 32; ++place) {
    (*bins)[kBinPositive + base + place] += all[place] - negative[place];
    (*bins)[kBinNegative + base + place] += negative[place];
  }
  (*bins)[kBinZero] += counter.zero();
  return true;
}

template <class Source>
HWY_INLINE std::size_t Count(const Source& source, std::size_t n,
                             BinCounts* bins) {
  const std::size_t group = WindowCounter<Source>::GroupSize();
  std::size_t whole = n < 2048 ? 0 : n - n % group;
  if (whole != 0 && !CountWindow(source, whole, bins)) whole = 0;
  CountEach(source, whole, n, bins);
  return n - whole;
}

#else

template <class Source>
HWY_INLINE std::size_t Count(const Source& source, std::size_t n,
                             BinCounts* bins) {
  CountEach(source, 0, n, bins);
  return n;
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace gradtap::kernel
HWY_AFTER_NAMESPACE();

#endif  // Target toggle.
