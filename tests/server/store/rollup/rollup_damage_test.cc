// Damaged blocks are refused or give other entries; they harm nothing. Run
// under the sanitizers this is worth most.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/wire.h"
#include "server/store/rollup/block.h"
#include "server/store/rollup/block_testing.h"
#include "server/store/rollup/rollup_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using rollup_testing::DrawSeries;
using rollup_testing::Encode;
using rollup_testing::EntriesOf;
using rollup_testing::kNaN;
using rollup_testing::Random;
using rollup_testing::Series;
using ::testing::HasSubstr;

// What who reads entries may rely on: counts that make up the run, offsets
// within it.
void ExpectFits(const RollupEntry& entry, std::uint32_t steps) {
  EXPECT_EQ(entry.steps(), steps);
  EXPECT_LT(entry.min_at, steps);
  EXPECT_LT(entry.max_at, steps);
  EXPECT_LT(entry.nonfinite_at, steps);
  EXPECT_LT(entry.absent_at, steps);
}

// Reads all ways from memory of exactly that size, so that a read past its end
// is seen; writes to memory of exactly the size that the shape says.
absl::Status Read(std::string_view bytes) {
  const std::unique_ptr<char[]> exact(new char[bytes.size()]);
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  RollupReader reader;
  absl::Status status = reader.Open({exact.get(), bytes.size()});
  if (!status.ok()) return status;
  const RollupShape shape = reader.shape();
  const std::size_t size = std::size_t{shape.parameters} * shape.runs();
  EXPECT_LE(size, kMaxRollupEntries);
  const std::unique_ptr<float[]> values(new float[size]);
  const std::unique_ptr<std::uint8_t[]> flags(new std::uint8_t[size]);
  for (const auto which : {RollupWorst::kMax, RollupWorst::kMagnitude}) {
    EXPECT_THAT(reader.ReadWorst(which, values.get(), flags.get()),
                ::gradtap::testing::IsOk());
  }
  const std::unique_ptr<RollupEntry[]> entries(new RollupEntry[shape.runs()]);
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    const absl::Status one = reader.Read(p, entries.get());
    status.Update(one);
    if (!one.ok()) continue;
    for (std::uint32_t e = 0; e < shape.runs(); ++e) {
      ExpectFits(entries[e], shape.StepsOf(e));
    }
  }
  return status;
}

std::string BlockOf(const RollupShape& shape, std::uint64_t seed) {
  Random random(seed);
  std::vector<Series> all;
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    all.push_back(DrawSeries(shape.steps, random));
  }
  return Encode(shape, EntriesOf(all, shape.run));
}

std::vector<std::string> SomeBlocks() {
  std::vector<std::string> blocks = {
      BlockOf({}, 1), BlockOf({}, 2), BlockOf({3, 150, 64}, 3),
      BlockOf({1, 1, 1}, 4), BlockOf({5, 300, 300}, 5)};
  for (const float value : {0.0f, 1.5f}) {
    const Series series = {std::vector<float>(100, value), {}};
    blocks.push_back(Encode({1, 100, 50}, EntriesOf({series}, 50)));
  }
  const Series absent = {std::vector<float>(100),
                         std::vector<std::uint8_t>(100)};
  blocks.push_back(Encode({1, 100, 50}, EntriesOf({absent}, 50)));
  // Nothing but numbers: no exception.
  Random random(6);
  std::vector<Series> walks(8);
  for (Series& walk : walks) {
    for (int t = 0; t < 256; ++t) walk.values.push_back(1 + random.Noise());
  }
  blocks.push_back(Encode({}, EntriesOf(walks, 64)));
  walks[7].values[255] = kNaN;
  blocks.push_back(Encode({}, EntriesOf(walks, 64)));
  return blocks;
}

TEST(RollupDamageTest, WhatIsWholeIsRead) {
  for (const std::string& bytes : SomeBlocks()) {
    EXPECT_THAT(Read(bytes), ::gradtap::testing::IsOk());
  }
}

TEST(RollupDamageTest, EveryTruncationIsNoticed) {
  for (const std::string& bytes : SomeBlocks()) {
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_THAT(Read(std::string_view(bytes).substr(0, size)),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr("roll-up: ")))
          << size << " of " << bytes.size();
    }
  }
}

TEST(RollupDamageTest, ByteTooManyIsNoticed) {
  for (const std::string& bytes : SomeBlocks()) {
    EXPECT_THAT(Read(bytes + '\0'),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("long")));
  }
}

