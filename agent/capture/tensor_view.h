// Tensors as the kernels read them: where they lie, without an ATen operation.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_TENSOR_VIEW_H_
#define GRADTAP_AGENT_CAPTURE_TENSOR_VIEW_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/kernel.h"

namespace gradtap::agent {

// kUnsupported for types without a kernel.
Dtype DtypeOf(c10::ScalarType type);

// "float32", "qint8", ...; "strided", "sparse_coo", ...
std::string DtypeText(c10::ScalarType type);
std::string LayoutText(c10::Layout layout);

// Why its elements cannot be read, for a person; empty if they can. Looks at
// what describes the tensor, never at its elements. A tensor whose storage is
// too small for its shape (freed by a sharding scheme) is such a one.
std::string UnsupportedReason(const at::Tensor& tensor);

// Of a tensor that can be read and is not sparse. Valid while the tensor is.
TensorView ViewOf(const at::Tensor& tensor);

// Elements from its first one to the end of its last one, in memory; 0 if it
// has none. Of a strided tensor.
std::uint64_t ExtentOf(const c10::TensorImpl& impl);

// Its first element; null if it has no storage, or one that ends before
// `extent` elements of that size.
inline const void* DataOf(const c10::TensorImpl& impl, std::uint64_t extent,
                          std::size_t item_bytes) {
  const c10::Storage& storage = impl.unsafe_storage();
  if (!storage) return nullptr;
  const auto offset = static_cast<std::uint64_t>(impl.storage_offset());
  // Not data(): newer LibTorch copies a lazily cloned tensor for that.
  const void* const begin = std::as_const(storage).data();
  if (begin == nullptr || (offset + extent) * item_bytes > storage.nbytes()) {
    return nullptr;
  }
  return static_cast<const char*>(begin) + offset * item_bytes;
}

// What a step compares to notice that the model has changed.
struct TensorFingerprint {
  const void* impl = nullptr;
  const void* storage = nullptr;
  std::uint64_t geometry = 0;  // A hash of sizes, strides and offset.
  std::int8_t dtype = 0;
  std::int8_t layout = 0;
  std::int16_t device = 0;
  bool requires_grad = false;

  bool operator==(const TensorFingerprint&) const = default;
};
TensorFingerprint FingerprintOfTensor(const at::Tensor& tensor);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_TENSOR_VIEW_H_
