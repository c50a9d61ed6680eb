// The order in which the kernels pass over a strided tensor: that of memory.
//
// Dimensions are taken by the size of their strides, the smallest innermost,
// and backwards where a stride is negative. So a transposed or reversed tensor
// is read as it lies, and an expanded dimension repeats each element. The order
// depends on sizes and strides alone.
//
// Layer: core.

#ifndef GRADTAP_CORE_KERNEL_WALK_H_
#define GRADTAP_CORE_KERNEL_WALK_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/kernel.h"

namespace gradtap::kernel {

// The dimensions of a view in that order; those that continue each other are
// one. `view.data` is not null and no size is zero.
class Layout {
 public:
  explicit Layout(const TensorView& view) {
    for (int d = view.dims - 1; d >= 0; --d) {
      if (view.sizes[d] != 1) Insert(view.sizes[d], view.strides[d]);
    }
    Join();
    if (dims_ == 0) {  // One element.
      size_[0] = stride_[0] = 1;
      dims_ = 1;
    }
  }

  int dims() const { return dims_; }
  std::int64_t size(int d) const { return size_[d]; }
  std::int64_t stride(int d) const { return stride_[d]; }
  // Where the order begins, in elements from the view's first one.
  std::int64_t offset() const { return offset_; }

  bool contiguous() const { return dims_ == 1 && stride_[0] == 1; }
  // How often each element of memory comes, in a row.
  std::uint64_t repeat() const {
    return stride_[0] == 0 ? static_cast<std::uint64_t>(size_[0]) : 1;
  }
  // The same without repetition.
  Layout Distinct() const {
    Layout distinct = *this;
    if (repeat() == 1) return distinct;
    if (dims_ == 1) {
      distinct.size_[0] = distinct.stride_[0] = 1;
      return distinct;
    }
    std::copy(size_ + 1, size_ + dims_, distinct.size_);
    std::copy(stride_ + 1, stride_ + dims_, distinct.stride_);
    --distinct.dims_;
    return distinct;
  }

 private:
  void Insert(std::int64_t size, std::int64_t stride) {
    if (stride < 0) {
      offset_ += (size - 1) * stride;
      stride = -stride;
    }
    int at = dims_++;
    for (; at > 0 && stride < stride_[at - 1]; --at) {
      size_[at] = size_[at - 1];
      stride_[at] = stride_[at - 1];
    }
    size_[at] = size;
    stride_[at] = stride;
  }

  void Join() {
    int joined = 0;
    for (int d = 1; d < dims_; ++d) {
      if (size_[joined] * stride_[joined] == stride_[d]) {
        size_[joined] *= size_[d];
      } else {
        ++joined;
        size_[joined] = size_[d];
        stride_[joined] = stride_[d];
      }
    }
    if (dims_ > 0) dims_ = joined + 1;
  }

  int dims_ = 0;
  std::int64_t offset_ = 0;
  // Of the first dims_. Not cleared: a call for a bias would feel it.
  std::int64_t size_[kMaxDims];
  std::int64_t stride_[kMaxDims];
};

// Yields elements in the order of a layout.
template <typename T>
class Walk {
 public:
  // From element number `first` of the order on.
  Walk(const TensorView& view, const Layout& layout, std::uint64_t first)
      : layout_(layout),
        base_(static_cast<const char*>(view.data) +
              layout.offset() * static_cast<std::int64_t>(sizeof(T))) {
    for (int d = 0; d < layout.dims(); ++d) {
      const auto size = static_cast<std::uint64_t>(layout.size(d));
      index_[d] = static_cast<std::int64_t>(first % size);
      first /= size;
      at_ += index_[d] * layout.stride(d);
    }
  }

  // The next `n` elements, of which there are that many: where they lie, if
  // they do so side by side and aligned, else copied to `buffer`.
  const T* Next(std::size_t n, T* buffer) {
    const char* const here = Here();
    if (layout_.stride(0) == 1 &&
        static_cast<std::size_t>(layout_.size(0) - index_[0]) >= n &&
        reinterpret_cast<std::uintptr_t>(here) % alignof(T) == 0) {
      Advance(static_cast<std::int64_t>(n));
      return reinterpret_cast<const T*>(here);
    }
    for (std::size_t done = 0; done < n;) {
      const std::int64_t run = std::min<std::int64_t>(
          layout_.size(0) - index_[0], static_cast<std::int64_t>(n - done));
      CopyRun(buffer + done, run);
      done += static_cast<std::size_t>(run);
      Advance(run);
    }
    return buffer;
  }

 private:
  const char* Here() const {
    return base_ + at_ * static_cast<std::int64_t>(sizeof(T));
  }

  // `run` elements of the innermost dimension.
  void CopyRun(T* to, std::int64_t run) const {
    const char* const from = Here();
    if (layout_.stride(0) == 1) {
      std::memcpy(to, from, static_cast<std::size_t>(run) * sizeof(T));
      return;
    }
    const std::int64_t step =
        layout_.stride(0) * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < run; ++i) {
      std::memcpy(to + i, from + i * step, sizeof(T));
    }
  }

  // Goes on by `run` elements of the innermost dimension, and carries.
  void Advance(std::int64_t run) {
    index_[0] += run;
    at_ += run * layout_.stride(0);
    for (int d = 0; index_[d] == layout_.size(d); ++d) {
      at_ -= layout_.size(d) * layout_.stride(d);
      index_[d] = 0;
      if (d + 1 == layout_.dims()) break;  // The end: back at the first.
      ++index_[d + 1];
      at_ += layout_.stride(d + 1);
    }
  }

  const Layout& layout_;
  const char* const base_;
  std::int64_t at_ = 0;           // From base_, in elements.
  std::int64_t index_[kMaxDims];  // Of the first dims; not cleared.
};

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_WALK_H_
