// Writes float tiles. After the head (header.h) comes
//
//   body     := constant | raw | split | model, by the head's codec
//   constant := value:u32            the bits of every value present
//   raw      := bits:u32 of the values present, series by series
//   split    := split.h's, of the values present as ordered integers (bits.h)
//   model    := plans starts sizes low extra [symbols] [symbols] padding
//
// Of a series only the values present count; one without any has a plan that
// says nothing. The plans of all series of the tile:
//
//   plans    := size:u32 zstd-frame  of kind:u8 for all series, then what:u8
//                                    for all, then aux:i16, low bytes first
//   kind     := bits 0 to 3: Kind; 4 to 7: index of the filter (series.h)
//   what     := bits 0 to 4: shift; bit 7: has extra
//   starts   := value:u32 for all series: the bits of the first value
//   sizes    := varint for each series that has extra: its bytes of it
//
// and then, for every value but the first of a series that is coded:
//
//   low      := for each series, from a whole byte on, the low `shift` bits of
//               each zig-zag residual (of a verbatim one, 32 bits a value)
//   extra    := for each series that has it, from a whole byte on: 32 bits of
//               an escaped value; of fixed point the bits below the unit, or,
//               where the head is 0, all 32 bits of the float; of a grid as
//               many of these, the highest, as the mark says
//   symbols  := size:u32 zstd-frame  of all series but grids, then of grids,
//                                    if there are any; a byte each. 255:
//                                    escaped, the float's bits are in extra.
//                                    Else the high part of the zig-zag
//                                    residual; of a grid four times that, plus
//                                    a Mark
//   padding  := zeros, if symbols have less than kBitPadding bytes, up to so
//               many
//
// A filter predicts the ordered integer of the float (scaled: less the share
// of its sibling), or its multiple of 2^aux. A series of sums: the ordered
// integer less that of the running sum. What is left of the prediction is a
// residual, modulo 2^32, zig-zag folded.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/store/tile/bits.h"
#include "server/store/tile/encoder_scratch.h"
#include "server/store/tile/header.h"
#include "server/store/tile/places.h"
#include "server/store/tile/planner.h"
#include "server/store/tile/series.h"
#include "server/store/tile/split.h"
#include "server/store/tile/tile.h"
#include "server/store/tile/zstd_stream.h"

