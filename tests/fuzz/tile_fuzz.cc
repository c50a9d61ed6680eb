// Tiles and roll-ups as they lie on a disk (server/store/tile, rollup).

#include <algorithm>
#include <bit>
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

void TryPart(std::string_view tile, const server::TileInfo& info,
             const server::TilePart& part) {
  const std::uint32_t first = std::min(part.first_parameter, info.parameters);
  const FloatBlock sibling =
      Walk(std::min(part.parameters, info.parameters - first),
           std::min(part.steps, info.steps), part.first_parameter != 0);
  server::TileReferences references;
  if (info.references & server::kNeedsScale) references.scale = &sibling;
  if (info.references & server::kNeedsIncrement) {
    references.increment = &sibling;
  }
  if (info.references & server::kNeedsTwin) references.twin = &sibling;
  server::TileDecoder decoder;
  FloatBlock floats;
  const absl::Status decoded =
      decoder.DecodeFloats(tile, references, part, &floats);
  Check(decoded);
  if (decoded.ok()) {
    Require(
        floats.parameters == sibling.parameters &&
            floats.steps == sibling.steps &&
            floats.values.size() == floats.size() &&
            (floats.present.empty() || floats.present.size() == floats.size()),
        "a block has as many values as its shape says");
  }
  CountBlock counts;
  if (decoder.DecodeCounts(tile, part, &counts).ok()) {
    Require(counts.values.size() == counts.size(), "so has one of counts");
  }
}

void TryTile(std::string_view tile) {
  const auto info = server::ReadTileInfo(tile);
  Check(info.status());
  // What may be large is refused before memory is taken; a test need not fill
  // what is allowed.
  if (!info.ok() || std::uint64_t{info->parameters} * info->steps > 1 << 16) {
    return;
  }
  TryPart(tile, *info, {});
  TryPart(tile, *info, {1, 3, 5});
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
  if (!all.empty()) {
    Check(reader.Read(reader.shape().parameters - 1, all.data()));
  }
  std::vector<float> values(entries);
  std::vector<std::uint8_t> flags(entries);
  Check(reader.ReadWorst(server::RollupWorst::kMagnitude, values.data(),
                         flags.data()));
  Check(
      reader.ReadWorst(server::RollupWorst::kMax, values.data(), flags.data()));
}

}  // namespace

void Try(std::string_view input) {
  TryTile(input);
  TryRollup(input);
}

namespace {

// Blocks that lean on another one: as multiples, as its magnitude, as its sums.
void AddLeaning(server::TileEncoder* encoder, std::vector<std::string>* seeds) {
  FloatBlock sibling = Walk(4, 48, false);
  for (float& x : sibling.values) x = std::isnan(x) ? 0.5f : x;
  for (const int how : {0, 1, 2, 3}) {
    FloatBlock block = sibling;
    for (std::size_t i = 0; i < block.size(); ++i) {
      const float x = sibling.values[i];
      const float before = i == 0 ? 1 : block.values[i - 1];
      block.values[i] = how == 0   ? 3.1f * x
                        : how == 1 ? std::fabs(x)
                        : how == 2 ? before + x
                                   : before - x;
    }
    server::TileReferences references;
    if (how == 0) references.scale = &sibling;
    if (how == 1) references.twin = &sibling;
    if (how >= 2) references.increment = &sibling;
    seeds->push_back(*encoder->EncodeFloats(block, references));
  }
  FloatBlock grid = sibling;  // Few values, as of a float16.
  for (float& x : grid.values) x = std::round(x * 8) / 8;
  seeds->push_back(*encoder->EncodeFloats(grid, {}));
  std::mt19937 random(1);  // Nothing is shorter than the values themselves.
  for (float& x : grid.values) {
    x = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  }
  seeds->push_back(*encoder->EncodeFloats(grid, {}));
}

void AddRollups(std::vector<std::string>* seeds) {
  const auto add = [seeds](const server::RollupShape& shape, auto change) {
    std::vector<server::RollupEntry> entries;
    for (std::uint32_t i = 0; i < shape.parameters * shape.runs(); ++i) {
      server::RollupEntry& e = entries.emplace_back();
      e.finite = static_cast<std::uint16_t>(shape.StepsOf(i % shape.runs()));
      e.min = -1.0f - static_cast<float>(i);
      e.max = 1.0f + static_cast<float>(i);
      e.mean = 0.25f;
      change(i, &e);
    }
    seeds->push_back(*server::EncodeRollups(shape, entries));
  };
  using server::RollupEntry;
  constexpr server::RollupShape kSmall{2, 10, 4};
  add({}, [](std::uint32_t, RollupEntry*) {});
  add(kSmall, [](std::uint32_t i, RollupEntry* e) {
    e->min_at = static_cast<std::uint16_t>(i % 2);
  });
  add(kSmall, [](std::uint32_t, RollupEntry* e) { e->min = e->max = e->mean; });
  add(kSmall, [](std::uint32_t, RollupEntry* e) {
    const std::uint16_t steps = e->finite;
    *e = {};
    e->absent = steps;
  });
  add(kSmall, [](std::uint32_t i, RollupEntry* e) {
    if (i % 2 != 0) return;
    --e->finite;
    if (i == 0) {
      e->absent = 1;
      e->absent_at = 1;
    } else {
      e->nonfinite = 1;
      e->first_nonfinite = i == 2 ? INFINITY : std::nanf("7");
    }
  });
}

}  // namespace

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
  AddLeaning(&encoder, &seeds);
  AddRollups(&seeds);
  return seeds;
}

}  // namespace gradtap::fuzz
