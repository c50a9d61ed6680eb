// Decodes one series of a tile from its streams; the grammar is
// float_encoder.cc's.
//
// Layer: server/store/tile. One thread at a time may use an object.

#ifndef GRADTAP_SERVER_STORE_TILE_SERIES_READER_H_
#define GRADTAP_SERVER_STORE_TILE_SERIES_READER_H_

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "server/store/tile/bits.h"
#include "server/store/tile/series.h"

namespace gradtap::server::tile {

// What a series is decoded from. kLanePadding readable bytes follow each
// stream.
struct SeriesSource {
  SeriesPlan plan;
  const std::uint8_t* symbols = nullptr;
  std::string_view low;
  std::string_view extra;
  // What the kind leans on, at the places where the series has values.
  const std::uint32_t* reference = nullptr;
};

class SeriesReader {
 public:
  // The bits of the first `count` values; valid until the next call. Null if a
  // stream ends before them. `count` is at least 1, `low` as long as so many
  // values need.
  const std::uint32_t* Read(const SeriesSource& source, std::size_t count);

 private:
  void Reserve(std::size_t count);
  // What the reference accounts for; terms_ are unset where there is none.
  std::uint32_t TermAt(const SeriesPlan& plan, std::size_t at) const;
  void FillTerms(const SeriesSource& source, std::size_t count);
  bool ReadCoded(const SeriesSource& source, std::size_t count);
  // Values [from, to), none of them escaped; residuals become values.
  bool ReadRun(const SeriesSource& source, std::size_t from, std::size_t to,
               Predictor* predictor, BitReader* extra);
  bool ReadEscape(const SeriesSource& source, std::size_t at,
                  Predictor* predictor, BitReader* extra);

  // Of the series being read, with room for kLanePadding more.
  std::vector<std::uint32_t> bits_, residuals_, terms_, tails_, up_;
};

}  // namespace gradtap::server::tile

#endif  // GRADTAP_SERVER_STORE_TILE_SERIES_READER_H_
