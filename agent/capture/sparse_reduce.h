// The moments of a sparse COO tensor as those of its dense equivalent.
//
// Layer: agent/capture.

#ifndef GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_
#define GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/record.h"

namespace gradtap::agent {

// One thread at a time. Keeps its scratch, in proportion to the entries of the
// largest tensor seen.
class SparseReducer {
 public:
  // Entries at the same place are added up in the tensor's own dtype, in the
  // order in which they stand, as LibTorch's coalesce() does; places without an
  // entry are zeros. Changes nothing in `tensor`. Throws std::runtime_error if
  // its indices do not fit its sizes.
  Moments Reduce(const at::Tensor& tensor);

  std::uint64_t scratch_bytes() const;

 private:
  struct Entry {
    std::int64_t place;  // Linear, over the sparse dimensions.
    std::int64_t entry;  // Where it stands among the values.
    bool operator<(const Entry& o) const {
      return place != o.place ? place < o.place : entry < o.entry;
    }
  };

  std::vector<Entry> entries_;
  std::vector<std::max_align_t> values_;  // Rows, added up.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_CAPTURE_SPARSE_REDUCE_H_
