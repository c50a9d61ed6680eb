// Tiles written by earlier versions are read for ever. The files are never
// written again: a new form of tile adds some.

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "server/store/tile/tile.h"
#include "server/store/tile/tile_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using tile_testing::ExpectHolds;
using tile_testing::KindsIn;
using tile_testing::MakeBlock;

std::string ReadGolden(const std::string& name) {
  std::ifstream file(std::string(GRADTAP_TILE_GOLDEN) + "/" + name,
                     std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

// What the tiles of the zoo hold and lean on: blocks of 16 x 40 one after the
// other, each little-endian float32.
struct GoldenZoo {
  GoldenZoo() {
    const std::string bytes = ReadGolden("zoo.f32");
    std::size_t at = 0;
    for (FloatBlock* b : {&block, &scale, &increment, &twin}) {
      *b = MakeBlock(16, 40, [](auto, auto) { return 0u; });
      const std::size_t size = b->size() * sizeof(float);
      EXPECT_GE(bytes.size(), at + size);
      if (bytes.size() < at + size) return;
      std::memcpy(b->values.data(), bytes.data() + at, size);
      at += size;
    }
  }
  TileReferences references() const { return {&scale, &increment, &twin}; }

  FloatBlock block, scale, increment, twin;
};

TEST(GoldenTileTest, Model) {
  const GoldenZoo zoo;
  const std::string bytes = ReadGolden("model.tile");
  EXPECT_EQ(ReadTileInfo(bytes)->codec, TileCodec::kModel);
  EXPECT_EQ(KindsIn(bytes).size(), static_cast<std::size_t>(tile::kKinds));
  ExpectHolds(bytes, zoo.block, zoo.references());
}

TEST(GoldenTileTest, ModelOfSomeValues) {
  GoldenZoo zoo;
  for (std::size_t i = 0; i < zoo.block.size(); ++i) {
    zoo.block.present.push_back(i * 7 % 11 < 8 ? 1 : 0);
  }
  ExpectHolds(ReadGolden("model_partial.tile"), zoo.block, zoo.references());
}

TEST(GoldenTileTest, Constant) {
  ExpectHolds(ReadGolden("constant.tile"),
              MakeBlock(3, 5, [](auto, auto) { return 0xffc12345; }));
}

TEST(GoldenTileTest, Raw) {
  ExpectHolds(ReadGolden("raw.tile"), MakeBlock(5, 7, [](auto p, auto t) {
                return (p * 7 + t + 1) * 0x9e3779b1u;
              }));
}

TEST(GoldenTileTest, Split) {
  ExpectHolds(ReadGolden("split.tile"), MakeBlock(8, 64, [](auto, auto t) {
                return (t % 5 + 1) * 0x9e3779b1u;
              }));
}

CountBlock GoldenCounts() {
  CountBlock block;
  block.parameters = 3;
  block.steps = 20;
  for (std::uint64_t i = 0; i < 60; ++i) {
    block.values.push_back(i % 4 == 0 ? i << (i % 60) : 17);
    block.present.push_back(i % 9 == 0 ? 0 : 1);
    if (i % 9 == 0) block.values.back() = 0;
  }
  return block;
}

TEST(GoldenTileTest, Counts) {
  const CountBlock expected = GoldenCounts();
  TileDecoder decoder;
  CountBlock decoded;
  GRADTAP_ASSERT_OK(
      decoder.DecodeCounts(ReadGolden("counts.tile"), {}, &decoded));
  EXPECT_EQ(decoded.parameters, expected.parameters);
  EXPECT_EQ(decoded.steps, expected.steps);
  EXPECT_EQ(decoded.present, expected.present);
  EXPECT_EQ(decoded.values, expected.values);
}

}  // namespace
}  // namespace gradtap::server
