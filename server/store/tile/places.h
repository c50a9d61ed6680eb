// Values present, and their places in a block.
//
// Layer: server/store/tile. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_TILE_PLACES_H_
#define GRADTAP_SERVER_STORE_TILE_PLACES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "server/store/tile/tile.h"

namespace gradtap::server::tile {

// How many of a series' first `steps` values are present; `present` is the
// block's, or empty.
inline std::size_t CountPresent(const std::vector<std::uint8_t>& present,
                                std::size_t series, std::size_t stride,
                                std::size_t steps) {
  if (present.empty()) return steps;
  const auto row =
      present.begin() + static_cast<std::ptrdiff_t>(series * stride);
  return steps - static_cast<std::size_t>(std::count(
                     row, row + static_cast<std::ptrdiff_t>(steps), 0));
}

inline void CountAllPresent(const std::vector<std::uint8_t>& present,
                            std::uint32_t parameters, std::uint32_t steps,
                            std::vector<std::size_t>* counts) {
  counts->resize(parameters);
  for (std::size_t p = 0; p < parameters; ++p) {
    (*counts)[p] = CountPresent(present, p, steps, steps);
  }
}

// Gives `*out` the shape of `part`, which lies within the tile, and its
// presence; its values are anything.
template <typename T>
void PrepareOut(const TilePart& part, const TileInfo& info,
                const std::vector<std::uint8_t>& present, TileBlock<T>* out) {
  out->parameters = part.parameters;
  out->steps = part.steps;
  out->values.resize(out->size());
  out->present.clear();
  if (present.empty()) return;
  for (std::size_t p = 0; p < part.parameters; ++p) {
    const auto row =
        present.begin() +
        static_cast<std::ptrdiff_t>((part.first_parameter + p) * info.steps);
    out->present.insert(out->present.end(), row,
                        row + static_cast<std::ptrdiff_t>(part.steps));
  }
}

// Puts a series' values, which are those present in order, to their places in
// the row of `*out`, and `absent` at the others.
template <typename T>
void PutRow(const T* dense, std::size_t row, T absent, TileBlock<T>* out) {
  T* to = out->values.data() + row * out->steps;
  if (out->present.empty()) {
    std::copy_n(dense, out->steps, to);
    return;
  }
  const std::uint8_t* present = out->present.data() + row * out->steps;
  for (std::size_t i = 0; i < out->steps; ++i) {
    to[i] = present[i] != 0 ? *dense++ : absent;
  }
}

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_PLACES_H_
