// A tensor as it was when it was looked at: what a step compares, and the view
// that the kernels read, without hashing or deriving anything anew.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_KNOWN_TENSOR_H_
#define GRADTAP_AGENT_CAPTURE_KNOWN_TENSOR_H_

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "agent/capture/tensor_view.h"
#include "core/kernel.h"

namespace gradtap::agent {

// Keeps the tensor alive. The comparisons read a few lines of its description,
// never an element; nothing but the constructor allocates.
class KnownTensor {
 public:
  KnownTensor() = default;
  explicit KnownTensor(at::Tensor tensor);

  const at::Tensor& tensor() const { return tensor_; }
  // Supported, strided, on the CPU: View() can be asked for.
  bool readable() const { return readable_; }

  // False if something that the table or a view depends on is another now:
  // storage, sizes, strides, offset, dtype, device, layout, requires_grad.
  bool Unchanged() const;

  // Of a readable one. False if it lies otherwise than it did, or its memory is
  // too small: then it is to be looked at anew. The view is valid while this
  // object stays where it is and the tensor has its storage.
  bool View(TensorView* view) const;

  // True if a copy in the kernels' order of one is in the order of the other,
  // of the same dtype.
  bool SameOrder(const KnownTensor& other) const;

  // True if it has as many elements, of the same dtype.
  bool SameElements(const KnownTensor& other) const {
    return type_ == other.type_ && impl_->numel() == other.numel_;
  }

  // ExtentOf(twin), of a strided tensor of the same sizes.
  std::uint64_t ExtentOfTwin(const c10::TensorImpl& twin) const;

  // The tensor must be defined.
  const c10::TensorImpl& impl() const { return *impl_; }
  // Of a readable one.
  int dims() const { return dims_; }
  const std::int64_t* sizes() const {
    return many_ ? many_.get() : few_.data();
  }
  const std::int64_t* strides() const { return sizes() + dims_; }

  // Asks for the lines that Unchanged() and View() will read. May be called
  // when the tensor has changed.
  void Prefetch() const {
    PrefetchLines(impl_, sizeof(c10::TensorImpl));
    PrefetchLines(storage_, sizeof(c10::StorageImpl));
    PrefetchLines(autograd_, 3 * kLine);
  }

  static constexpr std::size_t kLine = 64;
  static void PrefetchLines(const void* at, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += kLine) {
      __builtin_prefetch(static_cast<const char*>(at) + i);
    }
  }

 private:
  bool LiesAsBefore() const;

  at::Tensor tensor_;
  const c10::TensorImpl* impl_ = nullptr;
  const c10::StorageImpl* storage_ = nullptr;
  const void* autograd_ = nullptr;  // A hint of where requires_grad is.
  c10::DispatchKeySet keys_;
  caffe2::TypeMeta type_;
  Dtype dtype_ = Dtype::kUnsupported;
  bool readable_ = false;
  bool requires_grad_ = false;
  std::uint8_t item_bytes_ = 0;
  std::int32_t dims_ = 0;
  std::int64_t offset_ = 0;
  std::int64_t numel_ = 0;
  std::uint64_t extent_ = 0;
  // Sizes, then strides.
  static constexpr int kFewDims = 4;
  std::array<std::int64_t, 2 * kFewDims> few_{};
  std::unique_ptr<std::int64_t[]> many_;  // Null: in few_.
  // Of one that is not readable.
  std::unique_ptr<TensorFingerprint> print_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_KNOWN_TENSOR_H_
