#include "client/cli/histogram_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "client/cli/text.h"

namespace gradtap::client {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::ParameterHistogram Histogram(
    const std::vector<std::pair<std::uint32_t, std::uint64_t>>& bins) {
  v1::ParameterHistogram histogram;
  histogram.set_parameter("w");
  for (const auto& [bin, count] : bins) {
    histogram.add_bin(bin);
    histogram.add_count(count);
  }
  histogram.set_min(std::numeric_limits<double>::quiet_NaN());
  histogram.set_max(std::numeric_limits<double>::quiet_NaN());
  return histogram;
}

TableStyle Style(std::size_t width, bool utf8 = false, bool colour = false) {
  TableStyle style;
  style.width = width;
  style.utf8 = utf8;
  style.colour = colour;
  return style;
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(HistogramViewTest, MagnitudesStandFromLargeToSmallWithTheSignsApart) {
  v1::ParameterHistogram histogram =
      Histogram({{kBinZero, 5},
                 {kBinPositive + 127, 40},  // 1 to 2.
                 {kBinPositive + 126, 10},  // 0.5 to 1.
                 {kBinNegative + 126, 20}});
  histogram.set_min(-0.75);
  histogram.set_max(1.5);
  EXPECT_EQ(DrawHistogram(histogram, Style(60)),
            " |x| FROM                NEGATIVE | POSITIVE\n"
            " 2^0    1                         | #################### 40\n"
            "2^-1  0.5           20 ########## | ##### 10\n"
            "\n"
            "zero       5 (6.7 %)\n"
            "\n"
            "QUANTILE  ABOUT  AT LEAST  AT MOST\n"
            "p0        -0.75     -0.75    -0.75\n"
            "p1        -0.75     -0.75    -0.75\n"
            "p50       1.031         1      1.5\n"
            "p99         1.5       1.5      1.5\n"
            "p100        1.5       1.5      1.5\n");
}

TEST(HistogramViewTest, NoLineIsWiderThanTheTerminal) {
  v1::ParameterHistogram histogram;
  for (std::uint32_t bin = 0; bin < kBinCount; ++bin) {
    if (!IsBin(bin)) continue;
    histogram.add_bin(bin);
    histogram.add_count(bin * 12'345'678ull + 1);
  }
  for (const std::size_t width : {60u, 80u, 100u, 133u, 250u}) {
    for (const bool utf8 : {false, true}) {
      for (const std::string& line :
           LinesOf(DrawHistogram(histogram, Style(width, utf8)))) {
        EXPECT_LE(DisplayWidth(line), width) << line;
      }
    }
  }
  // Too narrow for anything: as wide as it must be.
  EXPECT_THAT(DrawHistogram(histogram, Style(10)), HasSubstr("2^127"));
}

TEST(HistogramViewTest, AStretchOfEmptyRowsIsLeftOut) {
  const auto histogram =
      Histogram({{kBinPositive + 254, 1}, {kBinPositive + 1, 1}});
  const std::string text = DrawHistogram(histogram, Style(80));
  EXPECT_THAT(text, HasSubstr("2^127"));
  EXPECT_THAT(text, HasSubstr("\n     :\n"));
  EXPECT_THAT(text, HasSubstr("2^-126"));
  EXPECT_LT(LinesOf(text).size(), 20u);
  // Two empty rows stay: the eye counts them.
  const auto near =
      Histogram({{kBinPositive + 130, 1}, {kBinPositive + 127, 1}});
  EXPECT_THAT(DrawHistogram(near, Style(80)), HasSubstr("2^1"));
}

TEST(HistogramViewTest, WhatIsNotFiniteIsSaidAndNothingElseInvented) {
  const auto bad =
      Histogram({{kBinNan, 3}, {kBinPosInf, 1}, {kBinNegInf, 4'000}});
  const std::string text = DrawHistogram(bad, Style(80));
  EXPECT_THAT(text, HasSubstr("NaN        3 (0.075 %)"));
  EXPECT_THAT(text, HasSubstr("+Infinity  1"));
  EXPECT_THAT(text, HasSubstr("-Infinity  4,000"));
  EXPECT_THAT(text, HasSubstr("No finite element"));
  EXPECT_THAT(text, Not(HasSubstr("NEGATIVE")));
  EXPECT_THAT(DrawHistogram(Histogram({}), Style(80)),
              HasSubstr("No elements."));
  EXPECT_THAT(DrawHistogram(Histogram({{kBinNegSubnormal, 2}}), Style(80)),
              HasSubstr("subnormal"));
}

TEST(HistogramViewTest, OneElementAmongMillionsIsSeen) {
  const auto histogram =
      Histogram({{kBinPositive + 127, 1'000'000'000}, {kBinNegative + 120, 1}});
  EXPECT_THAT(DrawHistogram(histogram, Style(80)), HasSubstr("1 # |"));
  EXPECT_THAT(DrawHistogram(histogram, Style(80, true)), HasSubstr("1 ▐ │"));
}

TEST(HistogramViewTest, ColourOnlyWhereItIsWanted) {
  const auto histogram = Histogram({{kBinNan, 3}, {kBinPositive + 127, 4}});
  EXPECT_THAT(DrawHistogram(histogram, Style(80)), Not(HasSubstr("\x1b")));
  EXPECT_THAT(DrawHistogram(histogram, Style(80, true, true)),
              HasSubstr("\x1b[31mNaN"));
}

TEST(HistogramViewTest, APeersNonsenseIsPassedOver) {
  v1::ParameterHistogram histogram =
      Histogram({{9, 7}, {4'000'000'000u, 7}, {kBinPositive + 127, 1}});
  histogram.add_bin(kBinZero);  // Without a count.
  histogram.set_min(77);        // Nowhere near.
  const BinCounts bins = BinsOfAnswer(histogram);
  EXPECT_EQ(FiniteCount(bins), 1u);
  EXPECT_THAT(DrawHistogram(histogram, Style(80)), Not(HasSubstr("77")));
}

}  // namespace
}  // namespace gradtap::client
