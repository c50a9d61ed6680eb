// The code of fused reductions, run on the CPU as a device runs it.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "agent/capture/fused_made.h"
#include "agent/capture/fused_table.h"
#include "agent/capture/moments_layout.h"
#include "core/record.h"
#include "core/tensors.h"

namespace gradtap::agent::fused {
namespace {

using ::gradtap::testing::Draw;
using ::gradtap::testing::kValuesCount;
using ::gradtap::testing::Values;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr float kMaxFloat = std::numeric_limits<float>::max();

template <typename T>
std::vector<T> Drawn(std::size_t n, Values values, std::mt19937_64& random) {
  std::vector<T> all;
  for (std::size_t i = 0; i < n; ++i) all.push_back(Draw<T>(values, i, random));
  return all;
}

// Its moments and bins, and a copy, from memory that is `off` elements askew.
template <typename T>
void CheckReduce(const std::vector<T>& x, std::size_t off,
                 const std::string& what) {
  const auto exact = ExactOf(x);
  const Elements<T> elements(x, off);
  Elements<T> copy(std::vector<T>(x.size()), off / 2);
  OneTensor run(elements);
  if constexpr (!std::is_integral_v<T> && !std::is_same_v<T, kernel::Bool>) {
    run.FillCopy(&copy);
  }
  run.Count().Go();
  EXPECT_EQ(OutOfBoundsOf(run.weight(), exact), "") << what;
  EXPECT_EQ(run.bins(), BinsOf(exact)) << what;
  if constexpr (!std::is_integral_v<T> && !std::is_same_v<T, kernel::Bool>) {
    EXPECT_EQ(std::memcmp(copy.data, elements.data, x.size() * sizeof(T)), 0)
        << what;
  }
}

template <typename T>
void CheckUpdate(const std::vector<T>& x, const std::vector<T>& before,
                 std::size_t off, const std::string& what) {
  const Elements<T> elements(x, off);
  Elements<T> copy(before, off / 2);
  OneTensor run(elements);
  run.CompareWith(&copy).Count().Go();
  const auto exact = ExactOf(x);
  const auto change = gradtap::testing::Differences(x, before);
  EXPECT_EQ(OutOfBoundsOf(run.weight(), exact), "") << what;
  EXPECT_EQ(OutOfBoundsOf(run.update(), change), "") << what << " update";
  EXPECT_EQ(run.bins(), BinsOf(exact)) << what;
  EXPECT_EQ(run.update_bins(), BinsOf(change)) << what << " update";
  EXPECT_EQ(std::memcmp(copy.data, elements.data, x.size() * sizeof(T)), 0)
      << what;
}

// Around vectors, blocks, tiles, and the turns of warps.
constexpr std::size_t kLengths[] = {1,   2,   3,   7,    8,    15,   16,
                                    17,  31,  33,  64,   127,  511,  512,
                                    513, 519, 768, 1024, 4095, 4096, 4097};

template <typename T>
class EveryTypeTest : public ::testing::Test {};
using EveryType =
    ::testing::Types<float, double, kernel::Half, kernel::Bfloat16, std::int8_t,
                     std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                     kernel::Bool>;
TYPED_TEST_SUITE(EveryTypeTest, EveryType);

TYPED_TEST(EveryTypeTest, MomentsAndBinsAreWithinTheBounds) {
  std::mt19937_64 random(1);
  for (int v = 0; v < kValuesCount; ++v) {
    for (const std::size_t n : kLengths) {
      CheckReduce(Drawn<TypeParam>(n, static_cast<Values>(v), random),
                  random() % 4,
                  "values " + std::to_string(v) + " n " + std::to_string(n));
    }
  }
}

template <typename T>
class FloatTypeTest : public ::testing::Test {};
using FloatTypes =
    ::testing::Types<float, double, kernel::Half, kernel::Bfloat16>;
TYPED_TEST_SUITE(FloatTypeTest, FloatTypes);

TYPED_TEST(FloatTypeTest, UpdatesAndTheirBinsAreWithinTheBounds) {
  std::mt19937_64 random(2);
  for (int v = 0; v < kValuesCount; ++v) {
    for (int w = 0; w < kValuesCount; ++w) {
      for (const std::size_t n : {1, 16, 512, 600, 5000}) {
        const auto x = Drawn<TypeParam>(n, static_cast<Values>(v), random);
        const auto before = Drawn<TypeParam>(n, static_cast<Values>(w), random);
        CheckUpdate(x, before, random() % 8,
                    "values " + std::to_string(v) + " " + std::to_string(w) +
                        " n " + std::to_string(n));
      }
    }
  }
}

TYPED_TEST(FloatTypeTest, AnUpdateOfNothingIsZero) {
  std::mt19937_64 random(3);
  const auto x = Drawn<TypeParam>(3000, Values::kFiniteExtreme, random);
  const Elements<TypeParam> elements(x);
  Elements<TypeParam> copy(x);
  OneTensor run(elements);
  run.CompareWith(&copy).Go();
  EXPECT_EQ(run.update().zero, 3000u);
  EXPECT_EQ(run.update().m2, 0);
  EXPECT_EQ(run.update().max, 0);
}

TYPED_TEST(FloatTypeTest, LengthsAroundChunksAreWithinTheBounds) {
  std::mt19937_64 random(4);
  for (const std::size_t n : {kChunk - 1, kChunk, kChunk + 1, kChunk + 4464}) {
    const auto x = Drawn<TypeParam>(n, Values::kShifted, random);
    const auto before = Drawn<TypeParam>(n, Values::kShifted, random);
    CheckUpdate(x, before, 1, "n " + std::to_string(n));
  }
}

// ---- Values that break sums -------------------------------------------------

template <typename F>
std::vector<float> Made(std::size_t n, const F& f) {
  std::vector<float> x;
  for (std::size_t i = 0; i < n; ++i) x.push_back(static_cast<float>(f(i)));
  return x;
}

TEST(FusedReduceTest, NoMagnitudeIsLost) {
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal;
  for (const double size :
       {1e-45, 1e-42, 1e-38, 1e-30, 1e-20, 1e-12, 1e-9, 1e-8, 3e-8, 1e-6, 1.0,
        1e10, 1e17, 1e18, 1e19, 1e30, 3e37}) {
    for (const std::size_t n : {std::size_t{512}, std::size_t{2000}}) {
      const std::string what = std::to_string(std::log10(size));
      const auto draw = [&] {
        return Made(n, [&](std::size_t) { return size * normal(random); });
      };
      CheckReduce(draw(), 0, what);
      CheckUpdate(draw(), draw(), 0, what);
      // One of that size among others.
      for (const double others : {1e-40, 1e-10, 1.0, 1e25}) {
        auto x = Made(n, [&](std::size_t) { return others * normal(random); });
        auto before = x;
        x[300] = static_cast<float>(size);
        CheckReduce(x, 0, what + " among");
        CheckUpdate(x, before, 0, what + " among");
      }
    }
  }
}

TEST(FusedReduceTest, TinyDeviationsFromALargeMeanAreKept) {
  std::mt19937_64 random(6);
  std::uniform_real_distribution<double> unit(-1, 1);
  for (const double mean : {1.0, -1000.0, 1e-20, 1e20}) {
    for (const double deviation : {1e-7, 1e-6, 1e-4, 1e-1}) {
      const std::string what =
          std::to_string(mean) + " " + std::to_string(deviation);
      const auto draw = [&] {
        return Made(70000, [&](std::size_t) {
          return mean * (1 + deviation * unit(random));
        });
      };
      auto x = draw();
      CheckReduce(x, 0, what);
      x[0] = static_cast<float>(mean * 1e6);  // Where a sum would be shifted.
      CheckReduce(x, 0, what + " after an outlier");
      x[0] = std::nanf("");
      CheckReduce(x, 0, what + " after a NaN");
      // Of a difference, whose float may hold none of it.
      const auto none = Made(
          x.size(), [&](std::size_t) { return mean * 3e-8 * unit(random); });
      CheckUpdate(draw(), none, 0, what + " update");
      CheckUpdate(Made(x.size(), [&](std::size_t) { return mean; }), none, 0,
                  what + " residue");
    }
  }
}

TEST(FusedReduceTest, DifferencesBeyondFloatAreThoseOfDouble) {
  const std::vector<float> x(1000, kMaxFloat);
  const std::vector<float> before(1000, -kMaxFloat);
  CheckUpdate(x, before, 0, "largest");
  const Elements<float> elements(x);
  Elements<float> copy(before);
  OneTensor run(elements);
  run.CompareWith(&copy).Go();
  EXPECT_EQ(run.update().max, 2.0 * kMaxFloat);
  EXPECT_EQ(run.update().pos_inf, 0u);
}

TEST(FusedReduceTest, WhatIsNotFiniteIsCountedWhereverItStands) {
  const float kInfF = std::numeric_limits<float>::infinity();
  for (std::size_t at = 0; at < 1200; at += 7) {
    std::vector<float> x = Made(1200, [](std::size_t i) { return i % 5; });
    std::vector<float> before(1200, 1);
    x[at] = at % 3 == 0 ? std::nanf("") : at % 3 == 1 ? kInfF : -kInfF;
    before[(at * 11) % 1200] = at % 2 == 0 ? kInfF : std::nanf("");
    CheckUpdate(x, before, at % 4, std::to_string(at));
  }
  const std::vector<float> none(700, std::nanf(""));
  CheckReduce(none, 0, "nothing finite");
}

TEST(FusedReduceTest, DoublesThatWouldOverflowASumDoNot) {
  constexpr double kMax = std::numeric_limits<double>::max();
  std::vector<double> x;
  for (int i = 0; i < 5000; ++i) x.push_back(i % 3 == 0 ? -kMax : kMax);
  CheckReduce(x, 0, "largest");
  std::vector<double> same(5000, -kMax);
  CheckReduce(same, 0, "all the same");
  CheckUpdate(x, same, 0, "differences");
}

// ---- What else a launch says ------------------------------------------------

TEST(FusedReduceTest, WhatIsRecordedIsMultiplierTimesTheElements) {
  std::mt19937_64 random(7);
  for (const double times : {0.25, -3.0, 1.0 / 65536, 1e-30}) {
    for (const Values values : {Values::kOrdinary, Values::kSpecial}) {
      const auto x = Drawn<float>(3000, values, random);
      const Elements<float> elements(x);
      OneTensor run(elements);
      run.Times(times).Count().Go();
      std::vector<long double> exact;
      for (const float e : x) exact.push_back(static_cast<double>(e) * times);
      EXPECT_EQ(OutOfBoundsOf(run.weight(), exact), "") << times;
      EXPECT_EQ(run.bins(), BinsOf(exact)) << times;
    }
  }
}

TEST(FusedReduceTest, ResultsDoNotDependOnWhereElementsLie) {
  std::mt19937_64 random(8);
  const auto x = Drawn<kernel::Half>(70000, Values::kOrdinary, random);
  const Elements<kernel::Half> even(x), odd(x, 1);
  const Moments a = OneTensor(even).Go().weight();
  const Moments b = OneTensor(odd).Go().weight();
  EXPECT_EQ(a.mean, b.mean);
  EXPECT_EQ(a.m2, b.m2);
  EXPECT_EQ(a.abs_mean, b.abs_mean);
}

TEST(FusedReduceTest, AScalarIsItsElement) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  for (const double x : {0.1, -5e-324, kInf, -kInf, kNan, 1.7e308}) {
    Task task;
    task.x = &x;
    task.numel = 1;
    task.type = Type::kFloat64;
    task.partial = 0;
    const Chunk chunk;
    double got = 7;
    Result result;
    result.chunks = 1;
    result.numel = 1;
    result.moments = &got;
    result.scalar = 1;
    Partial partial;
    Launch launch;
    launch.tasks = &task;
    launch.chunks = &chunk;
    launch.chunk_count = 1;
    launch.results = &result;
    launch.result_count = 1;
    launch.partials = &partial;
    RunOnCpu(launch);
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(got));
    } else {
      EXPECT_EQ(got, x);
    }
  }
}

TEST(FusedReduceTest, ACopyAloneTouchesNothingElse) {
  for (const std::size_t n : {1, 15, 16, 17, 1000, 70000}) {
    for (const std::size_t off : {0, 1, 3}) {
      std::vector<std::uint16_t> x(n);
      for (std::size_t i = 0; i < n; ++i) {
        x[i] = static_cast<std::uint16_t>(i + 1);
      }
      const Elements<std::uint16_t> from(x, off);
      Elements<std::uint16_t> to(std::vector<std::uint16_t>(n + 2), off / 2);
      Task task;
      task.x = from.data;
      task.copy = to.data;
      task.numel = n;
      task.type = Type::kFloat16;
      task.element_size = 2;
      std::vector<Chunk> chunks;
      for (std::uint32_t i = 0; i < ChunksOf(n); ++i) chunks.push_back({0, i});
      Launch launch;
      launch.tasks = &task;
      launch.chunks = chunks.data();
      launch.chunk_count = static_cast<std::int64_t>(chunks.size());
      RunOnCpu(launch);
      EXPECT_EQ(std::vector<std::uint16_t>(to.data, to.data + n), x);
      EXPECT_EQ(to.data[n], 0);
    }
  }
}

}  // namespace
}  // namespace gradtap::agent::fused
