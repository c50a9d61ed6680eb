// Inputs that break naive sums, under every instruction set.

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/kernel.h"
#include "core/kernel_support.h"
#include "core/targets.h"

namespace gradtap {
namespace {

using testing::ExactAll;
using testing::Flat;
using testing::ForEachTarget;
using testing::OutOfBounds;
using testing::ReduceFlat;
using testing::Reference;
using testing::ReferenceOf;

struct Input {
  std::string name;
  std::function<double(std::size_t, std::mt19937_64&)> element;
};

double Uniform(std::mt19937_64& random) {
  return std::uniform_real_distribution<double>(-1, 1)(random);
}
double Normal(std::mt19937_64& random) {
  return std::normal_distribution<double>()(random);
}

const std::vector<Input>& Inputs() {
  using R = std::mt19937_64;
  static const std::vector<Input> inputs = {
      {"normal", [](std::size_t, R& r) { return Normal(r); }},
      {"positive",
       [](std::size_t, R& r) { return 0.1 + std::fabs(Normal(r)); }},
      {"large mean", [](std::size_t, R& r) { return 1000 + 1e-3 * Normal(r); }},
      {"huge mean", [](std::size_t, R& r) { return 1e7 + Normal(r); }},
      {"layer norm", [](std::size_t, R& r) { return 1 + 1e-4 * Normal(r); }},
      {"last bit", [](std::size_t i, R&) { return i % 7 ? 1 : 1 + 0x1p-23; }},
      {"one last bit",
       [](std::size_t i, R&) { return i == 5000 ? 1 + 0x1p-23 : 1; }},
      {"alternating", [](std::size_t i, R&) { return i % 2 ? 3.7 : -3.7; }},
      {"alternating about 0.1",
       [](std::size_t i, R&) { return i % 2 ? 0.1 : 0.1 - 1e-8; }},
      {"one outlier",
       [](std::size_t i, R& r) { return i == 777 ? 1e20 : Normal(r); }},
      {"outlier first",
       [](std::size_t i, R& r) { return i == 0 ? 1e9 : Normal(r); }},
      {"sample unlike the rest",
       [](std::size_t i, R& r) { return i < 64 ? 1e4 : Normal(r); }},
      {"sample of zeros",
       [](std::size_t i, R& r) { return i < 64 ? 0 : 1e6 + Normal(r); }},
      {"steps",
       [](std::size_t i, R& r) { return (i / 4096) * 100. + Normal(r); }},
      {"subnormals", [](std::size_t, R& r) { return 0x1p-130 * Normal(r); }},
      {"small", [](std::size_t, R& r) { return 1e-20 * Normal(r); }},
      {"small about one value",
       [](std::size_t, R& r) { return 1e-20 + 1e-25 * Uniform(r); }},
      {"squares overflow", [](std::size_t, R& r) { return 1e30 * Normal(r); }},
      {"sums overflow",
       [](std::size_t i, R&) { return i % 2 ? FLT_MAX : FLT_MAX / 2; }},
      {"largest of both signs",
       [](std::size_t i, R&) { return i % 2 ? FLT_MAX : -FLT_MAX; }},
      {"heavy tail", [](std::size_t, R& r) { return std::exp(4 * Normal(r)); }},
      {"sparse", [](std::size_t i, R& r) { return i % 997 ? 0 : Normal(r); }},
      {"all magnitudes",
       [](std::size_t, R& r) {
         return std::ldexp(Normal(r), int(r() % 240) - 120);
       }},
      {"ascending", [](std::size_t i, R&) { return double(i); }},
      {"rounding one way",
       [](std::size_t i, R&) { return i % 16 == 0 ? 1 : 0x1.8p-24; }},
  };
  return inputs;
}

const std::vector<std::size_t>& Lengths() {
  static const std::vector<std::size_t> lengths = {
      2, 3, 15, 16, 17, 63, 64, 65, 255, 256, 1000, 4096, 4097, 8191, 100'003};
  return lengths;
}

template <typename T>
void ExpectBounds() {
  for (const Input& input : Inputs()) {
    for (const std::size_t n : Lengths()) {
      std::mt19937_64 random(n);
      std::vector<T> data;
      for (std::size_t i = 0; i < n; ++i) {
        data.push_back(static_cast<T>(input.element(i, random)));
      }
      const Reference want = ReferenceOf(ExactAll(data));
      ForEachTarget([&](const std::string& target) {
        EXPECT_EQ(OutOfBounds(ToRecord(ReduceFlat(data)), want), "")
            << input.name << ", " << n << ", " << target;
      });
    }
  }
}

TEST(KernelBoundsTest, FloatsKeepTheBounds) { ExpectBounds<float>(); }
TEST(KernelBoundsTest, DoublesKeepTheBounds) { ExpectBounds<double>(); }

TEST(KernelBoundsTest, UpdatesKeepTheBounds) {
  for (const Input& input : Inputs()) {
    for (const std::size_t n : Lengths()) {
      std::mt19937_64 random(n);
      std::vector<float> weight, before;
      std::vector<long double> difference;
      for (std::size_t i = 0; i < n; ++i) {
        const double x = input.element(i, random);
        const double step = n % 2 ? 1e-3 * x : 1e-3 * x * Uniform(random);
        weight.push_back(static_cast<float>(x));
        before.push_back(static_cast<float>(x - step));
        difference.push_back(testing::ExactDifference(weight[i], before[i]));
      }
      const Reference want = ReferenceOf(difference);
      const auto size = static_cast<std::int64_t>(n);
      ForEachTarget([&](const std::string& target) {
        std::vector<float> previous = before;
        const auto got =
            ReduceWeightAndUpdate(Flat(weight, &size), previous.data());
        EXPECT_EQ(OutOfBounds(ToRecord(got.update), want), "")
            << input.name << ", " << n << ", " << target;
        EXPECT_EQ(previous, weight) << input.name << ", " << n;
      });
    }
  }
}

TEST(KernelBoundsTest, HalvesOfSixtyThousandKeepTheirNorm) {
  const std::vector<kernel::Half> data(
      100'000, testing::internal::FromDouble<kernel::Half>(60'000));
  const Reference want = ReferenceOf(ExactAll(data));
  ForEachTarget([&](const std::string& target) {
    EXPECT_EQ(OutOfBounds(ToRecord(ReduceFlat(data)), want), "") << target;
  });
}

TEST(KernelBoundsTest, NanAmidTinyDeviationsKeepsThem) {
  std::mt19937_64 random(1);
  std::vector<float> data;
  for (int i = 0; i < 20'000; ++i) {
    data.push_back(static_cast<float>(500 + 1e-2 * Normal(random)));
  }
  for (std::size_t i = 3; i < data.size(); i += 1024) {
    data[i] = std::numeric_limits<float>::quiet_NaN();
  }
  const Reference want = ReferenceOf(ExactAll(data));
  ForEachTarget([&](const std::string& target) {
    EXPECT_EQ(OutOfBounds(ToRecord(ReduceFlat(data)), want), "") << target;
  });
}

TEST(KernelBoundsTest, ScaledRecordsAreThoseOfTheScaledElements) {
  std::mt19937_64 random(2);
  std::vector<float> data;
  for (int i = 0; i < 10'000; ++i) {
    data.push_back(static_cast<float>(Normal(random)));
  }
  data[5] = std::numeric_limits<float>::infinity();
  const std::int64_t size = 10'000;
  for (const double multiplier :
       {1 / 65536., 3.7, -1e-3, 1e30, -1e300, 1e-60}) {
    std::vector<long double> scaled;
    for (const float x : data) {
      scaled.push_back(static_cast<long double>(x) * multiplier);
    }
    const Reference want = ReferenceOf(scaled);
    ForEachTarget([&](const std::string& target) {
      const Moments got =
          ReduceChunk({.view = Flat(data, &size), .multiplier = multiplier}, 0)
              .weight;
      EXPECT_EQ(OutOfBounds(ToRecord(got), want), "") << multiplier << target;
      EXPECT_TRUE(std::isfinite(got.m2) && std::isfinite(got.max));
    });
  }
}

// 1e9 elements: expanded, so that there is no memory to read.
TEST(KernelBoundsTest, ABillionElementsKeepTheBounds) {
  const std::vector<float> data = {1.0f, 1.0f + 0x1p-23f, 1.0f, 1.0f};
  const std::int64_t sizes[] = {4, 250'000'000};
  const std::int64_t strides[] = {1, 0};
  const TensorView view{data.data(), Dtype::kFloat32, 2, sizes, strides};
  const Moments got = Reduce(view);
  EXPECT_EQ(got.finite, 1'000'000'000u);
  const double mean = 1 + 0x1p-25;
  const double std = std::sqrt(3.0) / 4 * 0x1p-23;
  EXPECT_NEAR(got.mean, mean, 1e-15);
  EXPECT_NEAR(std::sqrt(got.m2 / 1e9) / std, 1, 1e-6);
}

}  // namespace
}  // namespace gradtap
