// Blocks to encode, and whether they come back.

#ifndef GRADTAP_TESTS_SERVER_STORE_TILE_TILE_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_TILE_TILE_TESTING_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/store/tile/bits.h"
#include "server/store/tile/header.h"
#include "server/store/tile/series.h"
#include "server/store/tile/tile.h"
#include "support/status_matchers.h"

namespace gradtap::server::tile_testing {

// Integers that are the same on every machine (xorshift).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 2 + 1) {}

  std::uint32_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return static_cast<std::uint32_t>(state_ >> 16);
  }
  std::uint32_t Below(std::uint32_t limit) { return Next() % limit; }
  // A sum of eight, between -1 and 1, the middle likelier.
  float Noise() {
    int sum = 0;
    for (int i = 0; i < 8; ++i) sum += static_cast<int>(Below(1 << 16)) - 32768;
    return static_cast<float>(sum) / (8 * 32768.0f);
  }

 private:
  std::uint64_t state_;
};

// `bits(p, t)` gives the float's bits of parameter p at step t.
template <typename Bits>
FloatBlock MakeBlock(std::uint32_t parameters, std::uint32_t steps,
                     const Bits& bits) {
  FloatBlock block;
  block.parameters = parameters;
  block.steps = steps;
  for (std::uint32_t p = 0; p < parameters; ++p) {
    for (std::uint32_t t = 0; t < steps; ++t) {
      block.values.push_back(std::bit_cast<float>(std::uint32_t{bits(p, t)}));
    }
  }
  return block;
}

inline std::vector<std::uint32_t> BitsIn(const FloatBlock& block) {
  std::vector<std::uint32_t> bits;
  for (std::size_t i = 0; i < block.values.size(); ++i) {
    bits.push_back(block.IsPresent(i) ? tile::BitsOf(block.values[i])
                                      : kAbsentBits);
  }
  return bits;
}

inline std::vector<std::uint8_t> PresenceIn(const FloatBlock& block) {
  std::vector<std::uint8_t> presence;
  for (std::size_t i = 0; i < block.size(); ++i) {
    presence.push_back(block.IsPresent(i) ? 1 : 0);
  }
  return presence;
}

inline std::string Encode(const FloatBlock& block,
                          const TileReferences& references = {}) {
  TileEncoder encoder;
  auto bytes = encoder.EncodeFloats(block, references);
  EXPECT_THAT(bytes, ::gradtap::testing::IsOk());
  return bytes.ok() ? *bytes : std::string();
}

// Expects that `bytes` holds `block`, bit for bit, absences included.
inline void ExpectHolds(std::string_view bytes, const FloatBlock& block,
                        const TileReferences& references = {}) {
  TileDecoder decoder;
  FloatBlock decoded;
  GRADTAP_ASSERT_OK(decoder.DecodeFloats(bytes, references, {}, &decoded));
  ASSERT_EQ(decoded.parameters, block.parameters);
  ASSERT_EQ(decoded.steps, block.steps);
  EXPECT_EQ(PresenceIn(decoded), PresenceIn(block));
  std::vector<std::uint32_t> bits;
  for (const float value : decoded.values) bits.push_back(tile::BitsOf(value));
  EXPECT_TRUE(bits == BitsIn(block)) << "other bits";
}

inline std::string RoundTrip(const FloatBlock& block,
                             const TileReferences& references = {}) {
  std::string bytes = Encode(block, references);
  ExpectHolds(bytes, block, references);
  return bytes;
}

// The kinds of series that a tile of codec kModel has.
inline std::set<tile::Kind> KindsIn(std::string_view bytes) {
  tile::StreamReader reader;
  TileInfo info;
  std::vector<std::uint8_t> present;
  std::string_view frame;
  std::set<tile::Kind> kinds;
  if (!tile::TakeHeader(&bytes, &reader, &info, &present).ok() ||
      info.codec != TileCodec::kModel || !tile::TakeSized(&bytes, &frame)) {
    return kinds;
  }
  std::string plans(std::size_t{4} * info.parameters, '\0');
  if (!reader.Read(frame, plans)) return kinds;
  for (std::uint32_t p = 0; p < info.parameters; ++p) {
    kinds.insert(static_cast<tile::Kind>(plans[p] & 15));
  }
  return kinds;
}

// A series each that a kind suits: a walk, its companion, a walk in fixed
// steps, noise around zero, a running sum, a copy, a constant, random bits.
struct Zoo {
  explicit Zoo(std::uint32_t steps = 256, std::uint64_t seed = 1);

  TileReferences references() const { return {&scale, &increment, &twin}; }

  FloatBlock block, scale, increment, twin;
};

inline Zoo::Zoo(std::uint32_t steps, std::uint64_t seed) {
  Random random(seed);
  constexpr std::uint32_t kSeries = 16;
  const auto empty = [](std::uint32_t, std::uint32_t) { return 0u; };
  for (FloatBlock* b : {&block, &scale, &increment, &twin}) {
    *b = MakeBlock(kSeries, steps, empty);
  }
  for (std::uint32_t p = 0; p < kSeries; ++p) {
    float walk = 1;
    float other = 1;
    double sum = 0.25;
    for (std::uint32_t t = 0; t < steps; ++t) {
      const std::size_t i = std::size_t{p} * steps + t;
      walk *= 1 + 0.1f * random.Noise();
      other *= 1 + 0.1f * random.Noise();
      scale.values[i] = walk;
      increment.values[i] = 1e-4f * random.Noise();
      twin.values[i] = -walk * (1 + 1e-3f * random.Noise());
      sum += t == 0 ? 0 : static_cast<double>(increment.values[i]);
      const float grid = static_cast<float>(random.Below(4000)) / 65536;
      const float of_kind[] = {
          other,
          2 * walk * (1 + 0.003f * random.Noise()),
          grid,
          0.7310586f * random.Noise(),
          static_cast<float>(sum),
          static_cast<float>(0.5 - sum),
          -twin.values[i],
          std::bit_cast<float>(0x12345678u),
          std::bit_cast<float>(random.Next()),
      };
      block.values[i] = of_kind[p % 9];
    }
  }
}

}  // namespace gradtap::server::tile_testing

#endif  // GRADTAP_TESTS_SERVER_STORE_TILE_TILE_TESTING_H_
