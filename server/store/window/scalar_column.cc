#include "server/store/window/scalar_column.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "server/store/bytes.h"
#include "server/store/window/timeline.h"

namespace gradtap::server {
namespace {

constexpr char kVersion = 1;
constexpr char kFloats = 1;
constexpr char kDoubles = 2;

absl::Status Damaged() {
  return absl::DataLossError(
      "the data folder holds damaged scalars; restore it from a copy");
}

void PutF64(double value, std::string* out) {
  PutU64(std::bit_cast<std::uint64_t>(value), out);
}
double TakeF64(ByteReader* reader) {
  return std::bit_cast<double>(reader->U64());
}

bool IsFloat(double value) {
  const double there_and_back = static_cast<float>(value);
  return std::bit_cast<std::uint64_t>(there_and_back) ==
         std::bit_cast<std::uint64_t>(value);
}

void AppendRollup(const ScalarRollup& rollup, std::string* out) {
  PutVarint(rollup.finite, out);
  PutVarint(rollup.nonfinite, out);
  if (rollup.finite != 0) {
    PutVarint(rollup.min_at, out);
    PutF64(rollup.min, out);
    PutVarint(rollup.max_at, out);
    PutF64(rollup.max, out);
    PutF64(rollup.mean, out);
  }
  if (rollup.nonfinite != 0) {
    PutVarint(rollup.other_at, out);
    PutF64(rollup.other, out);
  }
}

// False if it is not one over `rows` rows.
bool TakeRollup(std::uint32_t rows, ByteReader* reader, ScalarRollup* rollup) {
  rollup->finite = reader->Varint32();
  rollup->nonfinite = reader->Varint32();
  if (rollup->finite > rows || rollup->nonfinite > rows - rollup->finite) {
    return false;
  }
  if (rollup->finite != 0) {
    rollup->min_at = reader->Varint32();
    rollup->min = TakeF64(reader);
    rollup->max_at = reader->Varint32();
    rollup->max = TakeF64(reader);
    rollup->mean = TakeF64(reader);
  }
  if (rollup->nonfinite != 0) {
    rollup->other_at = reader->Varint32();
    rollup->other = TakeF64(reader);
  }
  return reader->ok() &&
         std::max({rollup->min_at, rollup->max_at, rollup->other_at}) < rows;
}

}  // namespace

ScalarRollup RollUp(const ScalarColumn& column, std::uint32_t begin,
                    std::uint32_t end) {
  ScalarRollup rollup;
  double sum = 0;
  for (std::uint32_t i = begin; i < end; ++i) {
    if (column.present[i] == 0) continue;
    const double value = column.values[i];
    if (!std::isfinite(value)) {
      if (rollup.nonfinite++ == 0) {
        rollup.other = value;
        rollup.other_at = i - begin;
      }
      continue;
    }
    if (rollup.finite == 0 || value < rollup.min) {
      rollup.min = value;
      rollup.min_at = i - begin;
    }
    if (rollup.finite == 0 || value > rollup.max) {
      rollup.max = value;
      rollup.max_at = i - begin;
    }
    ++rollup.finite;
    // The mean so far: a sum might overflow.
    sum += (value - sum) / rollup.finite;
  }
  rollup.mean = sum;
  return rollup;
}

std::string EncodeScalars(const ScalarColumn& column, TileEncoder* encoder) {
  const auto rows = static_cast<std::uint32_t>(column.values.size());
  std::string out(1, kVersion);
  PutU32(rows, &out);
  for (std::uint32_t i = 0; i < rows; i += kScalarRollupRows) {
    AppendRollup(RollUp(column, i, std::min(rows, i + kScalarRollupRows)),
                 &out);
  }
  bool partial = false;
  bool floats = true;
  for (std::uint32_t i = 0; i < rows; ++i) {
    partial |= column.present[i] == 0;
    floats &= column.present[i] == 0 || IsFloat(column.values[i]);
  }
  out.push_back(floats ? kFloats : kDoubles);
  const auto fill = [&](auto convert, auto* block) {
    block->parameters = 1;
    block->steps = rows;
    for (const double value : column.values) {
      block->values.push_back(convert(value));
    }
    if (partial) block->present = column.present;
  };
  absl::StatusOr<std::string> tile;
  if (floats) {
    FloatBlock block;
    fill([](double value) { return static_cast<float>(value); }, &block);
    tile = encoder->EncodeFloats(block, {});
  } else {
    CountBlock block;
    fill([](double value) { return std::bit_cast<std::uint64_t>(value); },
         &block);
    tile = encoder->EncodeCounts(block);
  }
  if (tile.ok()) out.append(*tile);  // It fails only for a wrong shape.
  return out;
}

absl::StatusOr<ScalarView> ScalarView::Parse(std::string_view bytes) {
  if (bytes.empty() || bytes[0] != kVersion) return Damaged();
  ByteReader reader(bytes.substr(1));
  ScalarView view;
  view.rows_ = reader.U32();
  if (!reader.ok() || view.rows_ == 0 || view.rows_ > kMaxWindowRows) {
    return Damaged();
  }
  for (std::uint32_t i = 0; i < view.rows_; i += kScalarRollupRows) {
    if (!TakeRollup(std::min(kScalarRollupRows, view.rows_ - i), &reader,
                    &view.rollups_.emplace_back())) {
      return Damaged();
    }
  }
  std::string_view rest = reader.rest();
  if (rest.empty()) return Damaged();
  view.kind_ = rest[0];
  view.tile_ = rest.substr(1);
  return view;
}

absl::Status ScalarView::Decode(TileDecoder* decoder,
                                ScalarColumn* column) const {
  const auto take = [&](const auto& block, auto convert) {
    if (block.parameters != 1 || block.steps != rows_) return Damaged();
    column->present = block.present;
    if (block.present.empty()) column->present.assign(rows_, 1);
    column->values.clear();
    for (const auto value : block.values) {
      column->values.push_back(convert(value));
    }
    return absl::OkStatus();
  };
  if (kind_ == kFloats) {
    FloatBlock block;
    const absl::Status s = decoder->DecodeFloats(tile_, {}, {}, &block);
    if (!s.ok()) return s;
    return take(block, [](float value) { return static_cast<double>(value); });
  }
  if (kind_ != kDoubles) return Damaged();
  CountBlock block;
  const absl::Status s = decoder->DecodeCounts(tile_, {}, &block);
  if (!s.ok()) return s;
  return take(block,
              [](std::uint64_t bits) { return std::bit_cast<double>(bits); });
}

}  // namespace gradtap::server
