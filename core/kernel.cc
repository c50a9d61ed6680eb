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

template <typename T, Previous kPrevious>
WeightAndUpdate Run(const TensorView& view, void* previous) {
  kernel::StridedReader<T> reader(view);
  T buffer[kBlock];
  char* before = static_cast<char*>(previous);
  std::uint64_t left = Numel(view);
  if (left <= kBlock) {  // Most tensors of most models: nothing to merge.
    const std::size_t n = left;
    return RunBlock<T, kPrevious>(reader.Next(n, buffer), n, before);
  }
  PairwiseMerger weight;
  PairwiseMerger update;
  while (left > 0) {
    const std::size_t n = std::min<std::uint64_t>(left, kBlock);
    const WeightAndUpdate block =
        RunBlock<T, kPrevious>(reader.Next(n, buffer), n, before);
    weight.Add(block.weight);
    if constexpr (kPrevious == Previous::kReadAndWrite) {
      update.Add(block.update);
    }
    if constexpr (kPrevious != Previous::kNone) before += n * sizeof(T);
    left -= n;
  }
  return {weight.Total(), update.Total()};
}

template <Previous kPrevious>
WeightAndUpdate RunAny(const TensorView& view, void* previous) {
  if (Numel(view) == 0 || view.data == nullptr) return {};
  return Dispatch(view.dtype, [&](auto element) {
    return Run<decltype(element), kPrevious>(view, previous);
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

Moments Reduce(const TensorView& view) {
  return RunAny<Previous::kNone>(view, nullptr).weight;
}

WeightAndUpdate ReduceWeightAndUpdate(const TensorView& weight,
                                      void* previous) {
  return RunAny<Previous::kReadAndWrite>(weight, previous);
}

Moments ReduceAndCopy(const TensorView& weight, void* previous) {
  return RunAny<Previous::kWrite>(weight, previous).weight;
}

}  // namespace gradtap
