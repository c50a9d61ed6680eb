#include "agent/capture/sparse_reduce.h"

#include <ATen/SparseTensorImpl.h>

#include <algorithm>
#include <string>

#include "agent/capture/tensor_view.h"

namespace gradtap::agent {
namespace {

constexpr std::int64_t kOne = 1;

// Adds a strided row to a dense one, element by element.
template <typename T>
void AddRow(const TensorView& row, T* sum, bool first) {
  const int inner = row.dims - 1;
  const std::int64_t run = row.dims == 0 ? 1 : row.sizes[inner];
  const std::int64_t step = row.dims == 0 ? 1 : row.strides[inner];
  std::int64_t index[kMaxDims] = {};
  const T* from = static_cast<const T*>(row.data);
  for (std::uint64_t left = Numel(row); left > 0;
       left -= static_cast<std::uint64_t>(run), sum += run) {
    for (std::int64_t i = 0; i < run; ++i) {
      sum[i] = first ? from[i * step] : static_cast<T>(sum[i] + from[i * step]);
    }
    for (int d = inner - 1; d >= 0; --d) {
      from += row.strides[d];
      if (++index[d] < row.sizes[d]) break;
      from -= row.strides[d] * row.sizes[d];
      index[d] = 0;
    }
  }
}

using AddRowFunction = void (*)(const TensorView&, void*, bool);

template <typename T>
void AddRowTo(const TensorView& row, void* sum, bool first) {
  AddRow(row, static_cast<T*>(sum), first);
}

// Null: entries of that type cannot be added up.
AddRowFunction AddRowOf(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return AddRowTo<float>;
    case Dtype::kFloat64:
      return AddRowTo<double>;
    case Dtype::kFloat16:
      return AddRowTo<c10::Half>;
    case Dtype::kBfloat16:
      return AddRowTo<c10::BFloat16>;
    case Dtype::kInt8:
      return AddRowTo<std::int8_t>;
    case Dtype::kInt16:
      return AddRowTo<std::int16_t>;
    case Dtype::kInt32:
      return AddRowTo<std::int32_t>;
    case Dtype::kInt64:
      return AddRowTo<std::int64_t>;
    case Dtype::kUint8:
      return AddRowTo<std::uint8_t>;
    case Dtype::kBool:
      return AddRowTo<bool>;  // One entry that is true is enough.
    case Dtype::kComplex64:
      return AddRowTo<c10::complex<float>>;
    case Dtype::kComplex128:
      return AddRowTo<c10::complex<double>>;
    default:
      return nullptr;
  }
}

absl::Status Malformed(const std::string& what) {
  return absl::InvalidArgumentError("a sparse tensor's " + what);
}

// Of values or indices.
absl::Status CheckPart(const at::Tensor& part, const char* what) {
  std::string reason = UnsupportedReason(part);
  if (reason.empty() && part.layout() != c10::Layout::Strided) {
    reason = "layout " + LayoutText(part.layout()) + " is not supported";
  }
  if (reason.empty()) return absl::OkStatus();
  return Malformed(std::string(what) + " cannot be read: " + reason);
}

}  // namespace

absl::StatusOr<SparseValues> SparseReducer::Prepare(const at::Tensor& tensor) {
  const auto& impl =
      *static_cast<const at::SparseTensorImpl*>(tensor.unsafeGetTensorImpl());
  const at::Tensor values = impl.values();
  absl::Status status = CheckPart(values, "values");
  if (status.ok()) status = CheckPart(impl.indices(), "indices");
  if (!status.ok()) return status;
  SparseValues out;
  out.zeros = static_cast<std::uint64_t>(tensor.numel());
  if (values.numel() == 0) {
    sums_ = 0;
    out.view = {nullptr, DtypeOf(values.scalar_type()), 1, &sums_, &kOne};
    return out;
  }
  out.view = ViewOf(values);
  auto numel = static_cast<std::uint64_t>(values.numel());
  if (!impl.coalesced()) {
    if (AddRowOf(out.view.dtype) == nullptr) {
      return absl::InvalidArgumentError("entries of dtype " +
                                        DtypeText(values.scalar_type()) +
                                        " at one place cannot be added up");
    }
    status = SortEntries(impl);
    if (!status.ok()) return status;
    // One entry's values: a view that moves by the first stride.
    TensorView row = out.view;
    const std::int64_t stride = row.strides[0];
    --row.dims;
    ++row.sizes;
    ++row.strides;
    numel = AddUp(row, stride) * Numel(row);
    sums_ = static_cast<std::int64_t>(numel);
    out.view = {values_.data(), row.dtype, 1, &sums_, &kOne};
  }
  if (numel > out.zeros) return Malformed("entries exceed its shape");
  out.zeros -= numel;
  return out;
}

absl::Status SparseReducer::SortEntries(const at::SparseTensorImpl& impl) {
  const at::Tensor indices = impl.indices();
  const TensorView places = ViewOf(indices);
  const std::int64_t nnz = impl.nnz();
  if (places.dtype != Dtype::kInt64 || places.dims != 2 ||
      places.sizes[0] != impl.sparse_dim() || places.sizes[1] != nnz) {
    return Malformed("indices do not fit its values");
  }
  const auto* const index = static_cast<const std::int64_t*>(places.data);
  const auto sizes = impl.sizes();
  entries_.clear();
  entries_.reserve(static_cast<std::size_t>(nnz));
  for (std::int64_t e = 0; e < nnz; ++e) {
    std::int64_t place = 0;
    for (std::int64_t d = 0; d < impl.sparse_dim(); ++d) {
      const std::int64_t i =
          index[d * places.strides[0] + e * places.strides[1]];
      const std::int64_t size = sizes[static_cast<std::size_t>(d)];
      if (i < 0 || i >= size) {
        return Malformed("index " + std::to_string(i) +
                         " is out of range: dimension " + std::to_string(d) +
                         " has " + std::to_string(size));
      }
      place = place * size + i;
    }
    entries_.push_back({place, e});
  }
  std::sort(entries_.begin(), entries_.end());
  return absl::OkStatus();
}

std::size_t SparseReducer::AddUp(TensorView row, std::int64_t stride) {
  const std::size_t item = DtypeSize(row.dtype);
  const std::size_t row_bytes = static_cast<std::size_t>(Numel(row)) * item;
  const std::size_t needed =
      (row_bytes * entries_.size() + sizeof(std::max_align_t) - 1) /
      sizeof(std::max_align_t);
  if (values_.size() < needed) values_.resize(needed);
  char* const rows = reinterpret_cast<char*>(values_.data());
  const char* const from = static_cast<const char*>(row.data);
  const AddRowFunction add = AddRowOf(row.dtype);
  std::size_t unique = 0;
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    const bool first = e == 0 || entries_[e].place != entries_[e - 1].place;
    if (first) ++unique;
    row.data =
        from + entries_[e].entry * stride * static_cast<std::int64_t>(item);
    add(row, rows + (unique - 1) * row_bytes, first);
  }
  return unique;
}

std::uint64_t SparseReducer::scratch_bytes() const {
  return entries_.capacity() * sizeof(Entry) +
         values_.capacity() * sizeof(std::max_align_t);
}

}  // namespace gradtap::agent
