// Which values share a tile: the parameters of a schema in blocks of
// kTileParameters, in the schema's order; a role's tile of a block has a row
// for each of its parameters that have the role.
//
// Layer: server/store/window. This file: std, core. Immutable.

#ifndef GRADTAP_SERVER_STORE_WINDOW_LAYOUT_H_
#define GRADTAP_SERVER_STORE_WINDOW_LAYOUT_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/record.h"
#include "core/schema.h"

namespace gradtap::server {

class TileLayout {
 public:
  // Costs one pass over the parameters; 12 bytes for each place.
  explicit TileLayout(const Schema& schema);

  std::uint32_t blocks() const { return blocks_; }
  // Places of a role in a step's columns.
  std::uint32_t places(Role role) const {
    return static_cast<std::uint32_t>(Of(role).block.size());
  }

  // Where a place of the role's columns is: it is below places(role).
  std::uint32_t BlockOf(Role role, std::uint32_t place) const {
    return Of(role).block[place];
  }
  std::uint32_t RowOf(Role role, std::uint32_t place) const {
    return place - Of(role).first[Of(role).block[place]];
  }
  // The places of a block are [FirstPlace(), FirstPlace() + Rows()).
  std::uint32_t FirstPlace(Role role, std::uint32_t block) const {
    return Of(role).first[block];
  }
  std::uint32_t Rows(Role role, std::uint32_t block) const {
    return Of(role).first[block + 1] - Of(role).first[block];
  }
  // Those of them whose parameters are [first, last] of the schema.
  struct RowRange {
    std::uint32_t first = 0;
    std::uint32_t rows = 0;
  };
  RowRange RowsWithin(Role role, std::uint32_t block, std::uint32_t first,
                      std::uint32_t last) const;
  // The elements of the tensor at a place.
  std::uint64_t Numel(Role role, std::uint32_t place) const {
    return numel_[Of(role).parameter[place]];
  }
  // The place that the same parameter has in another role, or -1.
  std::int64_t PlaceIn(Role other, Role role, std::uint32_t place) const;

 private:
  struct OfRole {
    std::vector<std::uint32_t> block;      // By place.
    std::vector<std::uint32_t> parameter;  // By place: index in the schema.
    std::vector<std::uint32_t> first;      // By block, and one past the last.
  };
  const OfRole& Of(Role role) const {
    return roles_[static_cast<std::size_t>(role)];
  }

  std::uint32_t blocks_ = 0;
  std::array<OfRole, kRoleCount> roles_;
  std::vector<std::uint64_t> numel_;  // By parameter.
};

// Recorded steps of a window: 128 to 1,024. Long tiles are smaller, by 1 to 4
// %; but one step of a wide model has to be read from many of them.
std::uint32_t WindowStepsOf(const TileLayout& layout);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_LAYOUT_H_