TEST(RollupDamageTest, EveryFlippedBitDoesNoHarm) {
  int refused = 0;
  int read = 0;
  for (const std::string& bytes : SomeBlocks()) {
    for (std::size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string changed = bytes;
      changed[bit / 8] ^= static_cast<char>(1 << (bit % 8));
      const absl::Status status = Read(changed);
      EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss)
          << status;
      (status.ok() ? read : refused) += 1;
    }
  }
  EXPECT_GT(refused, 500);
  EXPECT_GT(read, 500);
}

TEST(RollupDamageTest, ChangedBytesDoNoHarm) {
  Random random(7);
  const std::vector<std::string> blocks = SomeBlocks();
  for (int round = 0; round < 20000; ++round) {
    std::string changed =
        blocks[random.Below(static_cast<std::uint32_t>(blocks.size()))];
    const auto size = static_cast<std::uint32_t>(changed.size());
    for (std::uint32_t i = 1 + random.Below(4); i > 0; --i) {
      // The head and widths come first: half of the changes are there.
      const std::uint32_t at =
          random.Below(random.Below(2) == 0 ? std::min(size, 25u) : size);
      changed[at] = static_cast<char>(random.Next());
    }
    if (random.Below(4) == 0) changed.resize(random.Below(size));
    const absl::Status status = Read(changed);
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss)
        << status;
  }
}

TEST(RollupDamageTest, AnythingAtAllDoesNoHarm) {
  Random random(8);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(random.Below(100), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.Next());
    // Forms and flags that there are.
    if (!bytes.empty()) bytes[0] = static_cast<char>(1 + random.Below(64));
    const absl::Status status = Read(bytes);
    EXPECT_TRUE(status.ok() || status.code() == absl::StatusCode::kDataLoss)
        << status;
  }
}

// A head with a shape that may be no block's.
std::string ZeroOf(const std::vector<std::uint64_t>& shape) {
  std::string bytes(1, static_cast<char>(16 | 3));
  for (const std::uint64_t number : shape) wire::AppendVarint(number, &bytes);
  return bytes;
}

TEST(RollupDamageTest, WhatItSaysOfItsSizeIsBoundedBeforeMemoryIsTaken) {
  constexpr std::uint64_t kMost = 0xffffffff;
  EXPECT_THAT(Read(ZeroOf({2, 3, 1})), ::gradtap::testing::IsOk());
  EXPECT_THAT(Read(ZeroOf({1, kMost, 65535})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("in runs of")));
  for (const auto& shape :
       std::vector<std::vector<std::uint64_t>>{{kMost, kMost, 1},
                                               {kMost, 1, 1},
                                               {65537, 1, 1},
                                               {1, 1, 65536},
                                               {0, 1, 1},
                                               {1, 0, 1},
                                               {1, 1, 0}}) {
    EXPECT_THAT(Read(ZeroOf(shape)),
                StatusIs(absl::StatusCode::kDataLoss, HasSubstr("in runs of")));
  }
  EXPECT_THAT(Read(ZeroOf({1, kMost + 2, 1})),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("shape")));
}

// A block of one value that says so of its widths, with as many bits.
std::string OneValue(unsigned first, unsigned up) {
  std::string bytes = ZeroOf({1, 1, 1});
  bytes[0] = static_cast<char>(16 | 1);
  tile::BitWriter writer(&bytes);
  writer.Put(0, 8);
  writer.Put(first, 6);
  writer.Put(0, 8);
  writer.Put(31 | 3u << 5, 8);
  writer.Put(0, 8);
  writer.Put(0, 1);
  writer.Put(up - 31, 3);
  for (unsigned bits = first + up; bits > 0; --bits) writer.Put(1, 1);
  writer.Flush();
  return bytes;
}

TEST(RollupDamageTest, NumbersOfMoreThan32BitsAreRefused) {
  EXPECT_THAT(Read(OneValue(32, 32)), ::gradtap::testing::IsOk());
  EXPECT_THAT(Read(OneValue(32, 33)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("fit")));
  EXPECT_THAT(Read(OneValue(33, 32)),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("fit")));
}

TEST(RollupDamageTest, AnUnknownFormOrFlagIsNamed) {
  for (int head = 0; head < 256; ++head) {
    const int form = head & 15;
    const int flags = head - form;
    const std::string bytes(1, static_cast<char>(head));
    if (form < 1 || form > 4) {
      EXPECT_THAT(Read(bytes), StatusIs(absl::StatusCode::kDataLoss,
                                        HasSubstr(std::to_string(form))));
    } else if ((flags & ~(form == 1 ? 48 : 16)) != 0) {
      EXPECT_THAT(Read(bytes), StatusIs(absl::StatusCode::kDataLoss,
                                        HasSubstr(std::to_string(flags))));
    }
  }
}

}  // namespace
}  // namespace gradtap::server
