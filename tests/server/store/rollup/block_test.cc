// Blocks come back entry for entry, bit for bit.

#include "server/store/rollup/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>
#include <vector>

#include "server/store/rollup/block_testing.h"
#include "server/store/rollup/rollup_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using rollup_testing::AllOf;
using rollup_testing::BitsOf;
using rollup_testing::DrawRandom;
using rollup_testing::DrawSeries;
using rollup_testing::Encode;
using rollup_testing::EntriesOf;
using rollup_testing::kInf;
using rollup_testing::kNaN;
using rollup_testing::Random;
using rollup_testing::Series;
using ::testing::HasSubstr;

std::vector<RollupEntry> ReadAll(const std::string& bytes) {
  RollupReader reader;
  std::vector<RollupEntry> entries;
  GRADTAP_EXPECT_OK(reader.Open(bytes));
  GRADTAP_EXPECT_OK(reader.ReadAll(&entries));
  return entries;
}

float WorstOf(RollupWorst which, const RollupEntry& entry) {
  if (entry.finite == 0 || which == RollupWorst::kMax) return entry.max;
  return std::fabs(entry.min) > std::fabs(entry.max) ? entry.min : entry.max;
}

// Expects that `bytes` holds the block, however it is read.
void ExpectHolds(const std::string& bytes, const RollupShape& shape,
                 const std::vector<RollupEntry>& entries) {
  RollupReader reader;
  GRADTAP_ASSERT_OK(reader.Open(bytes));
  ASSERT_EQ(reader.shape(), shape);
  std::vector<RollupEntry> got;
  GRADTAP_ASSERT_OK(reader.ReadAll(&got));
  ASSERT_EQ(AllOf(got), AllOf(entries));
  const std::uint32_t runs = shape.runs();
  for (std::uint32_t p = shape.parameters; p-- > 0;) {
    got.assign(runs, RollupEntry());
    GRADTAP_ASSERT_OK(reader.Read(p, got.data()));
    const auto* from = entries.data() + std::size_t{p} * runs;
    ASSERT_EQ(AllOf(got), AllOf(std::vector<RollupEntry>(from, from + runs)));
  }
  for (const auto which : {RollupWorst::kMax, RollupWorst::kMagnitude}) {
    std::vector<float> values(entries.size());
    std::vector<std::uint8_t> flags(entries.size(), 77);
    GRADTAP_ASSERT_OK(reader.ReadWorst(which, values.data(), flags.data()));
    for (std::size_t i = 0; i < entries.size(); ++i) {
      EXPECT_EQ(BitsOf(values[i]), BitsOf(WorstOf(which, entries[i])));
      EXPECT_EQ(flags[i],
                (entries[i].nonfinite != 0 ? kRollupHasNonfinite : 0) +
                    (entries[i].absent != 0 ? kRollupHasAbsent : 0));
    }
  }
}

std::string RoundTrip(const RollupShape& shape,
                      const std::vector<RollupEntry>& entries) {
  const std::string bytes = Encode(shape, entries);
  ExpectHolds(bytes, shape, entries);
  return bytes;
}

RollupForm FormOf(const std::string& bytes) {
  return static_cast<RollupForm>(bytes[0] & 15);
}

// Entries of the usual shape, one value each.
std::vector<RollupEntry> Uniform(float value) {
  return EntriesOf(std::vector<Series>(8, {std::vector<float>(256, value), {}}),
                   64);
}

RC_GTEST_PROP(RollupBlockPropertyTest, ComesBackWhateverItsSeriesAre, ()) {
  Random random = DrawRandom();
  RollupShape shape;
  if (random.Below(2) == 0) {
    shape.parameters = 1 + random.Below(10);
    shape.steps = 1 + random.Below(300);
    shape.run = 1 + random.Below(100);
  }
  std::vector<Series> all;
  for (std::uint32_t p = 0; p < shape.parameters; ++p) {
    all.push_back(DrawSeries(shape.steps, random));
  }
  RoundTrip(shape, EntriesOf(all, shape.run));
  RC_ASSERT(!::testing::Test::HasFailure());
}

