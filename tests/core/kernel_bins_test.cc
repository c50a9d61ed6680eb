// Histograms by the kernels, against BinOf() of each element, under every
// instruction set.

#include "core/kernel_bins.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/histogram.h"
#include "core/kernel.h"
#include "core/kernel_support.h"
#include "core/targets.h"

namespace gradtap {
namespace {

using testing::DrawRandom;
using testing::DrawTensor;
using testing::Flat;
using testing::ForEachTarget;
using testing::Values;

struct Bins {
  BinCounts weight{};
  BinCounts update{};
};

// Of all chunks.
std::unique_ptr<Bins> BinsOf(const Reduction& reduction) {
  auto bins = std::make_unique<Bins>();
  for (std::uint64_t i = 0; i < ChunkCount(reduction.view); ++i) {
    ReduceChunk(reduction, i, &bins->weight, &bins->update);
  }
  return bins;
}

template <typename T>
std::unique_ptr<BinCounts> BinsByDefinition(const std::vector<T>& elements,
                                            double multiplier) {
  auto bins = std::make_unique<BinCounts>();
  bins->fill(0);
  for (const T& x : elements) {
    const double value = kernel::Element<T>::To(x);
    ++(*bins)[BinOf(value * multiplier)];
  }
  return bins;
}

// "" or where they differ.
std::string Difference(const BinCounts& got, const BinCounts& want) {
  std::string out;
  for (std::size_t i = 0; i < kBinCount; ++i) {
    if (got[i] != want[i]) {
      out += std::to_string(i) + ": got " + std::to_string(got[i]) + ", want " +
             std::to_string(want[i]) + "; ";
    }
  }
  return out;
}

template <typename T>
class KernelBinsTest : public ::testing::Test {};
TYPED_TEST_SUITE(KernelBinsTest, testing::Dtypes);

TYPED_TEST(KernelBinsTest, EachElementFallsIntoTheBinOfItsValue) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const std::vector<double> multipliers = {1,  1,        0x1p-16,   0x1p40, 3,
                                             -2, 0x1p-300, 0x1p-1000, 1e30};
    const double multiplier = multipliers[random() % multipliers.size()];
    const auto want = BinsByDefinition(tensor.Elements(), multiplier);
    ForEachTarget([&](const std::string& target) {
      RC_LOG(target);
      const auto got =
          BinsOf({.view = tensor.View(), .multiplier = multiplier});
      RC_ASSERT(Difference(got->weight, *want) == "");
    });
  }));
}

TYPED_TEST(KernelBinsTest, DifferencesFallIntoTheBinsOfTheirValues) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    const auto tensor = DrawTensor<TypeParam>(random);
    const auto elements = tensor.InKernelOrder();
    const Values values = testing::DrawValues(random);
    std::vector<TypeParam> before;
    BinCounts want{};
    for (std::size_t i = 0; i < elements.size(); ++i) {
      before.push_back(testing::Draw<TypeParam>(values, i, random));
      ++want[BinOf(
          kernel::Element<TypeParam>::Minus(elements[i], before.back()))];
    }
    const auto want_weight = BinsByDefinition(elements, 1);
    ForEachTarget([&](const std::string& target) {
      RC_LOG(target);
      std::vector<TypeParam> previous = before;
      const auto got = BinsOf({.view = tensor.View(),
                               .previous = previous.data(),
                               .previous_valid = true});
      RC_ASSERT(Difference(got->weight, *want_weight) == "");
      RC_ASSERT(Difference(got->update, want) == "");
      RC_ASSERT(testing::SameBytes(previous.data(), elements));
    });
  }));
}

// Long enough for the planes of a whole chunk to fill, and for several chunks.
TEST(KernelBinsTest, LongTensorsAreCountedExactly) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0, 0.02f);
  for (const std::size_t n :
       {2047u, 2048u, 4097u, 65'535u, 65'536u, 200'001u}) {
    std::vector<float> data(n), before(n);
    for (std::size_t i = 0; i < n; ++i) {
      data[i] = i % 5 == 0 ? 0.0f : normal(random);
      before[i] = i % 3 == 0 ? data[i] : data[i] + normal(random) * 0.01f;
    }
    BinCounts want_update{};
    for (std::size_t i = 0; i < n; ++i) {
      ++want_update[BinOf(static_cast<double>(data[i]) - before[i])];
    }
    const auto want = BinsByDefinition(data, 1);
    const auto size = static_cast<std::int64_t>(n);
    ForEachTarget([&](const std::string& target) {
      std::vector<float> previous = before;
      const auto got = BinsOf({.view = Flat(data, &size),
                               .previous = previous.data(),
                               .previous_valid = true});
      EXPECT_EQ(Difference(got->weight, *want), "") << target << " " << n;
      EXPECT_EQ(Difference(got->update, want_update), "") << target << " " << n;
    });
  }
}

