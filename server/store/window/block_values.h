// What one block has over a window's recorded steps, role by role.
//
// Layer: server/store/window. Plain data.

#ifndef GRADTAP_SERVER_STORE_WINDOW_BLOCK_VALUES_H_
#define GRADTAP_SERVER_STORE_WINDOW_BLOCK_VALUES_H_

#include <array>
#include <cstdint>

#include "server/store/tile/tile.h"
#include "server/store/window/tile_key.h"

namespace gradtap::server {

inline constexpr int kFloatFields = 5;  // WindowField::kMean and on.
inline constexpr int kCountFields = 4;  // WindowField::kZero and on.

inline constexpr WindowField FloatField(int i) {
  return static_cast<WindowField>(i + 1);
}
inline constexpr WindowField CountField(int i) {
  return static_cast<WindowField>(i + 6);
}

// The columns of one role: parameters are the block's that have it.
struct RoleValues {
  bool any = false;  // Some step has the role, and some parameter.
  // The same presence in each. Where nothing is, a float is kAbsentBits.
  std::array<FloatBlock, kFloatFields> floats;
  // Of those that are not zero throughout; their presence is left out.
  std::array<bool, kCountFields> counted{};
  std::array<CountBlock, kCountFields> counts;

  const FloatBlock& of(WindowField field) const {
    return floats[static_cast<std::size_t>(field) - 1];
  }
};

struct BlockValues {
  std::uint32_t schema_id = 0;
  std::uint32_t block = 0;
  std::uint32_t steps = 0;
  std::array<RoleValues, kRoleCount> roles;

  RoleValues& of(Role role) { return roles[static_cast<std::size_t>(role)]; }
  const RoleValues& of(Role role) const {
    return roles[static_cast<std::size_t>(role)];
  }
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_BLOCK_VALUES_H_
