#include "agent/capture/sparse_reduce.h"

#include <ATen/SparseTensorImpl.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "agent/capture/tensor_view.h"
#include "core/kernel.h"

namespace gradtap::agent {
namespace {

// The moments of `count` zeros.
Moments Zeros(std::uint64_t count) {
  Moments m;
  if (count == 0) return m;
  m.finite = count;
  m.min = 0;
  m.max = 0;
  m.zero = count;
  return m;
}

// Adds a strided row to a dense one, element by element.
template <typename T>
void AddRow(const TensorView& row, T* sum, bool first) {
  std::int64_t index[kMaxDims] = {};
  const T* from = static_cast<const T*>(row.data);
  const std::uint64_t n = Numel(row);
  for (std::uint64_t i = 0; i < n; ++i) {
    sum[i] = first ? *from : static_cast<T>(sum[i] + *from);
    for (int d = row.dims - 1; d >= 0; --d) {
      from += row.strides[d];
      if (++index[d] < row.sizes[d]) break;
      from -= row.strides[d] * row.sizes[d];
      index[d] = 0;
    }
  }
}

template <>
void AddRow<bool>(const TensorView&, bool*, bool) = delete;

void AddRowOf(c10::ScalarType type, const TensorView& row, void* sum,
              bool first) {
  switch (type) {
#define GRADTAP_CASE(scalar, T) \
  case c10::ScalarType::scalar: \
    return AddRow<T>(row, static_cast<T*>(sum), first)
    GRADTAP_CASE(Float, float);
    GRADTAP_CASE(Double, double);
    GRADTAP_CASE(Half, c10::Half);
    GRADTAP_CASE(BFloat16, c10::BFloat16);
    GRADTAP_CASE(Char, std::int8_t);
    GRADTAP_CASE(Short, std::int16_t);
    GRADTAP_CASE(Int, std::int32_t);
    GRADTAP_CASE(Long, std::int64_t);
    GRADTAP_CASE(Byte, std::uint8_t);
    GRADTAP_CASE(ComplexFloat, c10::complex<float>);
    GRADTAP_CASE(ComplexDouble, c10::complex<double>);
#undef GRADTAP_CASE
    default:
      throw std::runtime_error("entries of dtype " + DtypeText(type) +
                               " cannot be added up");
  }
}

}  // namespace

Moments SparseReducer::Reduce(const at::Tensor& tensor) {
  const auto& impl =
      *static_cast<const at::SparseTensorImpl*>(tensor.unsafeGetTensorImpl());
  const at::Tensor values = impl.values();
  const at::Tensor indices = impl.indices();
  const std::string reason =
      UnsupportedReason(values) + UnsupportedReason(indices);
  if (!reason.empty()) throw std::runtime_error(reason);
  const auto numel = static_cast<std::uint64_t>(tensor.numel());
  const std::int64_t nnz = impl.nnz();
  if (nnz == 0 || values.numel() == 0) return Zeros(numel);

  // One entry's values: a view that moves by the first stride.
  TensorView row = ViewOf(values);
  const std::int64_t stride = row.strides[0];
  --row.dims;
  ++row.sizes;
  ++row.strides;
  const std::uint64_t row_numel = Numel(row);
  if (impl.coalesced()) {
    return Merge(gradtap::Reduce(ViewOf(values)),
                 Zeros(numel - static_cast<std::uint64_t>(nnz) * row_numel));
  }

  const TensorView places = ViewOf(indices);
  if (places.dtype != Dtype::kInt64 || places.dims != 2 ||
      places.sizes[0] != impl.sparse_dim() || places.sizes[1] != nnz) {
    throw std::runtime_error("a sparse tensor's indices are malformed");
  }
  const auto* index = static_cast<const std::int64_t*>(places.data);
  entries_.clear();
  entries_.reserve(static_cast<std::size_t>(nnz));
  for (std::int64_t e = 0; e < nnz; ++e) {
    std::int64_t place = 0;
    for (std::int64_t d = 0; d < impl.sparse_dim(); ++d) {
      const std::int64_t i =
          index[d * places.strides[0] + e * places.strides[1]];
      if (i < 0 || i >= tensor.size(d)) {
        throw std::runtime_error("a sparse tensor's index " +
                                 std::to_string(i) + " is out of range");
      }
      place = place * tensor.size(d) + i;
    }
    entries_.push_back({place, e});
  }
  std::sort(entries_.begin(), entries_.end());

  const std::size_t item = DtypeSize(row.dtype);
  const std::size_t row_bytes = static_cast<std::size_t>(row_numel) * item;
  const std::size_t needed =
      (row_bytes * entries_.size() + sizeof(std::max_align_t) - 1) /
      sizeof(std::max_align_t);
  if (values_.size() < needed) values_.resize(needed);
  char* const rows = reinterpret_cast<char*>(values_.data());
  const char* const from = static_cast<const char*>(row.data);
  std::size_t unique = 0;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const bool first = e == 0 || entries_[e].place != entries_[e - 1].place;
    if (first) ++unique;
    row.data =
        from + entries_[e].entry * stride * static_cast<std::int64_t>(item);
    AddRowOf(values.scalar_type(), row, rows + (unique - 1) * row_bytes, first);
  }
  const std::int64_t size = static_cast<std::int64_t>(unique * row_numel);
  const std::int64_t one = 1;
  const TensorView sums{rows, row.dtype, 1, &size, &one};
  return Merge(gradtap::Reduce(sums),
               Zeros(numel - static_cast<std::uint64_t>(size)));
}

std::uint64_t SparseReducer::scratch_bytes() const {
  return entries_.capacity() * sizeof(Entry) +
         values_.capacity() * sizeof(std::max_align_t);
}

}  // namespace gradtap::agent