// Of any bits: `mean` need not be between `min` and `max`.
RC_GTEST_PROP(RollupBlockPropertyTest, ComesBackWhateverItsEntriesAre, ()) {
  Random random = DrawRandom();
  std::vector<RollupEntry> entries(32);
  for (RollupEntry& entry : entries) {
    const unsigned narrow = random.Below(33);
    const auto bits = [&] {
      return std::bit_cast<float>(
          narrow == 32 ? 0x3f800000 : 0x3f800000 + (random.Next() >> narrow));
    };
    entry.min = bits();
    entry.max = bits();
    entry.mean = bits();
    entry.min_at = static_cast<std::uint16_t>(random.Below(64));
    entry.max_at = static_cast<std::uint16_t>(random.Below(64));
    if (random.Below(4) == 0) {
      entry.nonfinite = static_cast<std::uint16_t>(1 + random.Below(10));
      entry.nonfinite_at = static_cast<std::uint16_t>(random.Below(64));
      entry.first_nonfinite = std::bit_cast<float>(random.Next());
    }
    if (random.Below(4) == 0) {
      entry.absent = static_cast<std::uint16_t>(1 + random.Below(10));
      entry.absent_at = static_cast<std::uint16_t>(random.Below(64));
    }
    entry.finite =
        static_cast<std::uint16_t>(64 - entry.nonfinite - entry.absent);
  }
  const std::string bytes = Encode({}, entries);
  RC_ASSERT(AllOf(ReadAll(bytes)) == AllOf(entries));
}

TEST(RollupBlockTest, EveryWidthOfDifferencesComesBack) {
  for (unsigned width = 0; width <= 32; ++width) {
    const std::uint64_t top = width == 0 ? 0 : std::uint64_t{1} << (width - 1);
    std::vector<RollupEntry> entries = Uniform(1);
    entries[5].min = std::bit_cast<float>(tile::FromOrdered(
        tile::ToOrdered(BitsOf(1)) - static_cast<std::uint32_t>(top)));
    entries[9].mean = std::bit_cast<float>(tile::FromOrdered(
        tile::ToOrdered(BitsOf(1)) + static_cast<std::uint32_t>(top)));
    entries[14].max = entries[9].mean;
    EXPECT_EQ(AllOf(ReadAll(Encode({}, entries))), AllOf(entries)) << width;
  }
}

TEST(RollupBlockTest, WhatIsTheSameThroughoutIsAFewBytes) {
  const std::string zero = RoundTrip({}, Uniform(0));
  EXPECT_EQ(zero.size(), 1u);
  EXPECT_EQ(FormOf(zero), RollupForm::kZero);
  const std::string constant = RoundTrip({}, Uniform(-2.5f));
  EXPECT_EQ(constant.size(), 5u);
  EXPECT_EQ(FormOf(constant), RollupForm::kUniform);
  EXPECT_EQ(FormOf(RoundTrip({}, Uniform(-0.0f))), RollupForm::kUniform);
  const Series absent = {std::vector<float>(256),
                         std::vector<std::uint8_t>(256)};
  const std::string none =
      RoundTrip({}, EntriesOf(std::vector<Series>(8, absent), 64));
  EXPECT_EQ(none.size(), 1u);
  EXPECT_EQ(FormOf(none), RollupForm::kAbsent);
}

TEST(RollupBlockTest, OneOtherEntryMakesItPacked) {
  const std::vector<std::vector<float>> others = {
      std::vector<float>(64, 1), {kNaN}, {-0.0f}};
  for (const std::vector<float>& other : others) {
    std::vector<Series> all(8, {std::vector<float>(256, 0), {}});
    std::copy(other.begin(), other.end(), all[7].values.end() - 64);
    EXPECT_EQ(FormOf(RoundTrip({}, EntriesOf(all, 64))), RollupForm::kPacked);
  }
  std::vector<Series> all(8, {std::vector<float>(256, 0), {}});
  all[3].present.assign(256, 0);
  EXPECT_EQ(FormOf(RoundTrip({}, EntriesOf(all, 64))), RollupForm::kPacked);
  for (Series& series : all) series.present.assign(256, 0);
  all[7].present[255] = 1;
  all[7].values[255] = kInf;
  EXPECT_EQ(FormOf(RoundTrip({}, EntriesOf(all, 64))), RollupForm::kPacked);
}

