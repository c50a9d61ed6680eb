// Floats come back bit for bit, whatever they are.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "server/store/tile/tile.h"
#include "server/store/tile/tile_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using tile::Kind;
using tile_testing::BitsIn;
using tile_testing::Encode;
using tile_testing::ExpectHolds;
using tile_testing::KindsIn;
using tile_testing::MakeBlock;
using tile_testing::Random;
using tile_testing::RoundTrip;
using tile_testing::Zoo;

// Bit patterns at and around every border of float32.
const std::vector<std::uint32_t> kBorders = {
    0x00000000, 0x00000001, 0x00000002, 0x007ffffe, 0x007fffff, 0x00800000,
    0x00800001, 0x33800000, 0x3f7fffff, 0x3f800000, 0x3f800001, 0x4b000000,
    0x4b7fffff, 0x7f7ffffe, 0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fbfffff,
    0x7fc00000, 0x7fc00001, 0x7fffffff};

std::uint32_t Border(std::uint32_t i) {
  const auto size = static_cast<std::uint32_t>(kBorders.size());
  return kBorders[i % size] | ((i / size % 2) << 31);
}

TEST(FloatTileTest, EveryClassOfBitsComesBackAlone) {
  for (std::uint32_t i = 0; i < 2 * kBorders.size(); ++i) {
    RoundTrip(MakeBlock(1, 1, [&](auto, auto) { return Border(i); }));
    RoundTrip(MakeBlock(3, 50, [&](auto, auto) { return Border(i); }));
  }
}

TEST(FloatTileTest, EveryClassOfBitsComesBackAmongOthers) {
  Random random(1);
  RoundTrip(
      MakeBlock(64, 256, [&](auto, auto) { return Border(random.Next()); }));
  // Now and then, among ordinary values of each kind.
  Zoo zoo;
  for (float& value : zoo.block.values) {
    if (random.Below(20) == 0) {
      value = std::bit_cast<float>(Border(random.Next()));
    }
  }
  RoundTrip(zoo.block, zoo.references());
}

TEST(FloatTileTest, ReferencesMayHaveAnyBits) {
  Random random(2);
  Zoo zoo;
  for (FloatBlock* reference : {&zoo.scale, &zoo.increment, &zoo.twin}) {
    for (float& value : reference->values) {
      if (random.Below(20) == 0) {
        value = std::bit_cast<float>(Border(random.Next()));
      }
    }
  }
  RoundTrip(zoo.block, zoo.references());
}

TEST(FloatTileTest, EveryKindOfSeriesIsChosenWhereItSuits) {
  Zoo zoo;
  EXPECT_THAT(
      KindsIn(RoundTrip(zoo.block, zoo.references())),
      ::testing::ElementsAre(Kind::kConstant, Kind::kVerbatim, Kind::kOrdered,
                             Kind::kScaled, Kind::kGrid, Kind::kFixed,
                             Kind::kAdded, Kind::kSubtracted, Kind::kTwin));
}

TEST(FloatTileTest, NaNsForAWhileCostLittleMoreThanThemselves) {
  // All series lie around a mean, so that slow filters are chosen; of the one
  // that has NaNs for a while it must not creep to them and back.
  Random random(7);
  FloatBlock block = MakeBlock(16, 256, [&](auto p, auto) {
    return 0x3f000000 + p * 5000 + random.Below(4096);
  });
  const std::string clean = RoundTrip(block);
  for (std::size_t t = 100; t < 120; ++t) {
    block.values[256 + t] = std::bit_cast<float>(kAbsentBits);
  }
  EXPECT_LT(RoundTrip(block).size(), clean.size() + 200);
}

TEST(FloatTileTest, AnyShapeComesBack) {
  Random random(3);
  for (const std::uint32_t parameters : {1u, 2u, 7u, 64u, 200u}) {
    for (const std::uint32_t steps : {1u, 2u, 3u, 8u, 9u, 255u, 256u, 1000u}) {
      RoundTrip(MakeBlock(parameters, steps, [&](auto p, auto) {
        return 0x3f000000 + p * 1000 + random.Below(5000);
      }));
    }
  }
}

TEST(FloatTileTest, RandomBitsCostNoMoreThanThemselves) {
  Random random(4);
  const auto block =
      MakeBlock(64, 256, [&](auto, auto) { return random.Next(); });
  const std::string bytes = RoundTrip(block);
  EXPECT_LE(bytes.size(), 4 * block.values.size() + 10);
  EXPECT_EQ(ReadTileInfo(bytes)->codec, TileCodec::kRaw);
}

