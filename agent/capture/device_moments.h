// The chain of ATen operations behind DeviceReducer: rows of elements to rows
// of statistics, all on one device.
//
// The caller has excluded autograd and autocast (DeviceScope). No operation
// here waits for the device, and none has a shape that depends on its data.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_DEVICE_MOMENTS_H_
#define GRADTAP_AGENT_CAPTURE_DEVICE_MOMENTS_H_

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/Tensor.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cstdint>

#include "agent/capture/moments_layout.h"
#include "core/histogram.h"
#include "core/record.h"

namespace gradtap::agent {

// While it lives, ATen operations of this thread are seen by neither autograd,
// version counters nor autocast.
class DeviceScope {
 public:
  DeviceScope() : no_autocast_(c10::autocast_dispatch_keyset) {}

 private:
  at::AutoDispatchBelowADInplaceOrView below_;
  c10::impl::ExcludeDispatchKeyGuard no_autocast_;
};

// The moments of `n` elements from their columns: column[i * stride] is Column
// i.
Moments MomentsOf(const double* column, std::int64_t stride, std::int64_t n);

// What kBinsWidth doubles say: adds to *bins.
void AddBinsOf(const double* row, BinCounts* bins);

// Elements as double on their way to ReduceRows(). Complex ones are kept by
// their parts, so that a difference can be taken before the magnitude.
class DeviceElements {
 public:
  // A copy of `x`, of any shape and strides, as `rows` rows; times
  // `multiplier`.
  DeviceElements(const at::Tensor& x, std::int64_t rows, double multiplier = 1);

  // x - previous, each difference taken in double; both as they were given,
  // `previous` of the same shape and type. Once, and without a multiplier.
  void Subtract(const at::Tensor& x, const at::Tensor& previous);

  // [rows, n]; magnitudes if complex. Contiguous; the caller may not change it.
  at::Tensor Rows() const;

  // False for types that can only be finite.
  bool may_be_nonfinite() const { return may_be_nonfinite_; }
  // True if a sum of finite elements may exceed double.
  bool wide() const { return wide_; }

 private:
  at::Tensor parts_;  // Contiguous; a last dimension of 2 if complex.
  std::int64_t rows_;
  double multiplier_;  // Still to be applied.
  bool complex_;
  bool may_be_nonfinite_;
  bool wide_;
};

// Fills `out`, [kMomentsWidth, rows] doubles. `zero` is a 0-dim double.
void ReduceRows(const DeviceElements& elements, const at::Tensor& rows,
                const at::Tensor& zero, const at::Tensor& out);

// Fills `out`, [rows, kBinsWidth] doubles.
void CountBins(const at::Tensor& rows, const at::Tensor& out);

// The places of a sparse COO tensor that have entries, added up: rows of its
// dense equivalent in any order, all others being zeros. At most as many rows
// as entries or as places, whichever are fewer; some may be zeros.
at::Tensor AddUpSparse(const at::Tensor& sparse);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_DEVICE_MOMENTS_H_