// Not as values give them: offsets where all are equal, the first absent step
// of a run that has no other not its first.
TEST(RollupBlockTest, OddEntriesComeBack) {
  std::vector<RollupEntry> entries = Uniform(0);
  entries[31].min_at = 3;
  RoundTrip({}, entries);
  entries[31] = RollupEntry();
  entries[31].absent = 64;
  entries[31].absent_at = 5;
  RoundTrip({}, entries);
}

TEST(RollupBlockTest, WhatAnEntryDoesNotHaveIsNotLookedAt) {
  std::vector<RollupEntry> expected = Uniform(1);
  expected[9] = RollupEntry();
  expected[9].absent = 64;
  std::vector<RollupEntry> entries = expected;
  entries[9].min = entries[9].max = entries[9].mean = 7;
  entries[9].min_at = entries[9].max_at = entries[9].nonfinite_at = 999;
  entries[9].first_nonfinite = kInf;
  entries[3].nonfinite_at = entries[3].absent_at = 999;
  ExpectHolds(Encode({}, entries), {}, expected);
}

// As block.h has it, with a width for each of the three.
TEST(RollupBlockTest, CostsWhatItsWidthsSay) {
  std::vector<RollupEntry> entries = Uniform(1);
  EXPECT_EQ(
      RoundTrip({.parameters = 8, .steps = 256, .run = 64}, entries).size(),
      5u);
  const auto above = [](std::uint32_t places) {
    return std::bit_cast<float>(BitsOf(1) + places);
  };
  for (std::size_t i = 0; i < entries.size(); ++i) {
    entries[i].max = above(i % 2 == 0 ? 1023 : 512);  // Zig-zag: ten bits.
    entries[i].mean = above(511);                     // Ten bits, and nine.
    entries[i].max_at = 63;
  }
  // Form; 14 + 3 * 8 of head; and of each parameter its mark and 24 of its
  // first max (an exponent of 1 is half a step of 2^24 above the last), 3 * 10,
  // 4 * 10, 4 * 9 and 8 * 6.
  const std::size_t size = RoundTrip({}, entries).size();
  EXPECT_EQ(size, 1 + (14 + 24 + 8 * (1 + 24 + 30 + 40 + 36 + 48) + 7) / 8u);
  // One needs a bit more of changes: a bit of width for each of the eight, and
  // a bit more of its three changes.
  entries[3].max = above(1100);
  entries[3].mean = above(600);
  EXPECT_EQ(RoundTrip({}, entries).size(),
            1 + (14 + 24 + 8 * (2 + 24 + 30 + 40 + 36 + 48) + 3 + 4 + 7) / 8u);
}

TEST(RollupBlockTest, AbsentParametersCostLittle) {
  Random random(1);
  std::vector<Series> all;
  for (int p = 0; p < 8; ++p) {
    Series series;
    for (int t = 0; t < 256; ++t) series.values.push_back(2 + random.Noise());
    all.push_back(series);
  }
  const std::size_t full = RoundTrip({}, EntriesOf(all, 64)).size();
  for (int p = 0; p < 4; ++p) all[p].present.assign(256, 0);
  EXPECT_LT(RoundTrip({}, EntriesOf(all, 64)).size(), full / 2 + 37);
}