TEST(KernelBinsTest, EqualElementsFillOneBin) {
  for (const float value : {1.0f, -3e-39f, 0.0f, 3e38f, -1e-20f}) {
    const std::vector<float> data(65'536, value);
    const std::int64_t size = 65'536;
    ForEachTarget([&](const std::string& target) {
      const auto got = BinsOf({.view = Flat(data, &size)});
      EXPECT_EQ(got->weight[BinOf(value)], 65'536u) << target << " " << value;
    });
  }
}

// Outliers, subnormals, NaN and infinities amid elements that fit the window.
TEST(KernelBinsTest, WhatFallsBesideTheWindowIsCounted) {
  std::mt19937_64 random(2);
  std::normal_distribution<float> normal(0, 1);
  const float inf = std::numeric_limits<float>::infinity();
  for (const float odd : {1e30f, 1e-30f, 1e-40f, inf, -inf, inf - inf, -0.0f}) {
    std::vector<float> data(10'000);
    for (float& x : data) x = normal(random);
    data[7777] = odd;
    const auto want = BinsByDefinition(data, 1);
    const std::int64_t size = 10'000;
    ForEachTarget([&](const std::string& target) {
      const auto got = BinsOf({.view = Flat(data, &size)});
      EXPECT_EQ(Difference(got->weight, *want), "") << target << " " << odd;
    });
  }
}

// A window that never holds would cost ten times as long, and nothing else.
TEST(KernelBinsTest, OrdinaryElementsAreNotCountedOneByOne) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> data(65'536), before(65'536);
  std::vector<kernel::Bfloat16> narrow(65'536);
  for (std::size_t i = 0; i < data.size(); ++i) {
    data[i] = i % 10 == 0 ? 0.0f : normal(random);
    before[i] = data[i] * 1.01f - 1e-3f * normal(random);
    narrow[i].bits =
        static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(data[i]) >> 16);
  }
  data[1] = 1;
  before[1] = 0.5f;  // A difference that is a power of two, not rounded to it.
  before[2] = data[2];
  const std::size_t odd = 5;  // No whole group.
  ForEachTarget([&](const std::string& target) {
    const bool windows = target.rfind("AVX", 0) == 0;  // Shift by lane.
    BinCounts bins{};
    const auto expect = [&](std::size_t one_by_one, const char* what) {
      EXPECT_EQ(one_by_one, windows ? odd : 32'768 + odd) << target << what;
    };
    const std::size_t n = 32'768 + odd;
    expect(kernel::CountBins(data.data(), n, &bins), " float32");
    expect(kernel::CountBins(narrow.data(), n, &bins), " bfloat16");
    expect(kernel::CountBins(data.data(), before.data(), n, &bins), " update");
  });
}

// In float 1 - 2^-30 is 1; in double it is below.
TEST(KernelBinsTest, DifferenceThatFloatRoundsUpKeepsItsBin) {
  std::vector<float> data(4096, 1.0f);
  const std::vector<float> before(4096, 0x1p-30f);
  const std::int64_t size = 4096;
  ForEachTarget([&](const std::string& target) {
    std::vector<float> previous = before;
    const auto got = BinsOf({.view = Flat(data, &size),
                             .previous = previous.data(),
                             .previous_valid = true});
    EXPECT_EQ(got->update[kBinPositive + 126], 4096u) << target;
  });
}

TEST(KernelBinsTest, BinsAddToWhatIsThere) {
  const std::vector<float> data(3000, 1.0f);
  const std::int64_t size = 3000;
  BinCounts bins{};
  bins[kBinPositive + 127] = 5;
  bins[kBinNan] = 9;
  ReduceChunk({.view = Flat(data, &size)}, 0, &bins);
  EXPECT_EQ(bins[kBinPositive + 127], 3005u);
  EXPECT_EQ(bins[kBinNan], 9u);
}

TEST(KernelBinsTest, ExpandedElementsCountAsOftenAsTheyCome) {
  const std::vector<float> data = {1, 2, 0};
  const std::int64_t sizes[] = {100'000, 3, 50'000};
  const std::int64_t strides[] = {0, 1, 0};
  const TensorView view{data.data(), Dtype::kFloat32, 3, sizes, strides};
  BinCounts bins{};
  const std::uint64_t each = 5'000'000'000;
  Moments all;
  // Some of the chunks: there are 228,882.
  for (const std::uint64_t chunk : {std::uint64_t{0}, each / kChunk,
                                    2 * each / kChunk, 3 * each / kChunk}) {
    all = Merge(all, ReduceChunk({.view = view}, chunk, &bins).weight);
  }
  std::uint64_t total = 0;
  for (const std::uint64_t count : bins) total += count;
  EXPECT_EQ(total, all.numel());
  EXPECT_EQ(bins[kBinZero], all.zero);
  EXPECT_GT(bins[kBinPositive + 127], kChunk);
  EXPECT_GT(bins[kBinPositive + 128], kChunk / 2);
}

TEST(KernelBinsTest, QuickBinIsTheBin) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200'000; ++i) {
    const std::uint64_t bits = random();
    const auto narrow = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
    const auto wide = std::bit_cast<double>(bits);
    ASSERT_EQ(kernel::QuickBin(narrow), BinOf(narrow)) << narrow;
    ASSERT_EQ(kernel::QuickBin(wide), BinOf(wide)) << wide;
  }
  for (const double x : {0.0, -0.0, 0x1p-126, 0x1p-127, -0x1p-149, 0x1p127,
                         0x1p128, 1e300, 0x1.fffffffffffffp127}) {
    EXPECT_EQ(kernel::QuickBin(x), BinOf(x)) << x;
  }
}

TEST(KernelBinsTest, LongRunsOfValuesFarApartDoNotJoin) {
  // A window has room for one of these exponents only; runs make the sums carry
  // from one end of a counter to the other.
  const float values[] = {-0x1p16f, 0x1p100f, -0x1p-48f};
  std::vector<float> elements;
  BinCounts want{};
  for (const float value : values) {
    elements.insert(elements.end(), 1024, value);
    want[BinOf(value)] += 1024;
  }
  const std::int64_t sizes[] = {3072}, strides[] = {1};
  ForEachTarget([&](const std::string& target) {
    const auto got = BinsOf({.view = {.data = elements.data(),
                                      .dtype = Dtype::kFloat32,
                                      .dims = 1,
                                      .sizes = sizes,
                                      .strides = strides}});
    EXPECT_EQ(Difference(got->weight, want), "") << target;
  });
}

}  // namespace
}  // namespace gradtap
