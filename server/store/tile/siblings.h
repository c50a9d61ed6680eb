// Which tiles a field's tile may lean on: one table for who writes tiles and
// who reads them.
//
// Layer: server/store/tile. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_TILE_SIBLINGS_H_
#define GRADTAP_SERVER_STORE_TILE_SIBLINGS_H_

#include <cstdint>

#include "core/record.h"

namespace gradtap::server {

// The floats of a record. Values may stand in keys and never change.
enum class TileField : std::uint8_t {
  kMean = 1,
  kStd = 2,
  kAbsMean = 3,
  kMin = 4,
  kMax = 5,
};
inline constexpr int kTileFields = 5;

// What to give to TileReferences, of the same parameters and steps.
struct TileSiblings {
  bool std_as_scale = false;         // `std` of the same role.
  bool mean_as_twin = false;         // `mean` of the same role.
  bool update_as_increment = false;  // `mean` of the role update.
};

// What a tile leans on leans on nothing itself: `std` of any role, and `mean`
// of any role but weight. With the update's `mean` at hand a weight's is nearly
// free.
inline TileSiblings SiblingsOf(Role role, TileField field) {
  const bool weight = role == Role::kWeight;
  switch (field) {
    case TileField::kMean:
      return {.update_as_increment = weight};
    case TileField::kStd:
      return {};
    case TileField::kAbsMean:
      return {.std_as_scale = true,
              .mean_as_twin = !weight,
              .update_as_increment = weight};
    case TileField::kMin:
    case TileField::kMax:
      return {.std_as_scale = true};
  }
  return {};
}

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_TILE_SIBLINGS_H_
