// The memory that a decoder keeps between tiles.
//
// Layer: server/store/tile.

#ifndef GRADTAP_SERVER_STORE_TILE_DECODER_SCRATCH_H_
#define GRADTAP_SERVER_STORE_TILE_DECODER_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/store/tile/series.h"
#include "server/store/tile/series_reader.h"
#include "server/store/tile/tile.h"
#include "server/store/tile/zstd_stream.h"

namespace gradtap::server {
namespace tile {

// Where the streams of one series are.
struct SeriesPlace {
  std::size_t symbols = 0;  // The first, of all of its sort.
  std::size_t low_bytes = 0;
  std::size_t extra_bytes = 0;
  std::string_view low, extra;
};

struct DecoderScratch {
  StreamReader reader;
  std::vector<std::uint8_t> present;  // Of the whole tile; or empty.
  std::vector<std::size_t> counts;    // Values present, for each series.
  std::vector<SeriesPlan> plans;
  std::vector<SeriesPlace> places;
  std::string bytes, symbols, marked;
  SeriesReader series;
  // What a series leans on; or the values of a tile that is read as a whole.
  std::vector<std::uint32_t> reference, whole;
};

}  // namespace tile

struct TileDecoder::Scratch {
  tile::DecoderScratch s;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_TILE_DECODER_SCRATCH_H_
