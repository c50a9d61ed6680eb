// Chunks: in any order, on any number of threads, the same bits.

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/kernel.h"
#include "core/kernel_control.h"
#include "core/kernel_support.h"
#include "core/targets.h"

namespace gradtap {
namespace {

using testing::DrawRandom;
using testing::ForEachTarget;
using testing::MadeTensor;
using testing::MakeTensor;
using testing::OutOfBounds;
using testing::ReferenceOf;
using testing::Same;
using testing::Values;

::testing::AssertionResult Same(const WeightAndUpdate& a,
                                const WeightAndUpdate& b) {
  const auto weight = testing::Same(a.weight, b.weight);
  return weight ? testing::Same(a.update, b.update) : weight;
}

// Every chunk by whichever of `threads` threads comes first.
WeightAndUpdate ReduceOnThreads(const Reduction& reduction, int threads) {
  std::vector<WeightAndUpdate> parts(ChunkCount(reduction.view));
  std::atomic<std::uint64_t> next{0};
  const auto work = [&] {
    for (std::uint64_t i = next++; i < parts.size(); i = next++) {
      parts[i] = ReduceChunk(reduction, i);
    }
  };
  std::vector<std::thread> pool;
  for (int i = 1; i < threads; ++i) pool.emplace_back(work);
  work();
  for (std::thread& thread : pool) thread.join();
  return JoinChunks(parts);
}

template <typename T>
MadeTensor<T> Large(std::mt19937_64& random) {
  const std::vector<std::vector<std::int64_t>> shapes = {
      {200'000}, {65'536}, {65'537}, {131'072}, {300, 700}, {7, 100, 300}};
  const bool contiguous = random() % 2 == 0;
  const auto values = static_cast<Values>(random() % testing::kValuesCount);
  return MakeTensor<T>(shapes[random() % shapes.size()], values, contiguous,
                       random);
}

template <typename T>
class KernelChunkTest : public ::testing::Test {};
using SomeDtypes = ::testing::Types<float, double, kernel::Bfloat16,
                                    std::int16_t, std::complex<float>>;
TYPED_TEST_SUITE(KernelChunkTest, SomeDtypes);

TYPED_TEST(KernelChunkTest, ThreadsAndOrderDoNotChangeABit) {
  for (int round = 0; round < 6; ++round) {
    std::mt19937_64 random(round);
    const auto weight = Large<TypeParam>(random);
    const auto elements = weight.InKernelOrder();
    std::vector<TypeParam> before(elements.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      before[i] = testing::Draw<TypeParam>(Values::kOrdinary, i, random);
    }
    ForEachTarget([&](const std::string& target) {
      std::vector<TypeParam> previous = before;
      const WeightAndUpdate alone =
          ReduceWeightAndUpdate(weight.View(), previous.data());
      EXPECT_TRUE(testing::SameBytes(previous.data(), elements));
      for (const int threads : {1, 2, 5}) {
        previous = before;
        EXPECT_TRUE(Same(alone, ReduceOnThreads({.view = weight.View(),
                                                 .previous = previous.data(),
                                                 .previous_valid = true},
                                                threads)))
            << target << ", " << threads << " threads";
        EXPECT_TRUE(testing::SameBytes(previous.data(), elements));
      }
      EXPECT_TRUE(
          testing::Same(ReduceOnThreads({.view = weight.View()}, 3).weight,
                        Reduce(weight.View())));
    });
  }
}

TYPED_TEST(KernelChunkTest, JoinedChunksKeepTheBounds) {
  for (int round = 0; round < 4; ++round) {
    std::mt19937_64 random(100 + round);
    const auto tensor = Large<TypeParam>(random);
    const auto want = ReferenceOf(testing::ExactAll(tensor.Elements()));
    ForEachTarget([&](const std::string& target) {
      EXPECT_EQ(OutOfBounds(ToRecord(Reduce(tensor.View())), want), "")
          << target;
    });
  }
}

TEST(KernelChunkTest, BinsDoNotChangeTheMoments) {
  std::mt19937_64 random(7);
  const auto tensor = Large<float>(random);
  BinCounts bins{};
  for (std::uint64_t i = 0; i < ChunkCount(tensor.View()); ++i) {
    EXPECT_TRUE(
        testing::Same(ReduceChunk({.view = tensor.View()}, i, &bins).weight,
                      ReduceChunk({.view = tensor.View()}, i).weight));
  }
}

TEST(KernelChunkTest, ChunksOfNothingAndBeyondTheEndAreEmpty) {
  EXPECT_TRUE(Same(JoinChunks({}), WeightAndUpdate{}));
  const std::int64_t size = 0, one = 1;
  const TensorView empty{nullptr, Dtype::kFloat32, 1, &size, &one};
  EXPECT_EQ(ChunkCount(empty), 1u);
  EXPECT_TRUE(Same(ReduceChunk({.view = empty}, 0), WeightAndUpdate{}));
  const float x = 1;
  const TensorView scalar{&x, Dtype::kFloat32, 0, nullptr, nullptr};
  EXPECT_EQ(ChunkCount(scalar), 1u);
  EXPECT_TRUE(Same(ReduceChunk({.view = scalar}, 1), WeightAndUpdate{}));
}

TEST(KernelChunkTest, ChunkCountFollowsTheSizeAlone) {
  const float x = 1;
  const std::int64_t zero = 0;
  for (const std::int64_t size : {1, 65'536, 65'537, 131'072, 131'073}) {
    const TensorView view{&x, Dtype::kFloat32, 1, &size, &zero};
    EXPECT_EQ(ChunkCount(view),
              (static_cast<std::uint64_t>(size) + 65'535) / 65'536);
  }
}

// Any split of the parts merges to what the join says, within rounding.
TEST(KernelChunkTest, PartsMergeInAnyOrder) {
  EXPECT_TRUE(rc::check([] {
    std::mt19937_64 random = DrawRandom();
    std::vector<float> data(1 + random() % 20'000);
    for (std::size_t i = 0; i < data.size(); ++i) {
      data[i] = testing::Draw<float>(Values::kOrdinary, i, random);
    }
    std::vector<Moments> parts;
    for (std::size_t at = 0; at < data.size();) {
      const auto size = static_cast<std::int64_t>(
          std::min<std::size_t>(data.size() - at, 1 + random() % 5000));
      const std::int64_t one = 1;
      parts.push_back(
          Reduce({data.data() + at, Dtype::kFloat32, 1, &size, &one}));
      at += static_cast<std::size_t>(size);
    }
    std::shuffle(parts.begin(), parts.end(), random);
    Moments all;
    for (const Moments& part : parts) all = Merge(all, part);
    RC_ASSERT(
        OutOfBounds(ToRecord(all), ReferenceOf(testing::ExactAll(data))) == "");
  }));
}

TEST(KernelChunkTest, NonfiniteEverywhereIsCounted) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> data(70'000, nan);
  ForEachTarget([&](const std::string& target) {
    const Moments got = testing::ReduceFlat(data);
    EXPECT_EQ(got.nan, 70'000u) << target;
    EXPECT_EQ(got.finite, 0u);
    EXPECT_TRUE(std::isnan(ToRecord(got).mean));
  });
}

#if defined(__x86_64__)

// As torch::set_flush_denormal(true) leaves the thread.
class FlushedTest : public ::testing::Test {
 protected:
  FlushedTest() : saved_(__builtin_ia32_stmxcsr()) {
    __builtin_ia32_ldmxcsr(saved_ | 0x8040);
  }
  ~FlushedTest() override { __builtin_ia32_ldmxcsr(saved_); }

  const unsigned saved_;
};

TEST_F(FlushedTest, SubnormalsAreNoZerosAndTheThreadStaysAsItWas) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  std::vector<float> data(5000, 3 * tiny);
  data[0] = tiny;
  const std::int64_t size = 5000;
  ForEachTarget([&](const std::string& target) {
    BinCounts bins{};
    std::vector<float> previous = data;
    std::memset(previous.data(), 0, 100);
    const auto got = ReduceChunk({.view = testing::Flat(data, &size),
                                  .previous = previous.data(),
                                  .previous_valid = true},
                                 0, &bins);
    EXPECT_EQ(got.weight.zero, 0u) << target;
    EXPECT_EQ(got.update.zero, 4975u) << target;
    EXPECT_EQ(bins[kBinPosSubnormal], 5000u) << target;
    EXPECT_EQ(got.weight.max, 3 * 0x1p-149) << target;
    const Record record = ToRecord(got.weight);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(record.max), 3u);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(record.min), 1u);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(record.mean), 3u);
    EXPECT_EQ(__builtin_ia32_stmxcsr() & 0x8040, 0x8040u);
  });
}

#endif

}  // namespace
}  // namespace gradtap