TEST(FloatTileTest, OneValueThroughoutIsAFewBytes) {
  const std::string bytes =
      RoundTrip(MakeBlock(64, 256, [](auto, auto) { return 0x80000000; }));
  EXPECT_LE(bytes.size(), 14u);
  EXPECT_EQ(ReadTileInfo(bytes)->codec, TileCodec::kConstant);
}

TEST(FloatTileTest, PatternsThatComeAgainAreFound) {
  Random random(5);
  std::vector<std::uint32_t> pattern;
  for (int i = 0; i < 10; ++i) pattern.push_back(random.Next());
  const std::string bytes = RoundTrip(
      MakeBlock(64, 256, [&](auto, auto t) { return pattern[t % 10]; }));
  EXPECT_EQ(ReadTileInfo(bytes)->codec, TileCodec::kSplit);
  EXPECT_LT(bytes.size(), 2000u);
}

TEST(FloatTileTest, WhatLeansOnASiblingIsShorter) {
  Zoo zoo;
  const std::string alone = RoundTrip(zoo.block);
  const std::string leaning = RoundTrip(zoo.block, zoo.references());
  EXPECT_LT(leaning.size() + 2500, alone.size());
  EXPECT_EQ(ReadTileInfo(alone)->references, 0);
  EXPECT_EQ(ReadTileInfo(leaning)->references,
            kNeedsScale | kNeedsIncrement | kNeedsTwin);
}

FloatBlock Riddled(FloatBlock block, std::uint32_t seed, std::uint32_t one_in) {
  Random random(seed);
  block.present.assign(block.size(), 1);
  for (auto& present : block.present) present = random.Below(one_in) != 0;
  return block;
}

TEST(FloatTileTest, AbsentIsKeptApartFromEveryValue) {
  for (const std::uint32_t one_in : {2u, 3u, 50u}) {
    Zoo zoo;
    zoo.block = Riddled(zoo.block, one_in, one_in);
    RoundTrip(zoo.block, zoo.references());
    zoo.scale = Riddled(zoo.scale, one_in + 1, one_in);
    zoo.increment = Riddled(zoo.increment, one_in + 2, one_in);
    RoundTrip(zoo.block, zoo.references());
  }
}

TEST(FloatTileTest, WhatStandsAtAnAbsentPlaceOfAReferenceIsNotLookedAt) {
  Random random(8);
  FloatBlock increment = MakeBlock(4, 100, [](auto, auto) { return 0u; });
  FloatBlock block = increment;
  for (std::size_t p = 0; p < 4; ++p) {
    double sum = 0.25;
    for (std::size_t t = 0; t < 100; ++t) {
      const bool present = t % 7 != 3;
      const std::size_t i = p * 100 + t;
      increment.present.push_back(present ? 1 : 0);
      increment.values[i] = present ? 1e-4f * random.Noise() : 1e-6f;
      sum += present && t != 0 ? static_cast<double>(increment.values[i]) : 0;
      block.values[i] = static_cast<float>(sum);
    }
  }
  const TileReferences references = {.increment = &increment};
  const std::string bytes = RoundTrip(block, references);
  EXPECT_THAT(KindsIn(bytes), ::testing::ElementsAre(Kind::kAdded));
  for (std::size_t i = 0; i < increment.size(); ++i) {
    if (!increment.IsPresent(i)) increment.values[i] = 3e-6f;
  }
  EXPECT_EQ(Encode(block, references), bytes);
  ExpectHolds(bytes, block, references);
}

TEST(FloatTileTest, SeriesMayLackAltogether) {
  Zoo zoo;
  zoo.block.present.assign(zoo.block.size(), 0);
  const std::string none = RoundTrip(zoo.block, zoo.references());
  EXPECT_LT(none.size(), 50u);
  for (std::size_t t = 0; t < 256; ++t) zoo.block.present[256 + t] = 1;
  zoo.block.present[5] = 1;
  RoundTrip(zoo.block, zoo.references());
}

TEST(FloatTileTest, PresenceThatLeavesNothingOutTakesNothing) {
  Zoo zoo;
  FloatBlock full = zoo.block;
  full.present.assign(full.size(), 1);
  EXPECT_EQ(Encode(full), Encode(zoo.block));
}

