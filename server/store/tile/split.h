// The codec of values that no model suits: differences along each series, cut
// into byte planes, each through zstd. Patterns that repeat shrink to nothing.
//
//   split := planes:u8 plane{planes}   lowest byte first; the others are zero
//   plane := size:u32 zstd-frame       a byte of each value's zig-zag
//                                      difference from the one before in its
//                                      series, of the first from 0
//
// Layer: server/store/tile. T is std::uint32_t or std::uint64_t.

#ifndef GRADTAP_SERVER_STORE_TILE_SPLIT_H_
#define GRADTAP_SERVER_STORE_TILE_SPLIT_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/store/tile/zstd_stream.h"

namespace gradtap::server::tile {

// `counts`: how many values each series has.
template <typename T>
void AppendSplit(std::span<const T> values, std::span<const std::size_t> counts,
                 StreamWriter* writer, std::string* out);

// Fills `values`. False if the bytes are not a split of so many.
template <typename T>
bool ReadSplit(std::string_view body, std::span<const std::size_t> counts,
               StreamReader* reader, std::string* scratch, std::span<T> values);

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_SPLIT_H_
