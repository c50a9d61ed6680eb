#include "server/store/window/layout.h"

#include <algorithm>

#include "server/store/tile/tile.h"

namespace gradtap::server {

TileLayout::TileLayout(const Schema& schema) {
  const std::size_t n = schema.parameters.size();
  blocks_ =
      static_cast<std::uint32_t>((n + kTileParameters - 1) / kTileParameters);
  numel_.reserve(n);
  for (const Parameter& parameter : schema.parameters) {
    numel_.push_back(parameter.numel);
  }
  for (int role = 1; role < kRoleCount; ++role) {
    OfRole& of = roles_[role];
    of.first.reserve(blocks_ + 1);
    for (std::uint32_t i = 0; i < n; ++i) {
      if (i % kTileParameters == 0) {
        of.first.push_back(static_cast<std::uint32_t>(of.block.size()));
      }
      if (!schema.parameters[i].HasRole(static_cast<Role>(role))) continue;
      of.block.push_back(i / kTileParameters);
      of.parameter.push_back(i);
    }
    of.first.push_back(static_cast<std::uint32_t>(of.block.size()));
  }
}

TileLayout::RowRange TileLayout::RowsWithin(Role role, std::uint32_t block,
                                            std::uint32_t first,
                                            std::uint32_t last) const {
  const OfRole& of = Of(role);
  const auto begin = of.parameter.begin() + of.first[block];
  const auto end = of.parameter.begin() + of.first[block + 1];
  const auto from = std::lower_bound(begin, end, first);
  const auto to = std::upper_bound(from, end, last);
  return {static_cast<std::uint32_t>(from - begin),
          static_cast<std::uint32_t>(to - from)};
}

std::int64_t TileLayout::PlaceIn(Role other, Role role,
                                 std::uint32_t place) const {
  const std::uint32_t parameter = Of(role).parameter[place];
  const std::uint32_t block = Of(role).block[place];
  const OfRole& to = Of(other);
  const auto begin = to.parameter.begin() + to.first[block];
  const auto end = to.parameter.begin() + to.first[block + 1];
  const auto found = std::lower_bound(begin, end, parameter);
  if (found == end || *found != parameter) return -1;
  return found - to.parameter.begin();
}

std::uint32_t WindowStepsOf(const TileLayout& layout) {
  if (layout.blocks() <= 2) return 8 * kTileSteps;
  if (layout.blocks() <= 8) return 4 * kTileSteps;
  if (layout.blocks() <= 32) return 2 * kTileSteps;
  return kTileSteps;
}

}  // namespace gradtap::server
