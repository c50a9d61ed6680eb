#include "client/cli/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace gradtap::client {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(TextTest, WideCharactersTakeTwoColumnsAndMarksNone) {
  EXPECT_EQ(DisplayWidth("abc"), 3u);
  EXPECT_EQ(DisplayWidth("é"), 1u);
  EXPECT_EQ(DisplayWidth("e\u0301"), 1u);
  EXPECT_EQ(DisplayWidth("权重"), 4u);
  EXPECT_EQ(DisplayWidth("🔥x"), 3u);
  EXPECT_EQ(DisplayWidth(""), 0u);
}

TEST(TextTest, BrokenUtf8EndsAndCountsItsBytes) {
  EXPECT_EQ(DisplayWidth("\xff\xfe"), 2u);
  EXPECT_EQ(DisplayWidth("a\xe2\x82"), 2u);
}

TEST(TextTest, ShorteningKeepsBothEndsAndFits) {
  EXPECT_EQ(ShortenMiddle("encoder.layers.0.weight", 11, true), "encod…eight");
  EXPECT_EQ(ShortenMiddle("encoder.layers.0.weight", 11, false), "enco...ight");
  EXPECT_EQ(ShortenMiddle("short", 11, true), "short");
  for (std::size_t width = 0; width < 30; ++width) {
    for (const bool utf8 : {true, false}) {
      EXPECT_LE(
          DisplayWidth(ShortenMiddle("权重.权重.权重.权重.🔥🔥", width, utf8)),
          width);
    }
  }
}

TEST(TextTest, ClippingNeverSplitsACharacter) {
  EXPECT_EQ(ClipToWidth("权重", 3), "权");
  EXPECT_EQ(ClipToWidth("权重", 1), "");
  EXPECT_EQ(ClipToWidth("abc", 10), "abc");
}

TEST(TextTest, NumbersForPeopleHaveFourDigits) {
  EXPECT_EQ(HumanNumber(0.123456), "0.1235");
  EXPECT_EQ(HumanNumber(-0.0), "-0");
  EXPECT_EQ(HumanNumber(1e-40), "1e-40");
  EXPECT_EQ(HumanNumber(kNan), "NaN");
  EXPECT_EQ(HumanNumber(-kNan), "NaN");
  EXPECT_EQ(HumanNumber(kInf), "Infinity");
  EXPECT_EQ(HumanNumber(-kInf), "-Infinity");
}

TEST(TextTest, LatenciesHaveThreeDigitsAndAFittingUnit) {
  EXPECT_EQ(HumanLatency(0), "0 us");
  EXPECT_EQ(HumanLatency(850'400), "850 us");
  EXPECT_EQ(HumanLatency(999'700), "1 ms");
  EXPECT_EQ(HumanLatency(1'234'000), "1.23 ms");
  EXPECT_EQ(HumanLatency(999'700'000), "1 s");
  EXPECT_EQ(HumanLatency(90'000'000'000), "90 s");
  EXPECT_EQ(HumanLatency(200'000'000'000), "3 min 20 s");
}

TEST(TextTest, CountsAreWholeWithSeparators) {
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(999), "999");
  EXPECT_EQ(HumanCount(1000), "1,000");
  EXPECT_EQ(HumanCount(std::numeric_limits<std::uint64_t>::max()),
            "18,446,744,073,709,551,615");
  EXPECT_EQ(HumanCountValue(12345), "12,345");
  EXPECT_EQ(HumanCountValue(0.5), "0.5");
  EXPECT_EQ(HumanCountValue(kNan), "NaN");
  EXPECT_EQ(HumanCountValue(1e300), "1e+300");
  EXPECT_EQ(HumanCountValue(-kInf), "-Infinity");
}

TEST(TextTest, SizesChooseTheirUnit) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(512), "512 B");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes(1023), "0.999 KiB");
  EXPECT_EQ(HumanBytes(1 << 20), "1 MiB");
  EXPECT_EQ(HumanBytes(std::numeric_limits<std::uint64_t>::max()), "16 EiB");
}

TEST(TextTest, TimesAreUtcAndSurviveExtremes) {
  EXPECT_EQ(HumanTime(1'700'000'000'123'456'789), "2023-11-14 22:13:20.123Z");
  EXPECT_EQ(HumanTime(0), "-");
  EXPECT_EQ(HumanTime(-1), "1969-12-31 23:59:59.999Z");
  EXPECT_FALSE(HumanTime(std::numeric_limits<std::int64_t>::min()).empty());
  EXPECT_FALSE(HumanTime(std::numeric_limits<std::int64_t>::max()).empty());
}

TEST(TextTest, AgesAreRelativeAndNeverNegative) {
  constexpr std::int64_t kS = 1'000'000'000;
  EXPECT_EQ(HumanAge(0, 5), "-");
  EXPECT_EQ(HumanAge(100 * kS, 100 * kS), "now");
  EXPECT_EQ(HumanAge(100 * kS, 90 * kS), "now");
  EXPECT_EQ(HumanAge(100 * kS, 159 * kS), "59 s ago");
  EXPECT_EQ(HumanAge(100 * kS, 400 * kS), "5 min ago");
  EXPECT_EQ(HumanAge(100 * kS, 90'000 * kS), "1 d ago");
  EXPECT_FALSE(HumanAge(std::numeric_limits<std::int64_t>::min(),
                        std::numeric_limits<std::int64_t>::max())
                   .empty());
  EXPECT_EQ(HumanDuration(3'661 * kS), "1 h 1 min");
  EXPECT_EQ(HumanDuration(-5), "0 s");
}

TEST(TextTest, OnlyRecordFieldsThatCountAreCounts) {
  EXPECT_TRUE(IsCountStatistic("grad.nan"));
  EXPECT_TRUE(IsCountStatistic("weight.nonfinite"));
  EXPECT_FALSE(IsCountStatistic("grad.l2"));
  EXPECT_FALSE(IsCountStatistic("scalar.nan"));
  EXPECT_FALSE(IsCountStatistic("nan"));
}

TEST(TextTest, ShapesReadLikeLists) {
  EXPECT_EQ(ShapeText({}), "[]");
  EXPECT_EQ(ShapeText({64, 3, 7}), "[64, 3, 7]");
}

}  // namespace
}  // namespace gradtap::client
