// Tiles: a block of parameters x a window of recorded steps of one field, as a
// few bytes a value.
//
// A float tile gives back every float32 bit for bit, whatever its bits, and
// tells a value from an absent one. It costs some 2.3 bytes a value on recorded
// training runs (README.md). A tile may lean on a sibling's values of the same
// parameters and steps: ReadTileInfo() says on which, and decoding needs them.
//
// Nothing here touches storage, and nothing is checksummed: the store's blocks
// are. Bytes are untrusted all the same: damage is kDataLoss or wrong values,
// never more, and memory is bounded by kMaxTileValues before it is taken.
//
// Layer: server/store/tile. std, absl, zstd; no RocksDB, no gRPC, no protobuf.

#ifndef GRADTAP_SERVER_STORE_TILE_TILE_H_
#define GRADTAP_SERVER_STORE_TILE_TILE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap::server {

// The shape that is written; of small models some times as many steps
// (window/layout.h). tile_benchmark shows what others cost. Readers take any
// shape within kMaxTileValues.
inline constexpr std::uint32_t kTileParameters = 64;
inline constexpr std::uint32_t kTileSteps = 128;
// Of one tile, absent ones included.
inline constexpr std::uint32_t kMaxTileValues = 1u << 22;

// Values of one field, series by series: that of parameter p of the block at
// the window's step t stands at p * steps + t.
template <typename T>
struct TileBlock {
  std::uint32_t parameters = 0;
  std::uint32_t steps = 0;
  std::vector<T> values;
  // One byte a value, 1: present; empty if all are. What `values` has at an
  // absent place is not stored; decoding gives kAbsentBits or 0 there.
  std::vector<std::uint8_t> present;

  std::size_t size() const { return std::size_t{parameters} * steps; }
  bool IsPresent(std::size_t i) const { return present.empty() || present[i]; }
};
using FloatBlock = TileBlock<float>;
using CountBlock = TileBlock<std::uint64_t>;

inline constexpr std::uint32_t kAbsentBits = 0x7fc00000;  // A quiet NaN.

// What a float tile may lean on: blocks of the same parameters and steps, or
// null. Not owned.
struct TileReferences {
  // Rises and falls with the field: `std` for `abs_mean`, `min` and `max`.
  const FloatBlock* scale = nullptr;
  // Adds up to the field: `update.mean` for `weight.mean` and, of a parameter
  // of one sign, `weight.abs_mean`.
  const FloatBlock* increment = nullptr;
  // Whose magnitude the field may equal: `mean` for `abs_mean`.
  const FloatBlock* twin = nullptr;
};

// Bits of TileInfo::references.
inline constexpr std::uint8_t kNeedsScale = 1;
inline constexpr std::uint8_t kNeedsIncrement = 2;
inline constexpr std::uint8_t kNeedsTwin = 4;

// How a tile's bytes are laid out: its first byte. Values are for good.
enum class TileCodec : std::uint8_t {
  kConstant = 1,  // One value.
  kRaw = 2,       // Values as they are.
  kSplit = 3,     // Differences along time, byte planes, zstd.
  kModel = 4,     // Each series predicted in its own way (float_encoder.cc).
};

struct TileInfo {
  TileCodec codec = TileCodec::kRaw;
  std::uint32_t parameters = 0;
  std::uint32_t steps = 0;
  std::uint8_t references = 0;  // kNeeds* bits: what Decode() will ask for.
  bool partial = false;         // Some values are absent.
};

// kDataLoss if `tile` does not begin as a tile does. Constant time.
absl::StatusOr<TileInfo> ReadTileInfo(std::string_view tile);

// The part of a tile that is wanted: the first `steps` steps of some
// parameters. Cut to the tile's shape; the default is all of it.
struct TilePart {
  std::uint32_t first_parameter = 0;
  std::uint32_t parameters = std::numeric_limits<std::uint32_t>::max();
  std::uint32_t steps = std::numeric_limits<std::uint32_t>::max();
};

// Writes tiles. Keeps its scratch memory: make one for each thread and keep it.
class TileEncoder {
 public:
  TileEncoder();
  ~TileEncoder();
  TileEncoder(const TileEncoder&) = delete;
  TileEncoder& operator=(const TileEncoder&) = delete;

  // kInvalidArgument if a block's vectors do not have the length that its shape
  // says, if it has no value or more than kMaxTileValues, or if a reference's
  // shape is another one. A reference is used where it helps.
  absl::StatusOr<std::string> EncodeFloats(const FloatBlock& block,
                                           const TileReferences& references);
  // The same for counts: zero, nan, pos_inf, neg_inf, in this order or any.
  absl::StatusOr<std::string> EncodeCounts(const CountBlock& block);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

// Reads tiles. Keeps its scratch memory: make one for each thread and keep it.
class TileDecoder {
 public:
  TileDecoder();
  ~TileDecoder();
  TileDecoder(const TileDecoder&) = delete;
  TileDecoder& operator=(const TileDecoder&) = delete;

  // Fills `*out` with the part, whose memory is used again. `references` are
  // what ReadTileInfo() asks for, each decoded with the same `part`:
  // kInvalidArgument if one lacks or has another shape. kDataLoss if the bytes
  // are not a tile's; `*out` then holds anything.
  absl::Status DecodeFloats(std::string_view tile,
                            const TileReferences& references,
                            const TilePart& part, FloatBlock* out);
  absl::Status DecodeCounts(std::string_view tile, const TilePart& part,
                            CountBlock* out);

 private:
  struct Scratch;
  std::unique_ptr<Scratch> scratch_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_TILE_TILE_H_
