// One pass over a tensor gives its record.
//
// This interface is what capture calls; the kernels behind it are free to
// change. Results do not depend on the number of threads or on alignment.
//
// Layer: core. No allocation, no lock; any thread may call anything here, on
// memory that nobody writes meanwhile.

#ifndef GRADTAP_CORE_KERNEL_H_
#define GRADTAP_CORE_KERNEL_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/record.h"

namespace gradtap {

// Element types with a kernel. Complex elements count by their magnitude: an
// element with a NaN part is NaN, else one with an infinite part is +Inf; the
// magnitude of finite parts is finite (it saturates).
enum class Dtype : std::uint8_t {
  kUnsupported,
  kFloat32,
  kFloat64,
  kFloat16,
  kBfloat16,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kUint8,
  kBool,
  kComplex64,
  kComplex128,
};

// Bytes of one element; 0 for kUnsupported.
std::size_t DtypeSize(Dtype dtype);
// "float32", "bool", "complex64", ...
std::string_view DtypeName(Dtype dtype);

inline constexpr int kMaxDims = 64;

// A strided view, not owned. Strides are in elements, may be zero (expanded)
// and, for completeness, negative. Zero dimensions: one element.
struct TensorView {
  const void* data = nullptr;  // The first element; may be null if numel is 0.
  Dtype dtype = Dtype::kUnsupported;
  int dims = 0;  // Range: [0, kMaxDims].
  const std::int64_t* sizes = nullptr;
  const std::int64_t* strides = nullptr;
};

std::uint64_t Numel(const TensorView& view);

// The moments of all elements. The order of combination depends on sizes alone,
// not on strides: a transposed copy may differ in the last bit of a double.
Moments Reduce(const TensorView& view);

struct WeightAndUpdate {
  Moments weight;
  Moments update;  // weight - previous, each difference taken in double.
};

// Reduces `weight` and weight - previous, and refreshes `previous`: afterwards
// it holds the weight's elements, densely, in index order. `previous` has room
// for Numel(weight) elements of the same dtype. An element whose difference is
// NaN or infinite counts as such in `update`.
WeightAndUpdate ReduceWeightAndUpdate(const TensorView& weight, void* previous);

// Fills `previous` without reading it first.
Moments ReduceAndCopy(const TensorView& weight, void* previous);

}  // namespace gradtap

#endif  // GRADTAP_CORE_KERNEL_H_
