#include "core/quantile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/record.h"
#include "rapidcheck.h"
#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kMinNormal = std::numeric_limits<float>::min();

BinCounts BinsOf(const std::vector<float>& values) {
  BinCounts bins{};
  for (const float value : values) ++bins[BinOf(value)];
  return bins;
}

std::vector<float> SortedFinite(std::vector<float> values) {
  std::erase_if(values, [](float x) { return !std::isfinite(x); });
  std::sort(values.begin(), values.end());
  return values;
}

// The definition, counted out: the least element that at least `which` of all
// are not above.
double Reference(const std::vector<float>& sorted, MicroPercent which) {
  for (std::size_t k = 1; k <= sorted.size(); ++k) {
    if (k * std::uint64_t{kMaxMicroPercent} >=
        std::uint64_t{which} * sorted.size()) {
      return sorted[k - 1];
    }
  }
  return kNaN;
}

void ExpectWithin(const Quantile& got, double truth) {
  EXPECT_LE(got.lower, truth);
  EXPECT_GE(got.upper, truth);
  EXPECT_LE(got.lower, got.value);
  EXPECT_GE(got.upper, got.value);
  if (std::fabs(truth) < kMinNormal) {
    EXPECT_NEAR(got.value, truth, kMinNormal);
    return;
  }
  EXPECT_EQ(std::signbit(got.value), std::signbit(truth));
  EXPECT_LE(std::fabs(got.value), 2 * std::fabs(truth));
  EXPECT_GE(std::fabs(got.value), std::fabs(truth) / 2);
}

void ExpectAllWithin(const std::vector<float>& values) {
  const std::vector<float> sorted = SortedFinite(values);
  const BinCounts bins = BinsOf(values);
  const double min = sorted.empty() ? kNaN : sorted.front();
  const double max = sorted.empty() ? kNaN : sorted.back();
  for (const char* name : {"p0", "p0.000001", "p1", "p25", "p50", "p75", "p90",
                           "p99", "p99.9", "p99.999999", "p100"}) {
    SCOPED_TRACE(name);
    const MicroPercent which = *ParseQuantile(name);
    const Quantile clipped = QuantileOf(bins, which, min, max);
    const Quantile open = QuantileOf(bins, which, kNaN, kNaN);
    if (sorted.empty()) {
      EXPECT_TRUE(std::isnan(clipped.value) && std::isnan(clipped.lower) &&
                  std::isnan(clipped.upper));
      EXPECT_TRUE(std::isnan(open.value));
      continue;
    }
    const double truth = Reference(sorted, which);
    ExpectWithin(clipped, truth);
    ExpectWithin(open, truth);
  }
}

TEST(QuantileTest, TheTrueOneIsAlwaysWithinTheBounds) {
  EXPECT_TRUE(rc::check([] {
    // All patterns of bits: every exponent, subnormals, what is not finite.
    const auto patterns = *rc::gen::container<std::vector<std::uint32_t>>(
        rc::gen::arbitrary<std::uint32_t>());
    std::vector<float> values(patterns.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      std::memcpy(&values[i], &patterns[i], sizeof(float));
    }
    ExpectAllWithin(values);
    RC_ASSERT(!::testing::Test::HasFailure());
  }));
}

TEST(QuantileTest, TheTrueOneIsWithinTheBoundsOfUsualGradients) {
  EXPECT_TRUE(rc::check([] {
    const int n = *rc::gen::inRange(1, 2000);
    const double scale = std::ldexp(1.0, *rc::gen::inRange(-100, 100));
    const unsigned seed = *rc::gen::arbitrary<unsigned>();
    std::vector<float> values;
    std::uint64_t state = seed;
    for (int i = 0; i < n; ++i) {  // A sum of four: nearly a bell.
      double sum = 0;
      for (int k = 0; k < 4; ++k) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += static_cast<double>(state >> 33) / (1u << 31) - 0.5;
      }
      values.push_back(static_cast<float>(sum * scale));
    }
    ExpectAllWithin(values);
    RC_ASSERT(!::testing::Test::HasFailure());
  }));
}

TEST(QuantileTest, AddedHistogramsGiveTheQuantileOfAllElements) {
  EXPECT_TRUE(
      rc::check([](const std::vector<float>& a, const std::vector<float>& b) {
        std::vector<float> all = a;
        all.insert(all.end(), b.begin(), b.end());
        BinCounts sum = BinsOf(a);
        AddBins(BinsOf(b), &sum);
        RC_ASSERT(sum == BinsOf(all));
      }));
}

