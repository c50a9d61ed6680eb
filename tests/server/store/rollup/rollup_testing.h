// Series to roll up, and entries as a slow reference makes them.

#ifndef GRADTAP_TESTS_SERVER_STORE_ROLLUP_ROLLUP_TESTING_H_
#define GRADTAP_TESTS_SERVER_STORE_ROLLUP_ROLLUP_TESTING_H_

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "server/store/rollup/entry.h"
#include "server/store/tile/tile_testing.h"

namespace gradtap::server::rollup_testing {

using tile_testing::Random;

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kLargest = std::numeric_limits<float>::max();
inline constexpr float kSmallest = std::numeric_limits<float>::denorm_min();

// rapidcheck gives the seed, and names it when a case fails.
inline Random DrawRandom() {
  return Random(
      *rc::gen::resize(rc::kNominalSize, rc::gen::arbitrary<std::uint64_t>()));
}

inline std::uint32_t BitsOf(float value) { return tile::BitsOf(value); }

// Everything but the mean, which rounding may change.
inline std::vector<std::uint32_t> ExactPart(const RollupEntry& e) {
  return {BitsOf(e.min), BitsOf(e.max), BitsOf(e.first_nonfinite),
          e.finite,      e.nonfinite,   e.absent,
          e.min_at,      e.max_at,      e.nonfinite_at,
          e.absent_at};
}
inline std::vector<std::uint32_t> AllOf(const RollupEntry& e) {
  std::vector<std::uint32_t> all = ExactPart(e);
  all.push_back(BitsOf(e.mean));
  return all;
}
inline std::vector<std::vector<std::uint32_t>> AllOf(
    const std::vector<RollupEntry>& entries) {
  std::vector<std::vector<std::uint32_t>> all;
  for (const RollupEntry& entry : entries) all.push_back(AllOf(entry));
  return all;
}

// One series: `present` is empty if all are.
struct Series {
  std::vector<float> values;
  std::vector<std::uint8_t> present;

  bool IsPresent(std::size_t i) const { return present.empty() || present[i]; }
  const std::uint8_t* presence() const {
    return present.empty() ? nullptr : present.data();
  }
};

enum class Values { kWalk, kAnyBits, kBorders, kFew, kCount };

inline float DrawValue(Values values, Random& random) {
  static constexpr std::array kBorders = {
      0.0f, kSmallest, 0x1p-126f, 0x1.fffffcp-127f, 1.0f, kLargest, kInf, kNaN};
  switch (values) {
    case Values::kAnyBits:
      return std::bit_cast<float>(random.Next());
    case Values::kBorders: {
      const float value = kBorders[random.Below(kBorders.size())];
      return random.Below(2) == 0 ? value : -value;
    }
    case Values::kFew: {  // So that many are equal, 0 and -0 among them.
      const float value = static_cast<float>(random.Below(3));
      return random.Below(2) == 0 ? value : -value;
    }
    default:
      return 3 + random.Noise();
  }
}

// `one_in` 0: all are present.
inline Series DrawSeries(std::size_t steps, Random& random) {
  const auto values = static_cast<Values>(
      random.Below(static_cast<std::uint32_t>(Values::kCount)));
  Series series;
  for (std::size_t i = 0; i < steps; ++i) {
    series.values.push_back(DrawValue(values, random));
  }
  const std::uint32_t one_in = random.Below(5);  // 1: none is present.
  if (one_in == 0) return series;
  for (std::size_t i = 0; i < steps; ++i) {
    series.present.push_back(random.Below(one_in) == 0 ? 0 : 1);
  }
  return series;
}

// Word for word what entry.h says, in quadratic time.
inline RollupEntry SlowEntry(const Series& series, std::size_t from,
                             std::size_t steps) {
  RollupEntry entry;
  std::vector<std::size_t> finite;
  for (std::size_t i = 0; i < steps; ++i) {
    const float value = series.values[from + i];
    if (!series.IsPresent(from + i)) {
      if (entry.absent == 0) entry.absent_at = static_cast<std::uint16_t>(i);
      ++entry.absent;
    } else if (std::isnan(value) || std::isinf(value)) {
      if (entry.nonfinite == 0) {
        entry.nonfinite_at = static_cast<std::uint16_t>(i);
        entry.first_nonfinite = value;
      }
      ++entry.nonfinite;
    } else {
      finite.push_back(i);
    }
  }
  entry.finite = static_cast<std::uint16_t>(finite.size());
  if (finite.empty()) return entry;
  const auto first_where = [&](const auto& beats) {
    for (const std::size_t i : finite) {
      bool beaten = false;
      for (const std::size_t j : finite) {
        beaten =
            beaten || beats(series.values[from + j], series.values[from + i]);
      }
      if (!beaten) return i;
    }
    return finite.size();
  };
  const std::size_t min = first_where([](float a, float b) { return a < b; });
  const std::size_t max = first_where([](float a, float b) { return a > b; });
  entry.min = series.values[from + min];
  entry.max = series.values[from + max];
  entry.min_at = static_cast<std::uint16_t>(min);
  entry.max_at = static_cast<std::uint16_t>(max);
  entry.mean = entry.min;
  if (entry.min == entry.max) return entry;
  long double sum = 0;
  for (const std::size_t i : finite) sum += series.values[from + i];
  entry.mean =
      static_cast<float>(sum / static_cast<long double>(finite.size()));
  return entry;
}

// Expects the same but for the mean, which is between min and max and differs
// by what one rounding to float32 may do, and of entries that were merged one
// more each time, of values as large as theirs.
inline void ExpectEntry(const RollupEntry& got, const RollupEntry& expected,
                        int merges = 0) {
  EXPECT_EQ(ExactPart(got), ExactPart(expected));
  EXPECT_EQ(std::isnan(got.mean), got.finite == 0);
  if (got.finite == 0) return;
  EXPECT_GE(got.mean, got.min);
  EXPECT_LE(got.mean, got.max);
  const double largest = std::max(std::fabs(got.min), std::fabs(got.max));
  EXPECT_NEAR(got.mean, expected.mean,
              0x1p-23 * std::fabs(expected.mean) +
                  (merges * 0x1p-24 + 0x1p-40) * largest + 0x1p-149);
}

// The entries of series after series, `run` steps each.
inline std::vector<RollupEntry> EntriesOf(const std::vector<Series>& all,
                                          std::size_t run) {
  std::vector<RollupEntry> entries;
  for (const Series& series : all) {
    for (std::size_t from = 0; from < series.values.size(); from += run) {
      entries.push_back(
          SlowEntry(series, from, std::min(run, series.values.size() - from)));
    }
  }
  return entries;
}

}  // namespace gradtap::server::rollup_testing

#endif  // GRADTAP_TESTS_SERVER_STORE_ROLLUP_ROLLUP_TESTING_H_
