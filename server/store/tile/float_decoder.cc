// Reads float tiles; their grammar is float_encoder.cc's.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/store/tile/bits.h"
#include "server/store/tile/decoder_scratch.h"
#include "server/store/tile/header.h"
#include "server/store/tile/kernels.h"
#include "server/store/tile/places.h"
#include "server/store/tile/series.h"
#include "server/store/tile/split.h"
#include "server/store/tile/tile.h"
#include "server/store/tile/zstd_stream.h"

namespace gradtap::server {
namespace tile {
namespace {

const FloatBlock* ReferenceOf(Kind kind, const TileReferences& references) {
  switch (kind) {
    case Kind::kScaled:
      return references.scale;
    case Kind::kAdded:
    case Kind::kSubtracted:
      return references.increment;
    case Kind::kTwin:
      return references.twin;
    default:
      return nullptr;
  }
}

absl::Status TakePlans(std::string_view* body, const TileInfo& info,
                       DecoderScratch* s) {
  const std::size_t parameters = info.parameters;
  std::string_view frame;
  s->bytes.resize(std::size_t{4} * parameters);
  if (!TakeSized(body, &frame) || !s->reader.Read(frame, s->bytes)) {
    return Damaged("its plans cannot be read");
  }
  std::string_view starts;
  if (!Take(std::size_t{4} * parameters, body, &starts)) {
    return Damaged("ends within its first values");
  }
  s->plans.resize(parameters);
  const auto byte = [&](std::size_t part, std::size_t p) {
    return static_cast<std::uint8_t>(s->bytes[part * parameters + p]);
  };
  for (std::size_t p = 0; p < parameters; ++p) {
    SeriesPlan& plan = s->plans[p];
    const unsigned kind = byte(0, p) & 15u;
    plan.filter = byte(0, p) >> 4;
    plan.shift = byte(1, p) & 31u;
    plan.extra = (byte(1, p) & 0x80) != 0;
    plan.aux = static_cast<std::int16_t>(byte(2, p) | (byte(3, p) << 8));
    plan.start = Load<std::uint32_t>(starts.data() + 4 * p);
    if (kind >= kKinds || plan.filter >= kFilters.size() ||
        plan.shift > kMaxShift) {
      return Damaged("of an unknown plan");
    }
    plan.kind = static_cast<Kind>(kind);
    if ((NeedOf(plan.kind) & ~info.references) != 0) {
      return Damaged("of a plan that leans on what its head does not name");
    }
  }
  return absl::OkStatus();
}

bool TakeVarint(std::string_view* from, std::size_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 35 && !from->empty(); shift += 7) {
    const auto byte = static_cast<std::uint8_t>(from->front());
    from->remove_prefix(1);
    *value |= static_cast<std::size_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool TakeSymbols(std::string_view* body, std::size_t count, DecoderScratch* s,
                 std::string* symbols) {
  if (symbols->size() < count + kLanePadding) {
    symbols->resize(count + kLanePadding);
  }
  std::string_view frame;
  return count == 0 || (TakeSized(body, &frame) &&
                        s->reader.Read(frame, {symbols->data(), count}));
}

// Where the streams of each series begin and how long they are.
absl::Status TakeStreams(std::string_view* body, DecoderScratch* s) {
  const std::size_t parameters = s->plans.size();
  s->places.assign(parameters, {});
  std::size_t plain = 0;
  std::size_t marked = 0;
  for (std::size_t p = 0; p < parameters; ++p) {
    SeriesPlace& place = s->places[p];
    const SeriesPlan& plan = s->plans[p];
    const std::size_t later = std::max<std::size_t>(s->counts[p], 1) - 1;
    if (IsCoded(plan.kind)) {
      std::size_t& symbols = plan.kind == Kind::kGrid ? marked : plain;
      place.symbols = symbols;
      symbols += later;
      place.low_bytes = (later * plan.shift + 7) / 8;
    } else if (plan.kind == Kind::kVerbatim) {
      place.low_bytes = later * 4;
    }
    if (plan.extra && !TakeVarint(body, &place.extra_bytes)) {
      return Damaged("ends within its sizes");
    }
  }
  for (SeriesPlace& place : s->places) {
    if (!Take(place.low_bytes, body, &place.low)) {
      return Damaged("ends within its low bits");
    }
  }
  for (SeriesPlace& place : s->places) {
    if (!Take(place.extra_bytes, body, &place.extra)) {
      return Damaged("ends within its extra bits");
    }
  }
  // Both may be read so far beyond their end.
  if (body->size() < kBitPadding) return Damaged("ends too early");
  if (!TakeSymbols(body, plain, s, &s->symbols) ||
      !TakeSymbols(body, marked, s, &s->marked)) {
    return Damaged("its symbols cannot be read");
  }
  return absl::OkStatus();
}

void PutBits(const std::uint32_t* dense, std::size_t row, FloatBlock* out) {
  float* to = out->values.data() + row * out->steps;
  if (out->present.empty()) {
    std::memcpy(to, dense, out->steps * sizeof *to);
    return;
  }
  const std::uint8_t* present = out->present.data() + row * out->steps;
  for (std::size_t i = 0; i < out->steps; ++i) {
    to[i] = std::bit_cast<float>(present[i] != 0 ? *dense++ : kAbsentBits);
  }
}

absl::Status CheckReferences(const TileInfo& info, const TilePart& part,
                             const TileReferences& references) {
  const auto check = [&](std::uint8_t bit, const FloatBlock* block,
                         const char* name) {
    if ((info.references & bit) == 0) return absl::OkStatus();
    if (block == nullptr || block->parameters != part.parameters ||
        block->steps != part.steps || !CheckBlock(*block).ok()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "tile: it leans on `", name, "`, which lacks or has another shape"));
    }
    return absl::OkStatus();
  };
  absl::Status status = check(kNeedsScale, references.scale, "scale");
  status.Update(check(kNeedsIncrement, references.increment, "increment"));
  status.Update(check(kNeedsTwin, references.twin, "twin"));
  return status;
}

// What a series leans on, at the places where it has values.
const std::uint32_t* DenseReference(const FloatBlock& from, std::size_t row,
                                    const std::uint8_t* present,
                                    DecoderScratch* s) {
  std::vector<std::uint32_t>& dense = s->reference;
  dense.resize(from.steps + kLanePadding);
  const std::size_t first = row * from.steps;
  if (present == nullptr && from.present.empty()) {
    std::memcpy(dense.data(), from.values.data() + first,
                from.steps * sizeof(float));
    return dense.data();
  }
  std::size_t count = 0;
  for (std::size_t i = 0; i < from.steps; ++i) {
    if (present != nullptr && present[i] == 0) continue;
    dense[count++] = from.IsPresent(first + i) ? BitsOf(from.values[first + i])
                                               : kAbsentBits;
  }
  return dense.data();
}

absl::Status ReadModel(std::string_view body, const TileInfo& info,
                       const TileReferences& references, const TilePart& part,
                       DecoderScratch* s, FloatBlock* out) {
  absl::Status status = TakePlans(&body, info, s);
  if (!status.ok()) return status;
  status = TakeStreams(&body, s);
  if (!status.ok()) return status;
  for (std::uint32_t row = 0; row < part.parameters; ++row) {
    const std::size_t p = std::size_t{part.first_parameter} + row;
    const std::uint8_t* present =
        s->present.empty() ? nullptr : s->present.data() + p * info.steps;
    const SeriesPlace& place = s->places[p];
    SeriesSource source;
    source.plan = s->plans[p];
    const std::string& symbols =
        source.plan.kind == Kind::kGrid ? s->marked : s->symbols;
    source.symbols =
        reinterpret_cast<const std::uint8_t*>(symbols.data()) + place.symbols;
    source.low = place.low;
    source.extra = place.extra;
    const FloatBlock* from = ReferenceOf(source.plan.kind, references);
    if (from != nullptr) {
      source.reference = DenseReference(*from, row, present, s);
    }
    const std::size_t count =
        CountPresent(s->present, p, info.steps, part.steps);
    const std::uint32_t* bits =
        count == 0 ? nullptr : s->series.Read(source, count);
    if (count != 0 && bits == nullptr) return Damaged("ends within a series");
    PutBits(bits, row, out);
  }
  return absl::OkStatus();
}

// Of a codec that has to be read as a whole.
absl::Status ReadWhole(std::string_view body, const TileInfo& info,
                       const TilePart& part, DecoderScratch* s,
                       FloatBlock* out) {
  std::size_t size = 0;
  for (const std::size_t count : s->counts) size += count;
  s->whole.resize(size);
  if (info.codec == TileCodec::kConstant) {
    if (body.size() != 4) return Damaged("not a constant");
    s->whole.assign(size, Load<std::uint32_t>(body.data()));
  } else if (info.codec == TileCodec::kRaw) {
    if (body.size() != 4 * size) return Damaged("of another length");
    std::memcpy(s->whole.data(), body.data(), body.size());
  } else if (ReadSplit<std::uint32_t>(body, s->counts, &s->reader, &s->bytes,
                                      s->whole)) {
    std::transform(s->whole.begin(), s->whole.end(), s->whole.begin(),
                   FromOrdered);
  } else {
    return Damaged("its planes cannot be read");
  }
  std::size_t at = 0;
  for (std::uint32_t p = 0; p < part.first_parameter + part.parameters; ++p) {
    if (p >= part.first_parameter) {
      PutBits(s->whole.data() + at, p - part.first_parameter, out);
    }
    at += s->counts[p];
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace tile

absl::Status TileDecoder::DecodeFloats(std::string_view bytes,
                                       const TileReferences& references,
                                       const TilePart& part, FloatBlock* out) {
  tile::DecoderScratch* s = &scratch_->s;
  TileInfo info;
  absl::Status status =
      tile::TakeHeader(&bytes, &s->reader, &info, &s->present);
  if (!status.ok()) return status;
  const TilePart cut = tile::CutToTile(part, info);
  if (cut.parameters == 0 || cut.steps == 0) {
    tile::PrepareOut(cut, info, s->present, out);
    return absl::OkStatus();
  }
  status = tile::CheckReferences(info, cut, references);
  if (!status.ok()) return status;
  tile::CountAllPresent(s->present, info.parameters, info.steps, &s->counts);
  tile::PrepareOut(cut, info, s->present, out);
  if (info.codec == TileCodec::kModel) {
    return tile::ReadModel(bytes, info, references, cut, s, out);
  }
  return tile::ReadWhole(bytes, info, cut, s, out);
}

TileDecoder::TileDecoder() : scratch_(std::make_unique<Scratch>()) {}
TileDecoder::~TileDecoder() = default;

}  // namespace gradtap::server
