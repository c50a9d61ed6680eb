#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "server/store/tile/tile.h"
#include "server/store/tile/tile_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using tile_testing::Random;

template <typename Count>
CountBlock MakeCounts(std::uint32_t parameters, std::uint32_t steps,
                      const Count& count) {
  CountBlock block;
  block.parameters = parameters;
  block.steps = steps;
  for (std::uint32_t p = 0; p < parameters; ++p) {
    for (std::uint32_t t = 0; t < steps; ++t) {
      block.values.push_back(count(p, t));
    }
  }
  return block;
}

std::string RoundTrip(const CountBlock& block) {
  TileEncoder encoder;
  TileDecoder decoder;
  const auto bytes = encoder.EncodeCounts(block);
  EXPECT_THAT(bytes, testing::IsOk());
  CountBlock decoded;
  EXPECT_THAT(decoder.DecodeCounts(*bytes, {}, &decoded), testing::IsOk());
  EXPECT_EQ(decoded.parameters, block.parameters);
  EXPECT_EQ(decoded.steps, block.steps);
  for (std::size_t i = 0; i < block.size(); ++i) {
    EXPECT_EQ(decoded.IsPresent(i), block.IsPresent(i));
    EXPECT_EQ(decoded.values[i], block.IsPresent(i) ? block.values[i] : 0);
  }
  return *bytes;
}

TEST(CountTileTest, NoCountAtAllIsAFewBytes) {
  EXPECT_LE(
      RoundTrip(MakeCounts(64, 256, [](auto, auto) { return 0u; })).size(),
      18u);
}

TEST(CountTileTest, EveryCountComesBack) {
  static constexpr std::uint64_t kMax =
      std::numeric_limits<std::uint64_t>::max();
  Random random(1);
  RoundTrip(MakeCounts(1, 1, [](auto, auto) { return kMax; }));
  RoundTrip(MakeCounts(7, 31, [](auto, auto t) { return t % 2 ? kMax : 0; }));
  RoundTrip(MakeCounts(64, 256, [&](auto, auto) {
    return std::uint64_t{random.Next()} << random.Below(33);
  }));
}

TEST(CountTileTest, CountsThatSeldomChangeAreShort) {
  const std::string bytes = RoundTrip(MakeCounts(
      64, 256, [](auto p, auto t) { return p * 1000 + (t > 77 ? 3 : 0); }));
  EXPECT_LT(bytes.size(), 400u);
}

TEST(CountTileTest, AbsentIsKeptApart) {
  Random random(2);
  CountBlock block =
      MakeCounts(20, 50, [&](auto, auto) { return random.Below(1000); });
  block.present.assign(block.size(), 1);
  for (auto& present : block.present) present = random.Below(3) != 0;
  RoundTrip(block);
  block.present.assign(block.size(), 0);
  RoundTrip(block);
}

TEST(CountTileTest, APartIsAsInTheWhole) {
  const CountBlock block =
      MakeCounts(10, 20, [](auto p, auto t) { return p * 100 + t; });
  TileEncoder encoder;
  TileDecoder decoder;
  CountBlock part;
  GRADTAP_ASSERT_OK(decoder.DecodeCounts(
      *encoder.EncodeCounts(block),
      {.first_parameter = 4, .parameters = 2, .steps = 3}, &part));
  EXPECT_EQ(part.values,
            (std::vector<std::uint64_t>{400, 401, 402, 500, 501, 502}));
}

TEST(CountTileTest, ATileOfFloatsIsNone) {
  const std::string floats = tile_testing::Encode(tile_testing::Zoo().block);
  TileDecoder decoder;
  CountBlock counts;
  EXPECT_THAT(decoder.DecodeCounts(floats, {}, &counts),
              StatusIs(absl::StatusCode::kDataLoss, ::testing::_));
}

}  // namespace
}  // namespace gradtap::server
