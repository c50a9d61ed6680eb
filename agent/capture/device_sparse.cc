#include <ATen/SparseTensorImpl.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "agent/capture/device_moments.h"

namespace gradtap::agent {
namespace {

// The place of each entry, linear over the sparse dimensions. Within range
// whatever the indices hold: one out of range must not stop the device.
at::Tensor PlacesOf(const at::SparseTensorImpl& impl, std::int64_t places) {
  const at::Tensor indices = impl.indices();
  if (indices.scalar_type() != at::kLong || indices.dim() != 2 ||
      indices.size(0) != impl.sparse_dim() || indices.size(1) != impl.nnz()) {
    throw std::runtime_error("a sparse tensor's indices are malformed");
  }
  at::Tensor place = at::zeros({impl.nnz()}, indices.options());
  for (std::int64_t d = 0; d < impl.sparse_dim(); ++d) {
    place.mul_(impl.sizes()[static_cast<std::size_t>(d)])
        .add_(indices.select(0, d));
  }
  return place.clamp_(0, places - 1);
}

}  // namespace

// Not coalesce(): that asks the device how many places there are. Here the
// result has room for as many as there could be.
at::Tensor AddUpSparse(const at::Tensor& sparse) {
  const auto& impl =
      *static_cast<const at::SparseTensorImpl*>(sparse.unsafeGetTensorImpl());
  const at::Tensor values = impl.values();
  const std::int64_t nnz = impl.nnz();
  if (impl.coalesced() || nnz == 0 || values.numel() == 0) return values;
  std::int64_t places = 1;
  for (std::int64_t d = 0; d < impl.sparse_dim(); ++d) {
    places *= impl.sizes()[static_cast<std::size_t>(d)];
  }
  const at::Tensor place = PlacesOf(impl, places);
  std::vector<std::int64_t> shape = values.sizes().vec();
  if (places <= nnz) {
    shape[0] = places;
    return at::zeros(shape, values.options()).index_add_(0, place, values);
  }
  const auto [sorted, order] = at::sort(place, /*stable=*/true, 0, false);
  // Entries at the same place get the same row: the number of places before.
  const at::Tensor row = at::zeros({nnz}, place.options());
  if (nnz > 1) {
    row.narrow(0, 1, nnz - 1)
        .copy_(
            at::ne(sorted.narrow(0, 1, nnz - 1), sorted.narrow(0, 0, nnz - 1)));
  }
  return at::zeros(shape, values.options())
      .index_add_(0, row.cumsum(0), values.index_select(0, order));
}

}  // namespace gradtap::agent
