// A sparse COO tensor as what is to be reduced of its dense equivalent.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_
#define GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/kernel.h"

namespace at {
struct SparseTensorImpl;
}  // namespace at

namespace gradtap::agent {

// What is reduced in a sparse tensor's place.
struct SparseValues {
  TensorView view;          // Its entries, those at one place added up.
  std::uint64_t zeros = 0;  // Elements without an entry.
};

// One thread at a time. Keeps its scratch, in proportion to the entries of the
// largest tensor seen.
class SparseReducer {
 public:
  // Entries at the same place are added up in the tensor's own dtype, in the
  // order in which they stand, as LibTorch's coalesce() does; places without an
  // entry are zeros. Changes nothing in `tensor`. Valid until the next call,
  // and while the tensor is. Returns kInvalidArgument, for a person, if it
  // cannot be read: its indices do not fit its sizes, or its entries are of a
  // kind that cannot be.
  absl::StatusOr<SparseValues> Prepare(const at::Tensor& tensor);

  std::uint64_t scratch_bytes() const;

 private:
  struct Entry {
    std::int64_t place;  // Linear, over the sparse dimensions.
    std::int64_t entry;  // Where it stands among the values.
    bool operator<(const Entry& o) const {
      return place != o.place ? place < o.place : entry < o.entry;
    }
  };

  absl::Status SortEntries(const at::SparseTensorImpl& impl);
  // Returns how many places have an entry.
  std::size_t AddUp(TensorView row, std::int64_t stride);

  std::vector<Entry> entries_;
  std::vector<std::max_align_t> values_;  // Rows, added up.
  std::int64_t sums_ = 0;                 // Elements in values_.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_