namespace gradtap::server {
namespace tile {
namespace {

void AppendPlans(std::span<const SeriesPlan> plans, StreamWriter* writer,
                 std::string* out) {
  std::string bytes;
  for (const SeriesPlan& plan : plans) {
    bytes.push_back(static_cast<char>(static_cast<unsigned>(plan.kind) |
                                      (unsigned{plan.filter} << 4)));
  }
  for (const SeriesPlan& plan : plans) {
    bytes.push_back(static_cast<char>(plan.shift | (plan.extra ? 0x80 : 0)));
  }
  for (const SeriesPlan& plan : plans) {
    bytes.push_back(static_cast<char>(plan.aux));
  }
  for (const SeriesPlan& plan : plans) {
    bytes.push_back(static_cast<char>(plan.aux >> 8));
  }
  AppendSized(bytes, Repeats::kMany, writer, out);
  for (const SeriesPlan& plan : plans) Append(plan.start, out);
}

// Series of a tile that are tried with every filter.
constexpr std::size_t kSurveyedSeries = 5;

std::uint8_t ReferencesOf(std::span<const SeriesPlan> plans) {
  std::uint8_t references = 0;
  for (const SeriesPlan& plan : plans) references |= NeedOf(plan.kind);
  return references;
}

// The values of `from` at places where `block` has one; where `from` has none
// but `block` does, what decoding gives there.
void Gather(const FloatBlock& block, const FloatBlock& from,
            std::vector<std::uint32_t>* to) {
  to->resize(block.values.size());
  if (block.present.empty() && from.present.empty()) {
    std::memcpy(to->data(), from.values.data(), from.values.size() * 4);
    return;
  }
  to->clear();
  for (std::size_t i = 0; i < block.values.size(); ++i) {
    if (!block.IsPresent(i)) continue;
    to->push_back(from.IsPresent(i) ? BitsOf(from.values[i]) : kAbsentBits);
  }
}

absl::Status GatherReference(const FloatBlock& block, const FloatBlock* from,
                             std::vector<std::uint32_t>* to) {
  to->clear();
  if (from == nullptr) return absl::OkStatus();
  if (absl::Status status = CheckBlock(*from); !status.ok()) return status;
  if (from->parameters != block.parameters || from->steps != block.steps) {
    return absl::InvalidArgumentError("tile: a reference of another shape");
  }
  Gather(block, *from, to);
  return absl::OkStatus();
}

std::span<const std::uint32_t> Cut(const std::vector<std::uint32_t>& dense,
                                   std::size_t at, std::size_t count) {
  if (dense.empty()) return {};
  return std::span(dense).subspan(at, count);
}

// Calls `use` for the views of every `stride`-th series.
template <typename Use>
void ForEachSeries(EncoderScratch* s, std::size_t stride, const Use& use) {
  std::size_t at = 0;
  for (std::size_t p = 0; p < s->counts.size(); ++p) {
    const std::size_t count = s->counts[p];
    if (p % stride == 0) {
      use(SeriesView{Cut(s->bits, at, count), Cut(s->scale, at, count),
                     Cut(s->increment, at, count), Cut(s->twin, at, count)});
    }
    at += count;
  }
}

// Plans and streams of all series, into the scratch memory.
void WriteSeries(EncoderScratch* s) {
  s->plans.clear();
  for (std::string* stream :
       {&s->streams.sizes, &s->streams.symbols, &s->streams.marked,
        &s->streams.low, &s->streams.extra}) {
    stream->clear();
  }
  s->planner.BeginSurvey();
  ForEachSeries(s, s->counts.size() / kSurveyedSeries + 1,
                [&](const SeriesView& series) { s->planner.Choose(series); });
  s->planner.EndSurvey();
  ForEachSeries(s, 1, [&](const SeriesView& series) {
    SeriesPlan plan = s->planner.Choose(series);
    s->series.Write(series, &plan, &s->streams);
    s->plans.push_back(plan);
  });
}

std::string ModelTile(const FloatBlock& block, EncoderScratch* s) {
  WriteSeries(s);
  std::string out;
  AppendHeader({.codec = TileCodec::kModel,
                .parameters = block.parameters,
                .steps = block.steps,
                .references = ReferencesOf(s->plans)},
               block.present, &s->writer, &out);
  AppendPlans(s->plans, &s->writer, &out);
  const SeriesStreams& streams = s->streams;
  out += streams.sizes;
  out += streams.low;
  out += streams.extra;
  const std::size_t symbols = out.size();
  for (const std::string* part : {&streams.symbols, &streams.marked}) {
    if (!part->empty()) AppendSized(*part, Repeats::kFew, &s->writer, &out);
  }
  const std::size_t size = out.size() - symbols;
  if (size < kBitPadding) out.append(kBitPadding - size, '\0');
  return out;
}

std::string HeadOnly(TileCodec codec, const FloatBlock& block,
                     EncoderScratch* s) {
  std::string out;
  AppendHeader(
      {.codec = codec, .parameters = block.parameters, .steps = block.steps},
      block.present, &s->writer, &out);
  return out;
}

std::string SplitTile(const FloatBlock& block, EncoderScratch* s) {
  std::string out = HeadOnly(TileCodec::kSplit, block, s);
  std::vector<std::uint32_t> ordered(s->bits.size());
  std::transform(s->bits.begin(), s->bits.end(), ordered.begin(), ToOrdered);
  AppendSplit<std::uint32_t>(ordered, s->counts, &s->writer, &out);
  return out;
}

std::string RawTile(const FloatBlock& block, EncoderScratch* s) {
  std::string out = HeadOnly(TileCodec::kRaw, block, s);
  for (const std::uint32_t bits : s->bits) Append(bits, &out);
  return out;
}

// Whether some value near the middle comes again within a few hundred.
bool HasRepeats(std::span<const std::uint32_t> values) {
  constexpr std::size_t kSample = 512;
  const std::size_t size = std::min(values.size(), kSample);
  const auto middle = values.subspan((values.size() - size) / 2, size);
  std::vector<std::uint32_t> sorted(middle.begin(), middle.end());
  std::sort(sorted.begin(), sorted.end());
  const auto distinct = static_cast<std::size_t>(
      std::unique(sorted.begin(), sorted.end()) - sorted.begin());
  return distinct < size / 4 * 3;
}

}  // namespace

std::string ShortestTile(const FloatBlock& block, EncoderScratch* s) {
  if (std::adjacent_find(s->bits.begin(), s->bits.end(),
                         std::not_equal_to<>()) == s->bits.end()) {
    std::string out = HeadOnly(TileCodec::kConstant, block, s);
    Append(s->bits.empty() ? kAbsentBits : s->bits[0], &out);
    return out;
  }
  CountAllPresent(block.present, block.parameters, block.steps, &s->counts);
  std::string model = ModelTile(block, s);
  // A model sees no pattern that comes again; it then keeps most of a value.
  if (model.size() < 3 * s->bits.size()) return model;
  if (!HasRepeats(s->bits)) {
    return model.size() < 4 * s->bits.size() ? model : RawTile(block, s);
  }
  std::string split = SplitTile(block, s);
  std::string& best = split.size() < model.size() ? split : model;
  if (best.size() < 4 * s->bits.size()) return std::move(best);
  return RawTile(block, s);
}

}  // namespace tile

absl::StatusOr<std::string> TileEncoder::EncodeFloats(
    const FloatBlock& block, const TileReferences& references) {
  tile::EncoderScratch* s = &scratch_->s;
  if (absl::Status status = tile::CheckBlock(block); !status.ok()) {
    return status;
  }
  tile::Gather(block, block, &s->bits);
  for (const auto& [from, to] : {std::pair(references.scale, &s->scale),
                                 std::pair(references.increment, &s->increment),
                                 std::pair(references.twin, &s->twin)}) {
    if (absl::Status status = tile::GatherReference(block, from, to);
        !status.ok()) {
      return status;
    }
  }
  return tile::ShortestTile(block, s);
}

TileEncoder::TileEncoder() : scratch_(std::make_unique<Scratch>()) {}
TileEncoder::~TileEncoder() = default;

}  // namespace gradtap::server
