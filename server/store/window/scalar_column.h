// One scalar of a sealed window: its values, and their roll-ups in front.
//
//   scalars := version:u8 rows:u32 rollup* kind:u8 tile
//   version := 1
//   rollup  := finite:varint nonfinite:varint [minimum maximum] [other]
//              one for every kScalarRollupRows rows, or the rest of them
//   minimum := at:varint value:f64        if any is finite; at: rows after the
//   maximum := at:varint value:f64 mean:f64                 roll-up's first
//   other   := at:varint value:f64        if any is not: the first
//   kind    := 1: every value is a float32's; a float tile
//            | 2: a count tile of the doubles' bits
//
// f64 are the bits, big-endian. The tile (tile/tile.h) has one parameter and a
// step for each row; rows without the scalar are absent in it.
//
// Layer: server/store/window. Any thread may read a view of its own.

#ifndef GRADTAP_SERVER_STORE_WINDOW_SCALAR_COLUMN_H_
#define GRADTAP_SERVER_STORE_WINDOW_SCALAR_COLUMN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/tile/tile.h"

namespace gradtap::server {

inline constexpr std::uint32_t kScalarRollupRows = 64;

// A value for each row; meaningless where `present` is 0.
struct ScalarColumn {
  std::vector<double> values;
  std::vector<std::uint8_t> present;
};

// Over some rows; positions are rows after the first of them. The first on
// ties.
struct ScalarRollup {
  std::uint32_t finite = 0;
  std::uint32_t nonfinite = 0;
  double min = 0, max = 0, mean = 0;  // If finite != 0.
  std::uint32_t min_at = 0, max_at = 0;
  double other = 0;  // If nonfinite != 0: the first of them.
  std::uint32_t other_at = 0;
};

ScalarRollup RollUp(const ScalarColumn& column, std::uint32_t begin,
                    std::uint32_t end);

// `column` has at least one row and at most kMaxWindowRows (timeline.h).
std::string EncodeScalars(const ScalarColumn& column, TileEncoder* encoder);

// Views `bytes`, which must outlive it.
class ScalarView {
 public:
  // kDataLoss if they are not what EncodeScalars() writes.
  static absl::StatusOr<ScalarView> Parse(std::string_view bytes);

  std::uint32_t rows() const { return rows_; }
  // Of rows [64 * i, 64 * i + 64).
  const std::vector<ScalarRollup>& rollups() const { return rollups_; }

  absl::Status Decode(TileDecoder* decoder, ScalarColumn* column) const;

 private:
  std::uint32_t rows_ = 0;
  std::vector<ScalarRollup> rollups_;
  char kind_ = 0;
  std::string_view tile_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_WINDOW_SCALAR_COLUMN_H_
