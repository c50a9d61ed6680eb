#include "core/kernel.h"

#include <algorithm>
#include <complex>
#include <cstring>
#include <type_traits>

#include "core/kernel_block.h"
#include "core/kernel_convert.h"
#include "core/kernel_strided.h"

namespace gradtap {
namespace {

using kernel::kBlock;
using kernel::PairwiseMerger;

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
    case Dtype::kUnsupported:
      break;
  }
  return {};
}

template <typename T>
Moments ReduceElements(const T* x, std::size_t n) {
  using Element = kernel::Element<T>;
  using Work = typename Element::Work;
  if constexpr (std::is_same_v<T, Work>) {
    return kernel::ReduceBlock(x, n);
  } else {
    Work converted[kBlock];
    converted[0] = 0;  // The compiler cannot know that n is not 0.
    for (std::size_t i = 0; i < n; ++i) converted[i] = Element::To(x[i]);
    return kernel::ReduceBlock(converted, n);
  }
}

// The moments of x - previous; `previous` may be unaligned.
template <typename T>
Moments ReduceDifference(const T* x, const char* previous, std::size_t n) {
  double difference[kBlock];
  for (std::size_t i = 0; i < n; ++i) {
    T before;
    std::memcpy(&before, previous + i * sizeof(T), sizeof(T));
    difference[i] = kernel::Element<T>::Minus(x[i], before);
  }
  return kernel::ReduceBlock(difference, n);
}

enum class Previous { kNone, kWrite, kReadAndWrite };

// One block; `before` holds its previous elements, and is refreshed.
template <typename T, Previous kPrevious>
WeightAndUpdate RunBlock(const T* x, std::size_t n, char* before) {
  WeightAndUpdate out;
  out.weight = ReduceElements(x, n);
  if constexpr (kPrevious == Previous::kReadAndWrite) {
    out.update = ReduceDifference(x, before, n);
  }
  if constexpr (kPrevious != Previous::kNone) {
    std::memcpy(before, x, n * sizeof(T));
  }
  return out;
}

// What else is done with each element.
struct Extras {
  double multiplier = 1;
  BinCounts* bins = nullptr;
  BinCounts* update_bins = nullptr;
};

template <typename T>
void CountBins(const T* x, std::size_t n, double multiplier, BinCounts* bins) {
  for (std::size_t i = 0; i < n; ++i) {
    const double value = kernel::Element<T>::To(x[i]);
    ++(*bins)[BinOf(value * multiplier)];
  }
}

template <typename T>
void CountUpdateBins(const T* x, const char* before, std::size_t n,
                     BinCounts* bins) {
  for (std::size_t i = 0; i < n; ++i) {
    T previous;
    std::memcpy(&previous, before + i * sizeof(T), sizeof(T));
    ++(*bins)[BinOf(kernel::Element<T>::Minus(x[i], previous))];
  }
}

Moments Scaled(Moments m, double multiplier) {
  if (multiplier == 1 || m.finite == 0) return m;
  m.mean *= multiplier;
  m.m2 *= multiplier * multiplier;
  m.abs_mean *= std::abs(multiplier);
  m.min *= multiplier;
  m.max *= multiplier;
  if (multiplier < 0) std::swap(m.min, m.max);
  return m;
}

template <typename T, Previous kPrevious>
WeightAndUpdate RunChunk(const TensorView& view, void* previous,
                         std::uint64_t first, std::uint64_t left,
                         const Extras& extras) {
  kernel::StridedReader<T> reader(view);
  reader.Skip(first);
  T buffer[kBlock];
  char* before = static_cast<char*>(previous);
  if constexpr (kPrevious != Previous::kNone) before += first * sizeof(T);
  PairwiseMerger weight;
  PairwiseMerger update;
  while (left > 0) {
    const std::size_t n = std::min<std::uint64_t>(left, kBlock);
    const T* const x = reader.Next(n, buffer);
    if (extras.bins) CountBins(x, n, extras.multiplier, extras.bins);
    if constexpr (kPrevious == Previous::kReadAndWrite) {
      if (extras.update_bins) CountUpdateBins(x, before, n, extras.update_bins);
    }
    const WeightAndUpdate block = RunBlock<T, kPrevious>(x, n, before);
    weight.Add(block.weight);
    if constexpr (kPrevious == Previous::kReadAndWrite) {
      update.Add(block.update);
    }
    if constexpr (kPrevious != Previous::kNone) before += n * sizeof(T);
    left -= n;
  }
  return {Scaled(weight.Total(), extras.multiplier), update.Total()};
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
  const TensorView& view = reduction.view;
  const std::uint64_t numel = Numel(view);
  const std::uint64_t first = chunk * kChunk;
  if (first >= numel || view.data == nullptr) return {};
  const std::uint64_t n = std::min(numel - first, kChunk);
  const Extras extras{reduction.multiplier, bins, update_bins};
  void* const previous = reduction.previous;
  return Dispatch(view.dtype, [&](auto element) {
    using T = decltype(element);
    if (previous == nullptr) {
      return RunChunk<T, Previous::kNone>(view, nullptr, first, n, extras);
    }
    if (!reduction.previous_valid) {
      return RunChunk<T, Previous::kWrite>(view, previous, first, n, extras);
    }
    return RunChunk<T, Previous::kReadAndWrite>(view, previous, first, n,
                                                extras);
  });
}

WeightAndUpdate JoinChunks(std::span<const WeightAndUpdate> chunks) {
  if (chunks.size() == 1) return chunks.front();
  PairwiseMerger weight;
  PairwiseMerger update;
  for (const WeightAndUpdate& chunk : chunks) {
    weight.Add(chunk.weight);
    update.Add(chunk.update);
  }
  return {weight.Total(), update.Total()};
}

namespace {

WeightAndUpdate ReduceAll(const Reduction& reduction) {
  PairwiseMerger weight;
  PairwiseMerger update;
  const std::uint64_t chunks = ChunkCount(reduction.view);
  if (chunks == 1) return ReduceChunk(reduction, 0);
  for (std::uint64_t i = 0; i < chunks; ++i) {
    const WeightAndUpdate chunk = ReduceChunk(reduction, i);
    weight.Add(chunk.weight);
    update.Add(chunk.update);
  }
  return {weight.Total(), update.Total()};
}

}  // namespace

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
