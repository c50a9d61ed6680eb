#include "agent/capture/known_tensor.h"

#include <algorithm>
#include <utility>

namespace gradtap::agent {

KnownTensor::KnownTensor(at::Tensor tensor) : tensor_(std::move(tensor)) {
  impl_ = tensor_.unsafeGetTensorImpl();  // Undefined ones share one.
  if (!tensor_.defined()) {
    print_ = std::make_unique<TensorFingerprint>();
    return;
  }
  requires_grad_ = impl_->requires_grad();
  autograd_ = impl_->autograd_meta();
  if (!UnsupportedReason(tensor_).empty() ||
      impl_->layout() != c10::Layout::Strided || !impl_->is_cpu()) {
    print_ = std::make_unique<TensorFingerprint>(FingerprintOfTensor(tensor_));
    return;
  }
  readable_ = true;
  storage_ = impl_->unsafe_storage().unsafeGetStorageImpl();
  keys_ = impl_->key_set();
  type_ = impl_->dtype();
  dtype_ = DtypeOf(tensor_.scalar_type());
  item_bytes_ = static_cast<std::uint8_t>(impl_->itemsize());
  dims_ = static_cast<std::int32_t>(impl_->dim());
  offset_ = impl_->storage_offset();
  numel_ = impl_->numel();
  if (dims_ > kFewDims) {
    many_ =
        std::make_unique<std::int64_t[]>(2 * static_cast<std::size_t>(dims_));
  }
  std::int64_t* const to = many_ ? many_.get() : few_.data();
  std::copy(impl_->sizes().begin(), impl_->sizes().end(), to);
  std::copy(impl_->strides().begin(), impl_->strides().end(), to + dims_);
  extent_ = ExtentOf(*impl_);
}

bool KnownTensor::LiesAsBefore() const {
  const c10::TensorImpl& impl = *impl_;
  return impl.key_set() == keys_ && impl.dtype() == type_ &&
         impl.storage_offset() == offset_ &&
         impl.sizes() == c10::IntArrayRef(sizes(), dims_) &&
         impl.strides() == c10::IntArrayRef(strides(), dims_);
}

bool KnownTensor::Unchanged() const {
  if (!readable_) return FingerprintOfTensor(tensor_) == *print_;
  return LiesAsBefore() &&
         impl_->unsafe_storage().unsafeGetStorageImpl() == storage_ &&
         impl_->requires_grad() == requires_grad_;
}

bool KnownTensor::View(TensorView* view) const {
  if (!LiesAsBefore()) return false;
  view->data = DataOf(*impl_, extent_, item_bytes_);
  if (view->data == nullptr && extent_ != 0) return false;
  view->dtype = dtype_;
  view->dims = dims_;
  view->sizes = sizes();
  view->strides = strides();
  return true;
}

std::uint64_t KnownTensor::ExtentOfTwin(const c10::TensorImpl& twin) const {
  const bool same =
      readable_ && twin.strides() == c10::IntArrayRef(strides(), dims_);
  return same ? extent_ : ExtentOf(twin);
}

bool KnownTensor::SameOrder(const KnownTensor& other) const {
  return readable_ && other.readable_ && keys_ == other.keys_ &&
         type_ == other.type_ &&
         c10::IntArrayRef(sizes(), 2 * dims_) ==
             c10::IntArrayRef(other.sizes(), 2 * other.dims_);
}

}  // namespace gradtap::agent
