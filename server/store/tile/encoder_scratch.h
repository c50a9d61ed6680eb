// The memory that an encoder keeps between tiles.
//
// Layer: server/store/tile.

#ifndef GRADTAP_SERVER_STORE_TILE_ENCODER_SCRATCH_H_
#define GRADTAP_SERVER_STORE_TILE_ENCODER_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/store/tile/planner.h"
#include "server/store/tile/series.h"
#include "server/store/tile/series_writer.h"
#include "server/store/tile/tile.h"
#include "server/store/tile/zstd_stream.h"

namespace gradtap::server {
namespace tile {

struct EncoderScratch {
  StreamWriter writer;
  Planner planner;
  // Values present, series by series, and the references' at their places.
  std::vector<std::uint32_t> bits, scale, increment, twin;
  std::vector<std::size_t> counts;  // Values present, for each series.
  // What is being written.
  std::vector<SeriesPlan> plans;
  SeriesWriter series;
  SeriesStreams streams;
};

}  // namespace tile

struct TileEncoder::Scratch {
  tile::EncoderScratch s;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_TILE_ENCODER_SCRATCH_H_
