// One pass over a tensor gives its record.
//
// This interface is what capture calls; the kernels behind it are free to
// change. Results do not depend on the number of threads or on alignment; their
// last bits depend on the machine's instruction set.
//
// Layer: core. No allocation, no lock; any thread may call anything here, on
// memory that nobody writes meanwhile.

#ifndef GRADTAP_CORE_KERNEL_H_
#define GRADTAP_CORE_KERNEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/histogram.h"
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
  kFloat8E4m3fn,
  kFloat8E5m2,
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

// The moments of all elements, taken in the order of memory, which depends on
// sizes and strides alone.
Moments Reduce(const TensorView& view);

struct WeightAndUpdate {
  Moments weight;
  // weight - previous: finite where it is so in double, within the bounds of
  // the exact differences.
  Moments update;
};

// ---- In chunks, for several threads ----------------------------------------

// What is to be done with a tensor.
struct Reduction {
  TensorView view;
  // What is recorded is multiplier * x, taken in double: gradients under a loss
  // scale. Moments of finite x saturate, they never become infinite; the bins
  // are those of the products. Without `previous` only. Finite, not zero.
  double multiplier = 1;
  // Room for Numel(view) elements of the same dtype, in the order of memory
  // (kernel_walk.h), which depends on sizes and strides alone; null: none. Each
  // chunk refreshes its part. Best aligned as its dtype asks.
  void* previous = nullptr;
  // False: `previous` is not read, only written, and there is no update.
  bool previous_valid = false;
};

// Into how many chunks a tensor is cut: at least 1; depends on the tensor
// alone. A chunk has at most kChunk elements.
inline constexpr std::uint64_t kChunk = 1 << 16;
std::uint64_t ChunkCount(const TensorView& view);

// One chunk, in [0, ChunkCount). Different chunks may run at the same time on
// different threads. Where bins are given, the elements (and the differences)
// are counted there as well, besides what they hold already.
WeightAndUpdate ReduceChunk(const Reduction& reduction, std::uint64_t chunk,
                            BinCounts* bins = nullptr,
                            BinCounts* update_bins = nullptr);

// Joins the results of all chunks of a tensor, in their order: the same
// whatever thread made them. Reduce() and its kin below are these three.
WeightAndUpdate JoinChunks(std::span<const WeightAndUpdate> chunks);

// ---- On the calling thread alone -------------------------------------------

// Reduces `weight` and weight - previous, and refreshes `previous`: afterwards
// it holds the weight's elements (see Reduction::previous). An element whose
// difference is NaN or infinite counts as such in `update`.
WeightAndUpdate ReduceWeightAndUpdate(const TensorView& weight, void* previous);

// Fills `previous` without reading it first.
Moments ReduceAndCopy(const TensorView& weight, void* previous);

}  // namespace gradtap

#endif  // GRADTAP_CORE_KERNEL_H_
