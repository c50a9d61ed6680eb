// The loops, under every instruction set that this machine has.

#include "server/store/tile/kernels.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/targets.h"
#include "server/store/tile/bits.h"
#include "server/store/tile/tile_testing.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::AllTargets;
using ::gradtap::testing::ForEachTarget;
using ::gradtap::testing::UseTarget;
using tile_testing::BitsIn;
using tile_testing::Encode;
using tile_testing::ExpectHolds;
using tile_testing::Random;
using tile_testing::Zoo;

// One bit after the other.
std::uint32_t LowBits(const std::string& low, std::size_t at, unsigned count) {
  std::uint32_t bits = 0;
  for (unsigned i = 0; i < count; ++i) {
    const std::size_t bit = at + i;
    bits |= static_cast<std::uint32_t>((low[bit / 8] >> (bit % 8)) & 1) << i;
  }
  return bits;
}

TEST(TileKernelsTest, ResidualsAreJoinedFromAnyNumberOfLowBits) {
  Random random(1);
  for (unsigned shift = 0; shift <= tile::kMaxShift; ++shift) {
    for (std::size_t count = 1; count < 35; ++count) {
      std::vector<std::uint8_t> symbols(count + tile::kLanePadding);
      std::string low((count * shift + 7) / 8 + tile::kBitPadding, '\0');
      for (auto& symbol : symbols) symbol = random.Next() & 0xff;
      for (auto& byte : low) byte = static_cast<char>(random.Next());
      for (const bool marked : {false, true}) {
        std::vector<std::uint32_t> expected;
        for (std::size_t i = 0; i < count; ++i) {
          const std::uint32_t high = symbols[i] >> (marked ? 2 : 0);
          expected.push_back(
              tile::UnZigZag((high << shift) | LowBits(low, i * shift, shift)));
        }
        ForEachTarget([&](const char* target) {
          std::vector<std::uint32_t> got(count + tile::kLanePadding);
          tile::JoinResiduals(symbols.data(), marked, low.data(), shift, count,
                              got.data());
          got.resize(count);
          EXPECT_EQ(got, expected) << target << " " << shift << " " << count;
        });
      }
    }
  }
}

TEST(TileKernelsTest, AFilterTakenOffIsPutOnAgain) {
  Random random(2);
  std::vector<std::uint32_t> values(100);
  for (auto& value : values) value = random.Next() >> random.Below(32);
  for (std::uint8_t filter = 0; filter < tile::kFilters.size(); ++filter) {
    ForEachTarget([&](const char* target) {
      std::vector<std::uint32_t> residuals(values.size());
      tile::Predictor off(tile::kFilters[filter], values[0]);
      tile::FilterResiduals(filter, &off, values.data(), values.size(),
                            residuals.data());
      // And as one value after the other gives it.
      tile::Predictor slow(tile::kFilters[filter], values[0]);
      for (std::size_t i = 0; i < values.size(); ++i) {
        ASSERT_EQ(residuals[i], values[i] - slow.Predict()) << target;
        slow.Update(residuals[i]);
      }
      tile::Predictor on(tile::kFilters[filter], values[0]);
      tile::RunFilter(filter, &on, values.size(), residuals.data());
      EXPECT_EQ(residuals, values) << target << " " << int{filter};
    });
  }
}

TEST(TileKernelsTest, ATileIsTheSameToEveryInstructionSet) {
  const Zoo zoo(200, 7);
  for (const std::int64_t target : AllTargets()) {
    std::string bytes;
    {
      const UseTarget use(target);
      bytes = Encode(zoo.block, zoo.references());
    }
    ForEachTarget(
        [&](const char*) { ExpectHolds(bytes, zoo.block, zoo.references()); });
  }
}

}  // namespace
}  // namespace gradtap::server
