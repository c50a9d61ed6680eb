// Damaged tiles are refused or give other values; they harm nothing. Run under
// the sanitizers this is worth most.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/store/tile/tile.h"
#include "server/store/tile/tile_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using tile_testing::Encode;
using tile_testing::MakeBlock;
using tile_testing::Random;
using tile_testing::Zoo;

// Decodes from memory of exactly that size, so that a read past its end is
// seen, and expects kDataLoss, kInvalidArgument (of references that it did not
// ask for before) or a whole block.
absl::Status Decode(std::string_view bytes, const TileReferences& references,
                    const TilePart& part = {}) {
  const std::unique_ptr<char[]> exact(new char[bytes.size()]);
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  TileDecoder decoder;
  FloatBlock out;
  const absl::Status status =
      decoder.DecodeFloats({exact.get(), bytes.size()}, references, part, &out);
  if (status.ok()) {
    EXPECT_EQ(out.values.size(), out.size());
    EXPECT_TRUE(out.present.empty() || out.present.size() == out.size());
  } else {
    EXPECT_TRUE(status.code() == absl::StatusCode::kDataLoss ||
                status.code() == absl::StatusCode::kInvalidArgument)
        << status;
  }
  return status;
}

std::vector<std::string> SomeTiles(const Zoo& zoo) {
  Random random(1);
  FloatBlock riddled = zoo.block;
  riddled.present.assign(riddled.size(), 1);
  for (auto& present : riddled.present) present = random.Below(3) != 0;
  return {Encode(zoo.block, zoo.references()),
          Encode(riddled, zoo.references()),
          Encode(zoo.scale),
          Encode(MakeBlock(4, 40, [](auto, auto t) { return t % 5 << 28; })),
          Encode(MakeBlock(2, 10, [&](auto, auto) { return random.Next(); })),
          Encode(MakeBlock(2, 10, [](auto, auto) { return 7u; }))};
}

TEST(TileDamageTest, EveryTruncationIsNoticed) {
  const Zoo zoo(40);
  for (const std::string& bytes : SomeTiles(zoo)) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THAT(
          Decode(std::string_view(bytes).substr(0, size), zoo.references()),
          StatusIs(absl::StatusCode::kDataLoss, HasSubstr("tile: ")))
          << size << " of " << bytes.size();
    }
  }
}

TEST(TileDamageTest, ChangedBytesDoNoHarm) {
  const Zoo zoo(40);
  Random random(2);
  for (const std::string& bytes : SomeTiles(zoo)) {
    for (int round = 0; round < 1500; ++round) {
      std::string changed = bytes;
      const std::uint32_t changes = 1 + random.Below(4);
      for (std::uint32_t i = 0; i < changes; ++i) {
        // The head, plans and sizes come first: half of the changes are there.
        const auto size = static_cast<std::uint32_t>(changed.size());
        const std::uint32_t at =
            random.Below(random.Below(2) == 0 ? std::min(size, 200u) : size);
        changed[at] = static_cast<char>(random.Next());
      }
      const TilePart part = {.first_parameter = random.Below(20),
                             .parameters = 1 + random.Below(20),
                             .steps = 1 + random.Below(50)};
      Decode(changed, zoo.references(), round % 2 == 0 ? TilePart{} : part)
          .IgnoreError();
    }
  }
}

// Takes plans, which are compressed, out of a tile of codec kModel, so that
// others can be put there.
class OtherPlans {
 public:
  explicit OtherPlans(const std::string& tile) : tile_(tile) {
    std::string_view rest = tile_;
    std::vector<std::uint8_t> present;
    std::string_view frame;
    EXPECT_THAT(tile::TakeHeader(&rest, &reader_, &info_, &present),
                testing::IsOk());
    EXPECT_TRUE(tile::TakeSized(&rest, &frame));
    plans_.resize(std::size_t{4} * info_.parameters);
    EXPECT_TRUE(reader_.Read(frame, plans_));
    rest_ = rest;
  }

  std::uint32_t parameters() const { return info_.parameters; }
  const std::string& plans() const { return plans_; }
  std::string With(const std::string& plans) {
    std::string changed = tile_.substr(0, 10);
    tile::AppendSized(plans, tile::Repeats::kMany, &writer_, &changed);
    return changed + rest_;
  }

 private:
  const std::string tile_;
  TileInfo info_;
  std::string plans_, rest_;
  tile::StreamReader reader_;
  tile::StreamWriter writer_;
};

TEST(TileDamageTest, ChangedPlansDoNoHarm) {
  const Zoo zoo(40);
  Random random(3);
  OtherPlans other(Encode(zoo.block, zoo.references()));
  int decoded = 0;
  for (int round = 0; round < 10000; ++round) {
    std::string plans = other.plans();
    const std::uint32_t part = random.Below(4);
    const std::uint32_t at =
        part * other.parameters() + random.Below(other.parameters());
    plans[at] = static_cast<char>(random.Next());
    if (Decode(other.With(plans), zoo.references()).ok()) ++decoded;
  }
  EXPECT_GT(decoded, 500);
}

TEST(TileDamageTest, APlanThatLeansOnWhatTheHeadDoesNotNameIsRefused) {
  const Zoo zoo(40);
  OtherPlans other(Encode(zoo.scale));
  for (const tile::Kind kind : {tile::Kind::kScaled, tile::Kind::kAdded,
                                tile::Kind::kSubtracted, tile::Kind::kTwin}) {
    std::string plans = other.plans();
    plans[3] = static_cast<char>((plans[3] & 0xf0) | static_cast<int>(kind));
    EXPECT_THAT(Decode(other.With(plans), {}),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("leans")));
  }
}

TEST(TileDamageTest, WhatItSaysOfItsSizeIsBoundedBeforeMemoryIsTaken) {
  std::string bytes = Encode(MakeBlock(2, 10, [](auto, auto) { return 7u; }));
  const std::uint32_t huge = 0xffffffff;
  std::memcpy(bytes.data() + 2, &huge, 4);
  EXPECT_THAT(Decode(bytes, {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("4294967295")));
}

TEST(TileDamageTest, AnUnknownCodecIsNamed) {
  std::string bytes = Encode(MakeBlock(2, 10, [](auto, auto) { return 7u; }));
  bytes[0] = 77;
  EXPECT_THAT(Decode(bytes, {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("77")));
}

}  // namespace
}  // namespace gradtap::server
