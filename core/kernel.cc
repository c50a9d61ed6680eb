#include "core/kernel.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <cstring>
#include <type_traits>

#include "core/kernel_bins.h"
#include "core/kernel_control.h"
#include "core/kernel_convert.h"
#include "core/kernel_simd.h"
#include "core/kernel_walk.h"

namespace gradtap {
namespace {

using kernel::Layout;
using kernel::Walk;

// Calls `f` with a value of the element type. Returns a default-constructed
// result for a dtype without a kernel.
template <typename F>
auto Dispatch(Dtype dtype, F&& f) -> decltype(f(float{})) {
  switch (dtype) {
    case Dtype::kFloat32:
      return f(float{});
    case Dtype::kFloat64:
      return f(double{});
    case Dtype::kFloat16:
      return f(kernel::Half{});
    case Dtype::kBfloat16:
      return f(kernel::Bfloat16{});
    case Dtype::kInt8:
      return f(std::int8_t{});
    case Dtype::kInt16:
      return f(std::int16_t{});
    case Dtype::kInt32:
      return f(std::int32_t{});
    case Dtype::kInt64:
      return f(std::int64_t{});
    case Dtype::kUint8:
      return f(std::uint8_t{});
    case Dtype::kBool:
      return f(kernel::Bool{});
    case Dtype::kComplex64:
      return f(std::complex<float>{});
    case Dtype::kComplex128:
      return f(std::complex<double>{});
    case Dtype::kFloat8E4m3fn:
      return f(kernel::Float8E4m3fn{});
    case Dtype::kFloat8E5m2:
      return f(kernel::Float8E5m2{});
    case Dtype::kUnsupported:
      break;
  }
  return {};
}

// ---- One unit: elements side by side ---------------------------------------

// Types that the kernels read as they are; others are converted first.
template <typename T>
inline constexpr bool kDirect =
    std::is_same_v<T, float> || std::is_same_v<T, double> ||
    std::is_same_v<T, kernel::Half> || std::is_same_v<T, kernel::Bfloat16>;

template <typename T>
inline constexpr std::size_t kUnitOf = kDirect<T> ? kernel::kUnit : 1024;

// Results are written where they stay: passing them on would cost more than a
// bias takes.
template <typename T>
void ReduceElements(const T* x, std::size_t n, Moments* out) {
  if constexpr (kDirect<T>) {
    kernel::ReduceUnit(x, n, out);
  } else {
    typename kernel::Element<T>::Work converted[kUnitOf<T>];
    converted[0] = 0;  // The compiler cannot know that n is not 0.
    for (std::size_t i = 0; i < n; ++i) {
      converted[i] = kernel::Element<T>::To(x[i]);
    }
    kernel::ReduceUnit(converted, n, out);
  }
}

// Also refreshes `previous`, which may be unaligned.
template <typename T>
void ReduceBoth(const T* x, char* previous, std::size_t n,
                WeightAndUpdate* out) {
  if constexpr (!kDirect<T>) {
    ReduceElements(x, n, &out->weight);
    double difference[kUnitOf<T>];
    difference[0] = 0;  // As above.
    for (std::size_t i = 0; i < n; ++i) {
      T before;
      std::memcpy(&before, previous + i * sizeof(T), sizeof(T));
      difference[i] = kernel::Element<T>::Minus(x[i], before);
    }
    kernel::ReduceUnit(difference, n, &out->update);
    std::memcpy(previous, x, n * sizeof(T));
  } else if (reinterpret_cast<std::uintptr_t>(previous) % alignof(T) == 0) {
    kernel::ReduceUnit(x, reinterpret_cast<T*>(previous), n, &out->weight,
                       &out->update);
  } else {
    T aligned[kUnitOf<T>];
    std::memcpy(aligned, previous, n * sizeof(T));
    kernel::ReduceUnit(x, aligned, n, &out->weight, &out->update);
    std::memcpy(previous, aligned, n * sizeof(T));
  }
}

// Clearing and adding up a histogram costs as much as some hundred elements.
constexpr std::size_t kShiftWorthwhile = 512;

// Small enough for no product with a float to leave double's normal range.
bool IsPlainPowerOfTwo(double x) {
  return x == std::ldexp(1.0, std::ilogb(x)) && std::abs(std::ilogb(x)) < 512;
}

// Adds the bins of values times 2^shift. False: it cannot tell, and has added
// nothing.
bool AddShifted(const BinCounts& counts, int shift, BinCounts* bins) {
  const bool subnormal =
      counts[kBinPosSubnormal] != 0 || counts[kBinNegSubnormal] != 0;
  if (subnormal && shift > 0) return false;
  for (const std::uint32_t bin : {kBinZero, kBinNan, kBinPosInf, kBinNegInf,
                                  kBinPosSubnormal, kBinNegSubnormal}) {
    (*bins)[bin] += counts[bin];
  }
  for (int e = 1; e <= 254; ++e) {
    const int to = std::min(e + shift, 254);
    const auto from = static_cast<std::uint32_t>(e);
    const auto at = static_cast<std::uint32_t>(to);
    (*bins)[to < 1 ? kBinPosSubnormal : kBinPositive + at] +=
        counts[kBinPositive + from];
    (*bins)[to < 1 ? kBinNegSubnormal : kBinNegative + at] +=
        counts[kBinNegative + from];
  }
  return true;
}

// Adds the bins of multiplier * x.
template <typename T>
void CountAll(const T* x, std::size_t n, double multiplier, BinCounts* bins) {
  if constexpr (kDirect<T> && !std::is_same_v<T, double>) {
    if (multiplier == 1) {
      kernel::CountBins(x, n, bins);
      return;
    }
    if (n >= kShiftWorthwhile && IsPlainPowerOfTwo(multiplier)) {
      BinCounts counts{};
      kernel::CountBins(x, n, &counts);
      if (AddShifted(counts, std::ilogb(multiplier), bins)) return;
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    const double value = kernel::Element<T>::To(x[i]);
    ++(*bins)[kernel::QuickBin(value * multiplier)];
  }
}

// Adds the bins of x - before; `before` may be unaligned.
template <typename T>
void CountChange(const T* x, const char* before, std::size_t n,
                 BinCounts* bins) {
  if constexpr (std::is_same_v<T, float>) {
    if (reinterpret_cast<std::uintptr_t>(before) % alignof(T) == 0) {
      kernel::CountBins(x, reinterpret_cast<const T*>(before), n, bins);
      return;
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    T previous;
    std::memcpy(&previous, before + i * sizeof(T), sizeof(T));
    ++(*bins)[kernel::QuickBin(kernel::Element<T>::Minus(x[i], previous))];
  }
}

// ---- One chunk: units in their order ---------------------------------------

// What is done with the elements of a chunk.
struct Work {
  double multiplier = 1;  // Of the bins alone.
  char* before = nullptr;
  bool update = false;
  BinCounts* bins = nullptr;
  BinCounts* update_bins = nullptr;
};

// The bins of elements side by side, whose previous ones are at `before`.
template <typename T>
void CountSpan(const T* x, std::size_t n, const char* before,
               const Work& work) {
  if (work.bins) CountAll(x, n, work.multiplier, work.bins);
  if (work.update && work.update_bins) {
    CountChange(x, before, n, work.update_bins);
  }
}

// One unit. `*out` is fresh.
template <typename T>
void RunUnit(const T* x, std::size_t n, char* before, const Work& work,
             WeightAndUpdate* out) {
  if (work.update) {
    ReduceBoth(x, before, n, out);
    return;
  }
  ReduceElements(x, n, &out->weight);
  if (before) std::memcpy(before, x, n * sizeof(T));
}

// A chunk: unit after unit, each from next(i, size). `*out` is fresh.
template <typename T, typename Next>
void RunUnits(std::uint64_t n, const Work& work, WeightAndUpdate* out,
              const Next& next) {
  char* before = work.before;
  for (std::uint64_t i = 0; i < n; i += kUnitOf<T>) {
    const std::size_t size = std::min<std::uint64_t>(kUnitOf<T>, n - i);
    const T* const x = next(i, size, before);
    if (i == 0) {
      RunUnit(x, size, before, work, out);
    } else {
      WeightAndUpdate unit;
      RunUnit(x, size, before, work, &unit);
      out->weight = Merge(out->weight, unit.weight);
      if (work.update) out->update = Merge(out->update, unit.update);
    }
    if (before) before += size * sizeof(T);
  }
}

// Bins first, of the whole chunk: that waits for memory, and what it read is
// then at hand.
template <typename T>
void RunContiguous(const T* x, std::uint64_t n, const Work& work,
                   WeightAndUpdate* out) {
  CountSpan(x, n, work.before, work);
  RunUnits<T>(n, work, out,
              [x](std::uint64_t i, std::size_t, const char*) { return x + i; });
}

template <typename T>
[[gnu::noinline]] void RunStrided(const TensorView& view, const Layout& layout,
                                  std::uint64_t first, std::uint64_t n,
                                  const Work& work, WeightAndUpdate* out) {
  Walk<T> walk(view, layout, first);
  T buffer[kUnitOf<T>];
  RunUnits<T>(n, work, out,
              [&](std::uint64_t, std::size_t size, const char* before) {
                const T* const x = walk.Next(size, buffer);
                CountSpan(x, size, before, work);
                return x;
              });
}

template <typename T>
void RunElements(const TensorView& view, const Layout& layout,
                 std::uint64_t first, std::uint64_t n, const Work& work,
                 WeightAndUpdate* out) {
  if (layout.contiguous()) {
    const char* const x = static_cast<const char*>(view.data) +
                          (layout.offset() + static_cast<std::int64_t>(first)) *
                              static_cast<std::int64_t>(sizeof(T));
    if (reinterpret_cast<std::uintptr_t>(x) % alignof(T) == 0) {
      RunContiguous(reinterpret_cast<const T*>(x), n, work, out);
      return;
    }
  }
  RunStrided<T>(view, layout, first, n, work, out);
}

// The same elements, `times` times.
void Repeat(std::uint64_t times, Moments* m) {
  m->finite *= times;
  m->m2 = std::min(m->m2 * static_cast<double>(times),
                   std::numeric_limits<double>::max());
  m->zero *= times;
  m->nan *= times;
  m->pos_inf *= times;
  m->neg_inf *= times;
}

// A chunk of an expanded tensor, of which nothing is to be kept: each element
// of memory is read once.
template <typename T>
[[gnu::noinline]] void RunRepeated(const TensorView& view, const Layout& layout,
                                   std::uint64_t first, std::uint64_t n,
                                   const Work& work, WeightAndUpdate* out) {
  const Layout distinct = layout.Distinct();
  const std::uint64_t repeat = layout.repeat();
  const std::uint64_t end = first + n;
  while (first < end) {
    // Some of one element, or several whole ones.
    const std::uint64_t times = std::min(repeat - first % repeat, end - first);
    const std::uint64_t elements = times == repeat ? (end - first) / repeat : 1;
    BinCounts counts;
    Work once = work;
    if (work.bins) {
      counts.fill(0);
      once.bins = &counts;
    }
    WeightAndUpdate part;
    RunElements<T>(view, distinct, first / repeat, elements, once, &part);
    Repeat(times, &part.weight);
    out->weight = Merge(out->weight, part.weight);
    if (work.bins) {
      for (std::size_t bin = 0; bin < kBinCount; ++bin) {
        (*work.bins)[bin] += counts[bin] * times;
      }
    }
    first += elements * times;
  }
}

double Saturated(double value) {
  constexpr double kLargest = std::numeric_limits<double>::max();
  return std::clamp(value, -kLargest, kLargest);
}

void Scale(double multiplier, Moments* m) {
  if (multiplier < 0) std::swap(m->pos_inf, m->neg_inf);
  if (m->finite == 0) return;
  m->mean = Saturated(m->mean * multiplier);
  m->m2 = Saturated(m->m2 * multiplier * multiplier);
  m->abs_mean = Saturated(m->abs_mean * std::abs(multiplier));
  m->min = Saturated(m->min * multiplier);
  m->max = Saturated(m->max * multiplier);
  if (multiplier < 0) std::swap(m->min, m->max);
}

template <typename T>
void RunChunk(const Reduction& reduction, std::uint64_t first, std::uint64_t n,
              Work& work, WeightAndUpdate* out) {
  const Layout layout(reduction.view);
  if (reduction.previous) {
    work.before = static_cast<char*>(reduction.previous) + first * sizeof(T);
    work.update = reduction.previous_valid;
  }
  if (layout.repeat() > 1 && work.before == nullptr) {
    RunRepeated<T>(reduction.view, layout, first, n, work, out);
  } else {
    RunElements<T>(reduction.view, layout, first, n, work, out);
  }
}

// Not inlined: between the calls that set how floating point works.
[[gnu::noinline]] void RunChunkOfAny(const Reduction& reduction,
                                     std::uint64_t first, std::uint64_t n,
                                     Work& work, WeightAndUpdate* out) {
  Dispatch(reduction.view.dtype, [&](auto element) {
    RunChunk<decltype(element)>(reduction, first, n, work, out);
    return true;
  });
  if (reduction.multiplier != 1) Scale(reduction.multiplier, &out->weight);
}

// Merges parts [first, first + count) as a tree whose shape depends on their
// number alone; count is not 0.
template <typename Part>
WeightAndUpdate JoinTree(std::uint64_t first, std::uint64_t count,
                         const Part& part) {
  if (count == 1) return part(first);
  const std::uint64_t left = std::bit_floor(count - 1);
  const WeightAndUpdate a = JoinTree(first, left, part);
  const WeightAndUpdate b = JoinTree(first + left, count - left, part);
  return {Merge(a.weight, b.weight), Merge(a.update, b.update)};
}

WeightAndUpdate ReduceAll(const Reduction& reduction) {
  return JoinTree(0, ChunkCount(reduction.view), [&](std::uint64_t chunk) {
    return ReduceChunk(reduction, chunk);
  });
}

}  // namespace

std::size_t DtypeSize(Dtype dtype) {
  return Dispatch(dtype, [](auto element) { return sizeof(element); });
}

std::string_view DtypeName(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return "float32";
    case Dtype::kFloat64:
      return "float64";
    case Dtype::kFloat16:
      return "float16";
    case Dtype::kBfloat16:
      return "bfloat16";
    case Dtype::kInt8:
      return "int8";
    case Dtype::kInt16:
      return "int16";
    case Dtype::kInt32:
      return "int32";
    case Dtype::kInt64:
      return "int64";
    case Dtype::kUint8:
      return "uint8";
    case Dtype::kBool:
      return "bool";
    case Dtype::kComplex64:
      return "complex64";
    case Dtype::kComplex128:
      return "complex128";
    case Dtype::kFloat8E4m3fn:
      return "float8_e4m3fn";
    case Dtype::kFloat8E5m2:
      return "float8_e5m2";
    case Dtype::kUnsupported:
      break;
  }
  return "unsupported";
}

std::uint64_t Numel(const TensorView& view) {
  std::uint64_t numel = 1;
  for (int d = 0; d < view.dims; ++d) {
    if (view.sizes[d] <= 0) return 0;
    numel *= static_cast<std::uint64_t>(view.sizes[d]);
  }
  return numel;
}

std::uint64_t ChunkCount(const TensorView& view) {
  return std::max<std::uint64_t>((Numel(view) + kChunk - 1) / kChunk, 1);
}

WeightAndUpdate ReduceChunk(const Reduction& reduction, std::uint64_t chunk,
                            BinCounts* bins, BinCounts* update_bins) {
  const std::uint64_t numel = Numel(reduction.view);
  const std::uint64_t first = chunk * kChunk;
  WeightAndUpdate out;
  if (first >= numel || reduction.view.data == nullptr) return out;
  Work work{reduction.multiplier, nullptr, false, bins, update_bins};
  const kernel::FullSubnormals while_in_here;
  RunChunkOfAny(reduction, first, std::min(numel - first, kChunk), work, &out);
  return out;
}

WeightAndUpdate JoinChunks(std::span<const WeightAndUpdate> chunks) {
  if (chunks.empty()) return {};
  return JoinTree(0, chunks.size(),
                  [&](std::uint64_t chunk) { return chunks[chunk]; });
}

Moments Reduce(const TensorView& view) {
  return ReduceAll({.view = view}).weight;
}

WeightAndUpdate ReduceWeightAndUpdate(const TensorView& weight,
                                      void* previous) {
  return ReduceAll(
      {.view = weight, .previous = previous, .previous_valid = true});
}

Moments ReduceAndCopy(const TensorView& weight, void* previous) {
  return ReduceAll({.view = weight, .previous = previous}).weight;
}

}  // namespace gradtap
