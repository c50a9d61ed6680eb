// The values of some blocks over a window's recorded steps, gathered step by
// step.
//
// Layer: server/store/window. One thread.

#ifndef GRADTAP_SERVER_STORE_WINDOW_SLAB_H_
#define GRADTAP_SERVER_STORE_WINDOW_SLAB_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/codec.h"
#include "server/store/window/block_values.h"
#include "server/store/window/layout.h"

namespace gradtap::server {

class Slab {
 public:
  // Blocks [begin, end) of the layout, which must outlive it, for `max_steps`.
  Slab(const TileLayout* layout, std::uint32_t begin, std::uint32_t end,
       std::uint32_t max_steps);

  // The memory that a block takes.
  static std::size_t BytesOf(const TileLayout& layout, std::uint32_t block,
                             std::uint32_t max_steps);

  std::uint32_t begin() const { return begin_; }
  std::uint32_t end() const { return end_; }

  // Takes what the step, which is of the layout's schema, has of the blocks.
  // Steps come in order, each once, at most max_steps.
  void Add(const StepView& step);

  // A block's values over all steps added, into `*out`, whose memory is used
  // again.
  void Gather(std::uint32_t block, BlockValues* out) const;

 private:
  struct Count {
    std::uint32_t step = 0;
    std::uint32_t row = 0;  // Of its block.
    std::uint64_t count = 0;
  };
  // One role's values, step by step; places count from `first`.
  struct OfRole {
    std::uint32_t first = 0;
    std::uint32_t places = 0;
    std::uint32_t steps = 0;  // That have the role.
    bool absent = false;      // Some value is.
    std::array<std::vector<float>, kFloatFields> floats;
    std::vector<std::uint8_t> present;
    // By block.
    std::array<std::vector<std::vector<Count>>, kCountFields> counts;
  };

  void AddRole(const StepView::Columns& columns);
  void AddCounts(const StepView::Columns& columns, OfRole* of);
  void GatherFloats(const OfRole& of, Role role, std::uint32_t block,
                    RoleValues* out) const;
  // Empty if all are present.
  std::vector<std::uint8_t> GatherPresence(const OfRole& of, Role role,
                                           std::uint32_t block) const;
  void GatherCounts(const OfRole& of, Role role, std::uint32_t block,
                    RoleValues* out) const;

  const TileLayout* const layout_;
  const std::uint32_t begin_, end_, max_steps_;
  std::uint32_t steps_ = 0;  // Added so far.
  std::array<OfRole, kRoleCount> roles_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_SLAB_H_
