// Count tiles. After the head (header.h) comes
//
//   body     := constant | split, by the head's codec
//   constant := value:u64   every value present
//   split    := split.h's, of the values present, series by series

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/tile/bits.h"
#include "server/store/tile/decoder_scratch.h"
#include "server/store/tile/encoder_scratch.h"
#include "server/store/tile/header.h"
#include "server/store/tile/places.h"
#include "server/store/tile/split.h"
#include "server/store/tile/tile.h"

namespace gradtap::server {
namespace tile {
namespace {

// The values that a tile holds, series by series.
absl::Status ReadCounts(std::string_view body, const TileInfo& info,
                        DecoderScratch* s, std::vector<std::uint64_t>* dense) {
  std::size_t size = 0;
  for (const std::size_t count : s->counts) size += count;
  if (info.codec == TileCodec::kConstant) {
    if (body.size() != sizeof(std::uint64_t)) return Damaged("not a constant");
    dense->assign(size, Load<std::uint64_t>(body.data()));
    return absl::OkStatus();
  }
  if (info.codec != TileCodec::kSplit) return Damaged("not one of counts");
  dense->resize(size);
  if (!ReadSplit<std::uint64_t>(body, s->counts, &s->reader, &s->bytes,
                                *dense)) {
    return Damaged("its planes cannot be read");
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tile

absl::StatusOr<std::string> TileEncoder::EncodeCounts(const CountBlock& block) {
  if (absl::Status status = tile::CheckBlock(block); !status.ok()) {
    return status;
  }
  tile::EncoderScratch* s = &scratch_->s;
  std::vector<std::uint64_t> dense;
  for (std::size_t i = 0; i < block.values.size(); ++i) {
    if (block.IsPresent(i)) dense.push_back(block.values[i]);
  }
  const bool constant =
      std::adjacent_find(dense.begin(), dense.end(), std::not_equal_to<>()) ==
      dense.end();
  std::string out;
  tile::AppendHeader(
      {.codec = constant ? TileCodec::kConstant : TileCodec::kSplit,
       .parameters = block.parameters,
       .steps = block.steps},
      block.present, &s->writer, &out);
  if (constant) {
    tile::Append(dense.empty() ? std::uint64_t{0} : dense[0], &out);
    return out;
  }
  tile::CountAllPresent(block.present, block.parameters, block.steps,
                        &s->counts);
  tile::AppendSplit<std::uint64_t>(dense, s->counts, &s->writer, &out);
  return out;
}

absl::Status TileDecoder::DecodeCounts(std::string_view bytes,
                                       const TilePart& part, CountBlock* out) {
  tile::DecoderScratch* s = &scratch_->s;
  TileInfo info;
  absl::Status status =
      tile::TakeHeader(&bytes, &s->reader, &info, &s->present);
  if (!status.ok()) return status;
  tile::CountAllPresent(s->present, info.parameters, info.steps, &s->counts);
  std::vector<std::uint64_t> dense;
  status = tile::ReadCounts(bytes, info, s, &dense);
  if (!status.ok()) return status;
  const TilePart cut = tile::CutToTile(part, info);
  tile::PrepareOut(cut, info, s->present, out);
  std::size_t at = 0;
  for (std::uint32_t p = 0; p < cut.first_parameter + cut.parameters; ++p) {
    if (p >= cut.first_parameter) {
      tile::PutRow<std::uint64_t>(dense.data() + at, p - cut.first_parameter, 0,
                                  out);
    }
    at += s->counts[p];
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