TEST(RollupBlockTest, OtherShapesComeBack) {
  Random random(2);
  const std::vector<RollupShape> shapes = {
      {64, 4096, 4096}, {1, 1, 1},    {1, 65535, 65535}, {3, 1000, 64},
      {8, 256, 32},     {2, 65, 64},  {8, 256, 65535},   {5, 7, 1},
      {300, 64, 64},    {1, 5000, 1}, {8, 16384, 4096}};
  for (const RollupShape& shape : shapes) {
    std::vector<Series> all;
    for (std::uint32_t p = 0; p < shape.parameters; ++p) {
      Series series;
      for (std::uint32_t t = 0; t < shape.steps; ++t) {
        series.values.push_back(t % 97 == 5 ? kNaN : random.Noise());
      }
      all.push_back(series);
    }
    std::vector<RollupEntry> entries;
    for (const Series& series : all) {
      for (std::uint32_t e = 0; e < shape.runs(); ++e) {
        entries.push_back(RollupOf(series.values.data() + e * shape.run,
                                   nullptr, shape.StepsOf(e)));
      }
    }
    RoundTrip(shape, entries);
  }
}

TEST(RollupBlockTest, AReaderServesForManyBlocks) {
  Random random(3);
  RollupReader reader;
  for (int i = 0; i < 50; ++i) {
    const RollupShape shape = {1 + random.Below(9), 1 + random.Below(300), 64};
    std::vector<Series> all;
    for (std::uint32_t p = 0; p < shape.parameters; ++p) {
      all.push_back(DrawSeries(shape.steps, random));
    }
    const std::vector<RollupEntry> entries = EntriesOf(all, shape.run);
    const std::string bytes = Encode(shape, entries);
    std::vector<RollupEntry> got;
    GRADTAP_ASSERT_OK(reader.Open(bytes));
    GRADTAP_ASSERT_OK(reader.ReadAll(&got));
    ASSERT_EQ(AllOf(got), AllOf(entries));
  }
}

void ExpectRefused(const RollupShape& shape,
                   const std::vector<RollupEntry>& entries,
                   const std::string& why) {
  EXPECT_THAT(EncodeRollups(shape, entries),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
}

TEST(RollupBlockTest, ABlockThatIsNoneIsRefused) {
  const std::vector<RollupEntry> good = Uniform(1);
  ExpectRefused({.parameters = 0}, {}, "0 x 256 steps");
  ExpectRefused({.steps = 0}, {}, "8 x 0 steps");
  ExpectRefused({.run = 0}, good, "runs of 0");
  ExpectRefused({.run = 65536}, good, "runs of 65536");
  ExpectRefused({.parameters = 65537, .steps = 1}, good, "65537 x 1 steps");
  ExpectRefused({.parameters = 257, .steps = 256, .run = 1}, good, "257 x 256");
  ExpectRefused({.parameters = 7}, good, "32 entries for a block of 28");
  ExpectRefused({.steps = 255}, good, "entry 3 does not fit its run of 63");
}

TEST(RollupBlockTest, AnEntryThatDoesNotFitItsRunIsNamed) {
  const std::vector<RollupEntry> good = Uniform(1);
  const auto refused = [&](const auto& change) {
    std::vector<RollupEntry> bad = good;
    bad[6].finite = 62;
    bad[6].nonfinite = bad[6].absent = 1;
    EXPECT_THAT(EncodeRollups({}, bad), ::gradtap::testing::IsOk());
    change(&bad[6]);
    ExpectRefused({}, bad, "entry 6 does not fit its run of 64 steps");
  };
  refused([](RollupEntry* e) { e->finite = 63; });
  refused([](RollupEntry* e) { e->min_at = 64; });
  refused([](RollupEntry* e) { e->max_at = 64; });
  refused([](RollupEntry* e) { e->nonfinite_at = 64; });
  refused([](RollupEntry* e) { e->absent_at = 64; });
}

TEST(RollupBlockTest, AParameterThatIsNotThereIsRefused) {
  const std::string bytes = Encode({}, Uniform(1));
  RollupReader reader;
  GRADTAP_ASSERT_OK(reader.Open(bytes));
  RollupEntry entry;
  EXPECT_THAT(reader.Read(8, &entry),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("parameter 8 of 8")));
}

}  // namespace
}  // namespace gradtap::server