FloatBlock PartOf(const FloatBlock& block, const TilePart& part) {
  FloatBlock cut;
  cut.parameters = part.parameters;
  cut.steps = part.steps;
  for (std::uint32_t p = 0; p < part.parameters; ++p) {
    for (std::uint32_t t = 0; t < part.steps; ++t) {
      const std::size_t i =
          std::size_t{part.first_parameter + p} * block.steps + t;
      cut.values.push_back(block.values[i]);
      if (!block.present.empty()) cut.present.push_back(block.present[i]);
    }
  }
  return cut;
}

TEST(FloatTileTest, APartIsAsInTheWhole) {
  Random random(6);
  Zoo zoo;
  for (int round = 0; round < 200; ++round) {
    FloatBlock block = round % 2 == 0 ? zoo.block : Riddled(zoo.block, 7, 3);
    const std::string bytes = Encode(block, zoo.references());
    TilePart part;
    part.first_parameter = random.Below(16);
    part.parameters = 1 + random.Below(16 - part.first_parameter);
    part.steps = 1 + random.Below(256);
    const FloatBlock scale = PartOf(zoo.scale, part);
    const FloatBlock increment = PartOf(zoo.increment, part);
    const FloatBlock twin = PartOf(zoo.twin, part);
    TileDecoder decoder;
    FloatBlock decoded;
    GRADTAP_ASSERT_OK(decoder.DecodeFloats(bytes, {&scale, &increment, &twin},
                                           part, &decoded));
    ASSERT_EQ(BitsIn(decoded), BitsIn(PartOf(block, part))) << round;
  }
}

TEST(FloatTileTest, APartBeyondTheTileIsCut) {
  const auto block =
      MakeBlock(4, 8, [](auto p, auto t) { return 0x3f000000 + p + t; });
  const std::string bytes = Encode(block);
  TileDecoder decoder;
  FloatBlock decoded;
  GRADTAP_ASSERT_OK(decoder.DecodeFloats(
      bytes, {}, {.first_parameter = 3, .parameters = 5}, &decoded));
  EXPECT_EQ(decoded.parameters, 1u);
  EXPECT_EQ(decoded.steps, 8u);
  GRADTAP_ASSERT_OK(
      decoder.DecodeFloats(bytes, {}, {.first_parameter = 9}, &decoded));
  EXPECT_EQ(decoded.parameters, 0u);
}

TEST(FloatTileTest, AReferenceThatLacksIsNamed) {
  Zoo zoo;
  const std::string bytes = Encode(zoo.block, zoo.references());
  TileReferences references = zoo.references();
  references.increment = nullptr;
  TileDecoder decoder;
  FloatBlock decoded;
  EXPECT_THAT(
      decoder.DecodeFloats(bytes, references, {}, &decoded),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("`increment`")));
  const FloatBlock other = MakeBlock(16, 255, [](auto, auto) { return 0u; });
  references.increment = &other;
  EXPECT_THAT(
      decoder.DecodeFloats(bytes, references, {}, &decoded),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("`increment`")));
}

TEST(FloatTileTest, ABlockThatIsNoneIsRefused) {
  TileEncoder encoder;
  FloatBlock block = MakeBlock(2, 3, [](auto, auto) { return 1u; });
  const FloatBlock good = block;
  block.values.pop_back();
  EXPECT_THAT(encoder.EncodeFloats(block, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("long")));
  block = good;
  block.present.assign(5, 1);
  EXPECT_THAT(encoder.EncodeFloats(block, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("long")));
  EXPECT_THAT(encoder.EncodeFloats({}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("value")));
  const FloatBlock other = MakeBlock(3, 2, [](auto, auto) { return 1u; });
  EXPECT_THAT(encoder.EncodeFloats(good, {.scale = &other}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("shape")));
}

TEST(FloatTileTest, AnEncoderAndADecoderServeForManyTiles) {
  TileEncoder encoder;
  TileDecoder decoder;
  FloatBlock decoded;
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    Zoo zoo(static_cast<std::uint32_t>(seed * 37 % 256 + 1), seed);
    if (seed % 3 == 0) zoo.block = Riddled(zoo.block, 9, 4);
    const auto bytes = encoder.EncodeFloats(zoo.block, zoo.references());
    GRADTAP_ASSERT_OK(bytes);
    EXPECT_EQ(*bytes, Encode(zoo.block, zoo.references()));
    GRADTAP_ASSERT_OK(
        decoder.DecodeFloats(*bytes, zoo.references(), {}, &decoded));
    EXPECT_EQ(BitsIn(decoded), BitsIn(zoo.block));
  }
}

}  // namespace
}  // namespace gradtap::server
