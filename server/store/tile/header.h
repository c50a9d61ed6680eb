// The head that every tile begins with, and which of its values are there.
//
//   tile     := codec:u8 flags:u8 parameters:u32 steps:u32 [presence] body
//   flags    := bits 0 to 2: TileInfo::references; bit 3: presence follows;
//               the others are zero
//   presence := size:u32 and so many bytes: a zstd frame of a bitmap, value i
//               being bit i % 8 of byte i / 8
//   body     := by codec: float_encoder.cc, count_tile.cc
//
// Integers are little-endian. Existing values never change their meaning.
//
// Layer: server/store/tile.

#ifndef GRADTAP_SERVER_STORE_TILE_HEADER_H_
#define GRADTAP_SERVER_STORE_TILE_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/store/tile/tile.h"
#include "server/store/tile/zstd_stream.h"

namespace gradtap::server::tile {

// `present` as a block has it.
void AppendHeader(const TileInfo& info,
                  const std::vector<std::uint8_t>& present,
                  StreamWriter* writer, std::string* out);

// Takes head and presence off `*tile`, which then is the body. `*present` gets
// one byte a value, or none if all are present.
absl::Status TakeHeader(std::string_view* tile, StreamReader* reader,
                        TileInfo* info, std::vector<std::uint8_t>* present);

// Takes `size` bytes off the front; false if there are fewer.
bool Take(std::size_t size, std::string_view* from, std::string_view* taken);
bool TakeU32(std::string_view* from, std::uint32_t* value);
// What AppendSized() wrote: size:u32 and the bytes.
bool TakeSized(std::string_view* from, std::string_view* taken);
// Appends size:u32 and the zstd frame of `content`.
void AppendSized(std::string_view content, Repeats repeats,
                 StreamWriter* writer, std::string* out);

absl::Status Damaged(std::string_view what);

// kInvalidArgument unless the vectors fit the shape and the shape the limits.
template <typename T>
absl::Status CheckBlock(const TileBlock<T>& block) {
  const std::uint64_t size = std::uint64_t{block.parameters} * block.steps;
  if (size == 0 || size > kMaxTileValues) {
    return absl::InvalidArgumentError(
        "tile: a block of no value, or of more than kMaxTileValues");
  }
  if (block.values.size() != size ||
      (!block.present.empty() && block.present.size() != size)) {
    return absl::InvalidArgumentError(
        "tile: a block whose vectors are not as long as its shape says");
  }
  return absl::OkStatus();
}

// `part` cut to the tile.
TilePart CutToTile(const TilePart& part, const TileInfo& info);

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_HEADER_H_
