// Writes the streams of a tile, one series after the other; the grammar is
// float_encoder.cc's.
//
// Layer: server/store/tile. One thread at a time may use an object.

#ifndef GRADTAP_SERVER_STORE_TILE_SERIES_WRITER_H_
#define GRADTAP_SERVER_STORE_TILE_SERIES_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "server/store/tile/planner.h"
#include "server/store/tile/series.h"

namespace gradtap::server::tile {

struct SeriesStreams {
  std::string sizes, symbols, low, extra;
  std::string marked;  // The symbols of grids.
};

class SeriesWriter {
 public:
  // Adds all values but the first to `*out`; sets plan->extra.
  void Write(const SeriesView& series, SeriesPlan* plan, SeriesStreams* out);

 private:
  void WriteCoded(const SeriesView& series, const SeriesPlan& plan,
                  SeriesStreams* out);
  void FillOrdered(const SeriesView& series, const SeriesPlan& plan);
  void FillFixed(const SeriesView& series, const SeriesPlan& plan);
  void FillZigZags(const SeriesPlan& plan);
  bool HasFarOnes(const SeriesPlan& plan) const;
  void FillZigZagsOneByOne(const SeriesPlan& plan);
  void WriteExtra(const SeriesView& series, const SeriesPlan& plan,
                  const char* symbols, std::string* extra) const;

  // Of the series being written, one each a value.
  std::vector<std::uint32_t> values_;   // What the filter predicts.
  std::vector<std::uint32_t> terms_;    // Of ordered integers.
  std::vector<FixedPoint> fixed_;       // Of fixed point.
  std::vector<std::uint8_t> formless_;  // No fixed point; empty if all have.
  std::vector<std::uint32_t> zigzags_;  // Of the residuals.
};

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_SERIES_WRITER_H_
