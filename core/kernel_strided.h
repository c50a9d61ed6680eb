// A strided tensor as blocks of elements in index order.
//
// Layer: core.

#ifndef GRADTAP_CORE_KERNEL_STRIDED_H_
#define GRADTAP_CORE_KERNEL_STRIDED_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/kernel.h"

namespace gradtap::kernel {

// Yields the elements of a view in index order (the last dimension fastest),
// whatever the strides. `view.data` is not null and no size is zero.
template <typename T>
class StridedReader {
 public:
  explicit StridedReader(const TensorView& view)
      : base_(static_cast<const char*>(view.data)), at_(base_) {
    // From the last dimension on; those that continue each other become one.
    for (int d = view.dims - 1; d >= 0; --d) {
      const std::int64_t size = view.sizes[d];
      const std::int64_t stride = view.strides[d];
      if (size == 1) continue;
      if (dims_ > 0 && size_[dims_ - 1] * stride_[dims_ - 1] == stride) {
        size_[dims_ - 1] *= size;
      } else {
        size_[dims_] = size;
        stride_[dims_] = stride;
        ++dims_;
      }
    }
    if (dims_ == 0) {  // One element.
      size_[0] = stride_[0] = 1;
      dims_ = 1;
    }
  }

  // Passes over `n` elements, of which there are that many.
  void Skip(std::uint64_t n) {
    while (n > 0) {
      const std::uint64_t run = std::min<std::uint64_t>(
          static_cast<std::uint64_t>(size_[0] - index_[0]), n);
      Advance(static_cast<std::int64_t>(run));
      n -= run;
    }
  }

  // The next `n` elements, of which there are that many: where they lie, if
  // they do so side by side and aligned, else copied to `buffer`.
  const T* Next(std::size_t n, T* buffer) {
    if (stride_[0] == 1 &&
        static_cast<std::size_t>(size_[0] - index_[0]) >= n &&
        reinterpret_cast<std::uintptr_t>(at_) % alignof(T) == 0) {
      const T* here = reinterpret_cast<const T*>(at_);
      Advance(static_cast<std::int64_t>(n));
      return here;
    }
    for (std::size_t done = 0; done < n;) {
      const std::int64_t run = std::min<std::int64_t>(
          size_[0] - index_[0], static_cast<std::int64_t>(n - done));
      CopyRun(buffer + done, run);
      done += static_cast<std::size_t>(run);
      Advance(run);
    }
    return buffer;
  }

 private:
  // `run` elements of the innermost dimension.
  void CopyRun(T* to, std::int64_t run) const {
    if (stride_[0] == 1) {
      std::memcpy(to, at_, static_cast<std::size_t>(run) * sizeof(T));
      return;
    }
    const std::int64_t step = stride_[0] * static_cast<std::int64_t>(sizeof(T));
    for (std::int64_t i = 0; i < run; ++i) {
      std::memcpy(to + i, at_ + i * step, sizeof(T));
    }
  }

  // Goes on by `run` elements of the innermost dimension, and carries.
  void Advance(std::int64_t run) {
    index_[0] += run;
    offset_ += run * stride_[0];
    for (int d = 0; index_[d] == size_[d]; ++d) {
      offset_ -= size_[d] * stride_[d];
      index_[d] = 0;
      if (d + 1 == dims_) break;  // The end: back at the first element.
      ++index_[d + 1];
      offset_ += stride_[d + 1];
    }
    at_ = base_ + offset_ * static_cast<std::int64_t>(sizeof(T));
  }

  const char* const base_;
  const char* at_;
  std::int64_t offset_ = 0;  // Of at_, in elements.
  int dims_ = 0;
  // Innermost dimension first.
  std::array<std::int64_t, kMaxDims + 1> size_{};
  std::array<std::int64_t, kMaxDims + 1> stride_{};
  std::array<std::int64_t, kMaxDims + 1> index_{};
};

}  // namespace gradtap::kernel

#endif  // GRADTAP_CORE_KERNEL_STRIDED_H_
