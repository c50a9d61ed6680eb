// Tiles and roll-ups as they lie on a disk (server/store/tile, rollup).

#include <cmath>
#include <random>

#include "fuzz/fuzz.h"
#include "server/store/rollup/block.h"
#include "server/store/tile/tile.h"

namespace gradtap::fuzz {
namespace {

using server::CountBlock;
using server::FloatBlock;

FloatBlock Walk(std::uint32_t parameters, std::uint32_t steps, bool holes) {
  std::mt19937_64 random(parameters * 1000 + steps);
  std::normal_distribution<float> noise;
  FloatBlock block;
  block.parameters = parameters;
  block.steps = steps;
  for (std::uint32_t p = 0; p < parameters; ++p) {
    float x = noise(random);
    for (std::uint32_t t = 0; t < steps; ++t) {
      x += 0.01f * noise(random);
      block.values.push_back(t == 7 ? std::nanf("") : x);
    }
  }
  if (holes) {
    for (std::size_t i = 0; i < block.size(); ++i) {
      block.present.push_back(i % 5 != 0);
    }
  }
  return block;
}

void Check(const absl::Status& status) {
  Require(status.ok() || status.code() == absl::StatusCode::kDataLoss ||
              status.code() == absl::StatusCode::kInvalidArgument,
          "damage is kDataLoss");
}

void TryTile(std::string_view tile) {
  const auto info = server::ReadTileInfo(tile);
  Check(info.status());
  // What may be large is refused before memory is taken; a test need not fill
  // what is allowed.
  if (!info.ok() || std::uint64_t{info->parameters} * info->steps > 1 << 16) {
    return;
  }
  const FloatBlock sibling = Walk(info->parameters, info->steps, false);
  server::TileReferences references;
  if (info->references & server::kNeedsScale) references.scale = &sibling;
  if (info->references & server::kNeedsIncrement) {
    references.increment = &sibling;
  }
  if (info->references & server::kNeedsTwin) references.twin = &sibling;
  server::TileDecoder decoder;
  FloatBlock floats;
  const absl::Status decoded =
      decoder.DecodeFloats(tile, references, {}, &floats);
  Check(decoded);
  if (decoded.ok()) {
    Require(
        floats.values.size() == floats.size() &&
            (floats.present.empty() || floats.present.size() == floats.size()),
        "a block has as many values as its shape says");
  }
  CountBlock counts;
  Check(decoder.DecodeCounts(tile, {0, 3, 5}, &counts));
}

void TryRollup(std::string_view bytes) {
  server::RollupReader reader;
  const absl::Status opened = reader.Open(bytes);
  Check(opened);
  if (!opened.ok()) return;
  const std::size_t entries =
      std::size_t{reader.shape().parameters} * reader.shape().runs();
  Require(entries <= server::kMaxRollupEntries,
          "a block's entries are bounded");
  std::vector<server::RollupEntry> all;
  Check(reader.ReadAll(&all));
  std::vector<float> values(entries);
  std::vector<std::uint8_t> flags(entries);
  Check(reader.ReadWorst(server::RollupWorst::kMagnitude, values.data(),
                         flags.data()));
}

}  // namespace

void Try(std::string_view input) {
  TryTile(input);
  TryRollup(input);
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  server::TileEncoder encoder;
  for (const auto& [parameters, steps, holes] :
       {std::tuple(1u, 1u, false), std::tuple(3u, 100u, false),
        std::tuple(8u, 64u, true), std::tuple(64u, 32u, false)}) {
    const FloatBlock block = Walk(parameters, steps, holes);
    const FloatBlock sibling = Walk(parameters, steps, false);
    server::TileReferences references;
    references.scale = references.twin = &sibling;
    seeds.push_back(*encoder.EncodeFloats(block, {}));
    seeds.push_back(*encoder.EncodeFloats(block, references));
    CountBlock counts;
    counts.parameters = parameters;
    counts.steps = steps;
    for (std::size_t i = 0; i < counts.size(); ++i) {
      counts.values.push_back(i % 7 == 0 ? i * i : 0);
    }
    seeds.push_back(*encoder.EncodeCounts(counts));
  }
  server::RollupShape shape;
  std::vector<server::RollupEntry> entries(std::size_t{shape.parameters} *
                                           shape.runs());
  for (std::size_t i = 0; i < entries.size(); ++i) {
    server::RollupEntry& e = entries[i];
    e.finite = 64;
    e.min = -1.0f - static_cast<float>(i);
    e.max = 1.0f + static_cast<float>(i);
    e.mean = 0.25f;
  }
  seeds.push_back(*server::EncodeRollups(shape, entries));
  return seeds;
}

}  // namespace gradtap::fuzz
