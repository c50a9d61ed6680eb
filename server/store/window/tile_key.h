// What a sealed window consists of besides its timeline and scalars: values by
// role, field and block.
//
// Layer: server/store/window. Plain data.

#ifndef GRADTAP_SERVER_STORE_WINDOW_TILE_KEY_H_
#define GRADTAP_SERVER_STORE_WINDOW_TILE_KEY_H_

#include <array>
#include <cstdint>

#include "core/record.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/statistic.h"
#include "server/store/tile/tile.h"

namespace gradtap::server {

// Values stand in keys and never change; 1 to 5 are those of TileField.
enum class WindowField : std::uint8_t {
  // 1 where the role has a record, in a count tile. Not written if it has one
  // everywhere.
  kPresence = 0,
  kMean = 1,
  kStd = 2,
  kAbsMean = 3,
  kMin = 4,
  kMax = 5,
  // Count tiles; not written where all are zero.
  kZero = 6,
  kNan = 7,
  kPosInf = 8,
  kNegInf = 9,
};
inline constexpr int kWindowFields = 10;

inline constexpr bool IsFloat(WindowField field) {
  return field >= WindowField::kMean && field <= WindowField::kMax;
}

struct TileKey {
  Role role = Role::kUnspecified;
  WindowField field = WindowField::kPresence;
  std::uint32_t block = 0;
};

// Roll-ups of some parameters of a block that have a role: kRollupParameters
// (rollup/block.h) rows of its tiles.
struct RollupKey {
  std::uint8_t level = 0;  // 0: runs of 64 steps of one window.
  Role role = Role::kUnspecified;
  RollupStatistic statistic = RollupStatistic::kMean;
  std::uint32_t schema_id = 0;
  std::uint32_t group = 0;
};
inline constexpr std::uint32_t kGroupsOfBlock =
    kTileParameters / kRollupParameters;
inline std::uint32_t RollupGroupOf(std::uint32_t block, std::uint32_t row) {
  return block * kGroupsOfBlock + row / kRollupParameters;
}

// Bit f: field f. The fields of one role that some block of a window has.
using FieldSet = std::uint16_t;
inline constexpr FieldSet kAllFields = (1u << kWindowFields) - 1;
inline constexpr FieldSet BitOf(WindowField field) {
  return static_cast<FieldSet>(1u << static_cast<unsigned>(field));
}
using RoleFields = std::array<FieldSet, kRoleCount>;

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_TILE_KEY_H_