TEST(QuantileTest, SpecialSetsOfValues) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float tiny = std::numeric_limits<float>::denorm_min();
  const float big = std::numeric_limits<float>::max();
  ExpectAllWithin({});
  ExpectAllWithin({nan, inf, -inf});
  ExpectAllWithin({0.0f, -0.0f, 0.0f});
  ExpectAllWithin({3.5f});
  ExpectAllWithin({-3.5f, nan});
  ExpectAllWithin({-1, -2, -4, -1024});
  ExpectAllWithin({tiny, -tiny, 0, 3 * tiny, 1e-39f, -1e-39f});
  ExpectAllWithin({big, -big, big, 1, inf});
  ExpectAllWithin(std::vector<float>(1000, 7.25f));
  ExpectAllWithin({1, 2, 4, 8, 16, 32});  // Each on the edge of its bin.
}

TEST(QuantileTest, TheEndsAndASingleElementAreExact) {
  const std::vector<float> values = {-3.25f, 0.1f, 0.7f, 5.5f};
  const BinCounts bins = BinsOf(values);
  const Quantile least = QuantileOf(bins, 0, -3.25, 5.5);
  EXPECT_EQ(least.value, -3.25);
  EXPECT_EQ(least.lower, least.upper);
  const Quantile most = QuantileOf(bins, kMaxMicroPercent, -3.25, 5.5);
  EXPECT_EQ(most.value, 5.5);
  EXPECT_EQ(most.lower, most.upper);
  const Quantile one = QuantileOf(BinsOf({0.3f}), 50'000'000, 0.3f, 0.3f);
  EXPECT_EQ(one.value, static_cast<double>(0.3f));
}

TEST(QuantileTest, RanksAreExactWhereDoublesAreNot) {
  // 99.9 / 100 * 1000 is a little more than 999 in double.
  std::vector<float> values(999, 1.0f);
  values.push_back(1024.0f);
  const BinCounts bins = BinsOf(values);
  EXPECT_LE(QuantileOf(bins, *ParseQuantile("p99.9"), 1, 1024).upper, 2);
  EXPECT_EQ(QuantileOf(bins, *ParseQuantile("p99.900001"), 1, 1024).value,
            1024);
  BinCounts huge{};
  huge[kBinZero] = std::numeric_limits<std::uint64_t>::max() - 1;
  huge[kBinPositive + 127] = 1;
  EXPECT_EQ(QuantileOf(huge, *ParseQuantile("p99.999999"), 0, 1).value, 0);
  EXPECT_EQ(QuantileOf(huge, kMaxMicroPercent, 0, 1).value, 1);
}

TEST(QuantileTest, MinAndMaxThatContradictTheBinsAreNotBelieved) {
  const BinCounts bins = BinsOf({1.5f, 1.5f, 1.5f});
  for (const auto& [min, max] :
       std::vector<std::pair<double, double>>{{5, 7}, {-9, 0}, {1.9, 1.1}}) {
    const Quantile got = QuantileOf(bins, 50'000'000, min, max);
    EXPECT_EQ(got.lower, 1) << min;
    EXPECT_EQ(got.upper, 2) << min;
    EXPECT_GE(got.value, 1) << min;
    EXPECT_LE(got.value, 2) << min;
  }
}

TEST(ParseQuantileTest, ReadsPerCentWithDecimals) {
  EXPECT_EQ(*ParseQuantile("p0"), 0u);
  EXPECT_EQ(*ParseQuantile("p50"), 50'000'000u);
  EXPECT_EQ(*ParseQuantile("p99.9"), 99'900'000u);
  EXPECT_EQ(*ParseQuantile("p0.000001"), 1u);
  EXPECT_EQ(*ParseQuantile("p100"), kMaxMicroPercent);
  EXPECT_EQ(*ParseQuantile("p100.0"), kMaxMicroPercent);
}

TEST(ParseQuantileTest, SaysWhatIsWrong) {
  const auto bad = [](const std::string& name, const std::string& why) {
    EXPECT_THAT(ParseQuantile(name),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(why), HasSubstr("p0 to p100"))))
        << name;
  };
  bad("p", "no number");
  bad("p101", "above p100");
  bad("p100.000001", "above p100");
  bad("p99999999999999999999", "above p100");
  bad("p-1", "decimal number");
  bad("p+1", "decimal number");
  bad("p1e1", "decimal number");
  bad("p50.", "decimal number");
  bad("p.5", "decimal number");
  bad("p5.5.5", "decimal number");
  bad("p50 ", "decimal number");
  bad("p99.9999999", "six decimals");
  bad("p050", "needless zero");
  bad("p\x1b[31m", "\\x1b");
}

}  // namespace
}  // namespace gradtap
