// Blocks written by earlier versions are read for ever. The files are never
// written again: a new form of block adds some.

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "server/store/rollup/block.h"
#include "server/store/rollup/rollup_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using rollup_testing::AllOf;
using rollup_testing::kInf;
using rollup_testing::kNaN;

std::string ReadGolden(const std::string& name) {
  std::ifstream file(std::string(GRADTAP_ROLLUP_GOLDEN) + "/" + name,
                     std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

void ExpectHolds(const std::string& name, RollupForm form,
                 const RollupShape& shape,
                 const std::vector<RollupEntry>& expected) {
  const std::string bytes = ReadGolden(name);
  ASSERT_FALSE(bytes.empty());
  EXPECT_EQ(static_cast<RollupForm>(bytes[0] & 15), form);
  RollupReader reader;
  std::vector<RollupEntry> entries;
  GRADTAP_ASSERT_OK(reader.Open(bytes));
  EXPECT_EQ(reader.shape(), shape);
  GRADTAP_ASSERT_OK(reader.ReadAll(&entries));
  EXPECT_EQ(AllOf(entries), AllOf(expected));
}

// Of parameter p in its run e: of both signs, of many widths, some constant.
RollupEntry PackedEntry(std::uint32_t p, std::uint32_t e, std::uint32_t steps) {
  RollupEntry entry;
  entry.finite = static_cast<std::uint16_t>(steps);
  const std::uint32_t base = p % 3 == 1 ? 0xbf800000 : 0x3e99999a + (p << 20);
  const std::uint32_t spread = p == 4 ? 0 : 1u << (3 * p % 25);
  const auto at = [&](std::uint32_t places) {
    return std::bit_cast<float>(base + (base >> 31 != 0 ? 0 - places : places));
  };
  entry.min = at(e * spread);
  entry.max = at((e * 3 + 2) * spread);
  entry.mean = at((e * 2 + 1) * spread);
  if (p == 4) return entry;
  entry.min_at = static_cast<std::uint16_t>((7 * p + 11 * e) % steps);
  entry.max_at = static_cast<std::uint16_t>((5 * p + 3 * e + 1) % steps);
  return entry;
}

TEST(GoldenRollupTest, Packed) {
  std::vector<RollupEntry> expected;
  for (std::uint32_t i = 0; i < 32; ++i) {
    expected.push_back(PackedEntry(i / 4, i % 4, 64));
  }
  ExpectHolds("packed.rollup", RollupForm::kPacked, {}, expected);
}

// Three parameters, 150 steps in runs of 64: every kind of exception.
std::vector<RollupEntry> WithExceptions() {
  std::vector<RollupEntry> entries;
  for (std::uint32_t i = 0; i < 9; ++i) {
    entries.push_back(PackedEntry(i / 3, i % 3, i % 3 == 2 ? 22 : 64));
  }
  const auto some = [&](std::size_t i, int nonfinite, float first, int absent) {
    RollupEntry& entry = entries[i];
    const std::uint32_t steps = entry.steps();
    entry.nonfinite = static_cast<std::uint16_t>(nonfinite);
    entry.absent = static_cast<std::uint16_t>(absent);
    entry.finite = static_cast<std::uint16_t>(
        steps - static_cast<std::uint32_t>(nonfinite + absent));
    if (nonfinite != 0) {
      entry.first_nonfinite = first;
      entry.nonfinite_at = static_cast<std::uint16_t>(steps - 1);
    }
    if (absent != 0) entry.absent_at = static_cast<std::uint16_t>(i);
    if (entry.finite != 0) return;
    entry.min = entry.max = entry.mean = kNaN;
    entry.min_at = entry.max_at = 0;
  };
  some(0, 0, 0, 64);
  entries[0].absent_at = 0;
  some(1, 1, kNaN, 0);
  some(2, 22, -kInf, 0);
  some(3, 2, kInf, 3);
  some(5, 1, std::bit_cast<float>(0xffc12345), 21);
  some(7, 0, 0, 1);
  return entries;
}

TEST(GoldenRollupTest, Exceptions) {
  ExpectHolds("exceptions.rollup", RollupForm::kPacked, {3, 150, 64},
              WithExceptions());
}

RollupEntry UniformEntry(float value, std::uint32_t steps) {
  RollupEntry entry;
  entry.min = entry.max = entry.mean = value;
  entry.finite = static_cast<std::uint16_t>(steps);
  return entry;
}

TEST(GoldenRollupTest, Uniform) {
  ExpectHolds("uniform.rollup", RollupForm::kUniform, {64, 4096, 4096},
              std::vector<RollupEntry>(64, UniformEntry(-1.25f, 4096)));
}

TEST(GoldenRollupTest, Zero) {
  ExpectHolds("zero.rollup", RollupForm::kZero, {},
              std::vector<RollupEntry>(32, UniformEntry(0, 64)));
}

TEST(GoldenRollupTest, Absent) {
  RollupEntry entry;
  entry.absent = 64;
  ExpectHolds("absent.rollup", RollupForm::kAbsent, {},
              std::vector<RollupEntry>(32, entry));
}

}  // namespace
}  // namespace gradtap::server
