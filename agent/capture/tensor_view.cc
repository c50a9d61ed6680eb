#include "agent/capture/tensor_view.h"

#include <torch/version.h>

#include <cstddef>
#include <string_view>
#include <utility>

#include "agent/capture/device_reduce.h"

namespace gradtap::agent {
namespace {

// "QInt8" is "qint8", "ComplexHalf" is "complex_half".
std::string LowerSnake(std::string_view text) {
  std::string out;
  bool after_lower = false;
  for (const char c : text) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && after_lower) out += '_';
    out += upper ? static_cast<char>(c - 'A' + 'a') : c;
    after_lower = c >= 'a' && c <= 'z';
  }
  return out;
}

std::uint64_t Mix(std::uint64_t hash, std::uint64_t value) {
  hash ^= value;
  hash *= 0x9E3779B97F4A7C15u;
  return hash ^ (hash >> 29);
}

std::string UnsupportedStrided(const c10::TensorImpl& impl) {
  if (!impl.has_storage()) return "it has no storage of its own";
  if (impl.is_neg()) return "its negation is still to be applied";
  if (impl.dim() > kMaxDims) {
    return "it has " + std::to_string(impl.dim()) + " dimensions; at most " +
           std::to_string(kMaxDims) + " are supported";
  }
  const std::uint64_t extent = ExtentOf(impl);
  const std::uint64_t end =
      static_cast<std::uint64_t>(impl.storage_offset()) + extent;
  if (extent != 0 && end * impl.itemsize() > impl.storage().nbytes()) {
    return "its storage of " + std::to_string(impl.storage().nbytes()) +
           " bytes is smaller than its shape needs";
  }
  // Tensors that stand for zeros, and the like.
  if (extent != 0 && std::as_const(impl.storage()).data() == nullptr) {
    return "it has no memory";
  }
  return "";
}

}  // namespace

Dtype DtypeOf(c10::ScalarType type) {
  switch (type) {
    case c10::ScalarType::Float:
      return Dtype::kFloat32;
    case c10::ScalarType::Double:
      return Dtype::kFloat64;
    case c10::ScalarType::Half:
      return Dtype::kFloat16;
    case c10::ScalarType::BFloat16:
      return Dtype::kBfloat16;
    case c10::ScalarType::Char:
      return Dtype::kInt8;
    case c10::ScalarType::Short:
      return Dtype::kInt16;
    case c10::ScalarType::Int:
      return Dtype::kInt32;
    case c10::ScalarType::Long:
      return Dtype::kInt64;
    case c10::ScalarType::Byte:
      return Dtype::kUint8;
    case c10::ScalarType::Bool:
      return Dtype::kBool;
    case c10::ScalarType::ComplexFloat:
      return Dtype::kComplex64;
    case c10::ScalarType::ComplexDouble:
      return Dtype::kComplex128;
#if TORCH_VERSION_MAJOR > 2 || \
    (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 1)
    case c10::ScalarType::Float8_e4m3fn:
      return Dtype::kFloat8E4m3fn;
    case c10::ScalarType::Float8_e5m2:
      return Dtype::kFloat8E5m2;
#endif
    default:
      return Dtype::kUnsupported;
  }
}

std::string DtypeText(c10::ScalarType type) {
  const Dtype dtype = DtypeOf(type);
  if (dtype != Dtype::kUnsupported) return std::string(DtypeName(dtype));
  return LowerSnake(c10::toString(type));
}

std::string LayoutText(c10::Layout layout) {
  switch (layout) {
    case c10::Layout::Strided:
      return "strided";
    case c10::Layout::Sparse:
      return "sparse_coo";
    case c10::Layout::SparseCsr:
      return "sparse_csr";
    case c10::Layout::SparseCsc:
      return "sparse_csc";
    case c10::Layout::SparseBsr:
      return "sparse_bsr";
    case c10::Layout::SparseBsc:
      return "sparse_bsc";
    case c10::Layout::Mkldnn:
      return "mkldnn";
    default:
      return "layout_" + std::to_string(static_cast<int>(layout));
  }
}

std::string UnsupportedReason(const at::Tensor& tensor) {
  if (!tensor.defined()) return "the tensor is undefined";
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  if (impl.is_meta()) return "a meta tensor has no elements";
  if (impl.is_quantized()) {
    return "quantized tensors (" + DtypeText(tensor.scalar_type()) +
           ") are not supported";
  }
  if (impl.is_nested()) return "nested tensors are not supported";
  if (!impl.is_cpu() && impl.layout() != c10::Layout::Mkldnn) {
    return DeviceReducer::UnsupportedReason(tensor);
  }
  if (DtypeOf(tensor.scalar_type()) == Dtype::kUnsupported) {
    return "dtype " + DtypeText(tensor.scalar_type()) + " is not supported";
  }
  switch (impl.layout()) {
    case c10::Layout::Strided:
      return UnsupportedStrided(impl);
    case c10::Layout::Sparse:
      return "";
    default:
      return "layout " + LayoutText(impl.layout()) + " is not supported";
  }
}

TensorView ViewOf(const at::Tensor& tensor) {
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  TensorView view;
  view.dtype = DtypeOf(tensor.scalar_type());
  view.dims = static_cast<int>(impl.dim());
  view.sizes = impl.sizes().data();
  view.strides = impl.strides().data();
  view.data = DataOf(impl, ExtentOf(impl), impl.itemsize());
  return view;
}

std::uint64_t ExtentOf(const c10::TensorImpl& impl) {
  const auto sizes = impl.sizes();
  const auto strides = impl.strides();
  std::uint64_t last = 0;
  for (std::size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] == 0) return 0;
    last += static_cast<std::uint64_t>(sizes[d] - 1) *
            static_cast<std::uint64_t>(strides[d]);
  }
  return last + 1;
}

TensorFingerprint FingerprintOfTensor(const at::Tensor& tensor) {
  TensorFingerprint print;
  if (!tensor.defined()) return print;
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  print.impl = &impl;
  print.dtype = static_cast<std::int8_t>(tensor.scalar_type());
  print.layout = static_cast<std::int8_t>(impl.layout());
  print.device = static_cast<std::int16_t>(
      static_cast<int>(impl.device().type()) * 256 + impl.device().index());
  print.requires_grad = impl.requires_grad();
  if (impl.is_nested()) return print;
  print.geometry = static_cast<std::uint64_t>(impl.dim()) + 1;
  for (const std::int64_t size : impl.sizes()) {
    print.geometry = Mix(print.geometry, static_cast<std::uint64_t>(size));
  }
  if (impl.layout() == c10::Layout::Strided && impl.has_storage()) {
    print.storage = impl.storage().unsafeGetStorageImpl();
    for (const std::int64_t stride : impl.strides()) {
      print.geometry = Mix(print.geometry, static_cast<std::uint64_t>(stride));
    }
    print.geometry =
        Mix(print.geometry, static_cast<std::uint64_t>(impl.storage_offset()));
  }
  return print;
}

}  // namespace gradtap::agent
