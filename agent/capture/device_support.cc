// What DeviceReducer can take, and when.

#include <ATen/SparseTensorImpl.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#ifdef GRADTAP_TORCH_HAS_CUDA
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

#include <exception>
#include <string>
#include <utility>

#include "agent/capture/device_reduce.h"
#include "agent/capture/tensor_view.h"

namespace gradtap::agent {
namespace {

// Of a tensor that has its elements in one storage.
std::string StridedReason(const c10::TensorImpl& impl) {
  if (!impl.has_storage()) return "it has no storage of its own";
  std::uint64_t last = static_cast<std::uint64_t>(impl.storage_offset());
  for (std::size_t d = 0; d < impl.sizes().size(); ++d) {
    if (impl.sizes()[d] == 0) return "";
    last += static_cast<std::uint64_t>(impl.sizes()[d] - 1) *
            static_cast<std::uint64_t>(impl.strides()[d]);
  }
  if ((last + 1) * impl.itemsize() > impl.storage().nbytes()) {
    return "its storage of " + std::to_string(impl.storage().nbytes()) +
           " bytes is smaller than its shape needs";
  }
  if (std::as_const(impl.storage()).data() == nullptr) {
    return "it has no memory";
  }
  return "";
}

std::string SparseReason(const c10::TensorImpl& impl) {
  const auto& sparse = static_cast<const at::SparseTensorImpl&>(impl);
  if (sparse.coalesced() || sparse.nnz() == 0) return "";
  if (c10::typeMetaToScalarType(impl.dtype()) == c10::ScalarType::Bool) {
    return "entries of dtype bool cannot be added up";
  }
  return "";
}

std::string Reason(const at::Tensor& tensor) {
  if (!tensor.defined()) return "the tensor is undefined";
  const c10::TensorImpl& impl = *tensor.unsafeGetTensorImpl();
  if (impl.is_meta()) return "a meta tensor has no elements";
  if (impl.is_quantized()) {
    return "quantized tensors (" + DtypeText(tensor.scalar_type()) +
           ") are not supported";
  }
  if (impl.is_nested()) return "nested tensors are not supported";
  if (impl.device().type() == c10::DeviceType::MPS) {
    return "device " + impl.device().str() + " has no float64";
  }
  if (DtypeOf(tensor.scalar_type()) == Dtype::kUnsupported) {
    return "dtype " + DtypeText(tensor.scalar_type()) + " is not supported";
  }
  switch (impl.layout()) {
    case c10::Layout::Strided:
      return StridedReason(impl);
    case c10::Layout::Sparse:
      return SparseReason(impl);
    default:
      return "layout " + LayoutText(impl.layout()) + " is not supported";
  }
}

// CUDA is asked itself; of other devices, newer versions of c10 alone know.
template <typename Guard>
bool IsCapturing(const Guard& guard, const c10::Stream& stream) {
#ifdef GRADTAP_TORCH_HAS_CUDA
  if (stream.device_type() == c10::kCUDA) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(c10::cuda::CUDAStream(stream).stream(),
                                 &status) == cudaSuccess &&
           status != cudaStreamCaptureStatusNone;
  }
#endif
  if constexpr (requires { guard.isStreamCapturing(stream); }) {
    return guard.isStreamCapturing(stream);
  } else {
    return false;
  }
}

}  // namespace

std::string DeviceReducer::UnsupportedReason(
    const at::Tensor& tensor) noexcept {
  try {
    return Reason(tensor);
  } catch (const std::exception& e) {
    return e.what();
  }
}

bool DeviceReducer::RecordsGraph(c10::Device device) noexcept {
  if (device.type() == c10::kCPU) return false;
  try {
    const c10::impl::VirtualGuardImpl guard(device.type());
    return IsCapturing(guard, guard.getStream(device));
  } catch (const std::exception&) {
    return false;  // A back end without graphs.
  }
}

}  // namespace gradtap::agent
