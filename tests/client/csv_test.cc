#include "core/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <random>

#include "core/json_text.h"
#include "gradtap/v1/query.pb.h"
#include "proto/text/json_mapping.h"

namespace gradtap::client {
namespace {

using ::testing::HasSubstr;

TEST(CsvTest, CellsWithCommasQuotesAndLineEndsAreQuoted) {
  CsvRow row(CsvOptions{});
  EXPECT_EQ(row.Text("a").Text("b,c").Text("d\"e").Text("f\ng").Text("").Take(),
            "a,\"b,c\",\"d\"\"e\",\"f\ng\",\n");
}

TEST(CsvTest, AbsentIsEmptyAndNaNIsNot) {
  CsvRow row(CsvOptions{});
  EXPECT_EQ(row.Value(std::nullopt)
                .Value(std::numeric_limits<double>::quiet_NaN())
                .Value(std::numeric_limits<double>::infinity())
                .Value(-std::numeric_limits<double>::infinity())
                .Value(-0.0)
                .Take(),
            ",NaN,Infinity,-Infinity,-0\n");
}

TEST(CsvTest, SpreadsheetModeGuardsFormulasInTextAlone) {
  CsvOptions options;
  options.spreadsheet = true;
  CsvRow row(options);
  EXPECT_EQ(row.Text("=1+1").Text("+a").Text("-b").Text("@c").Number(-1).Take(),
            "'=1+1,'+a,'-b,'@c,-1\n");
  EXPECT_EQ(row.Text("\tx").Text("\rx").Text("x=1").Take(),
            "'\tx,\"'\rx\",x=1\n");
  CsvRow plain(CsvOptions{});
  EXPECT_EQ(plain.Text("=1+1").Take(), "=1+1\n");
}

TEST(CsvTest, ATerminalGetsEscapedText) {
  CsvOptions options;
  options.escape = true;
  CsvRow row(options);
  EXPECT_EQ(row.Text("\x1b[31m").Take(), "\\x1b[31m\n");
}

TEST(CsvTest, TimesKeepTheirNanoseconds) {
  EXPECT_EQ(ExactTime(1'700'000'000'000'000'001),
            "2023-11-14T22:13:20.000000001Z");
  EXPECT_EQ(ExactTime(-1), "1969-12-31T23:59:59.999999999Z");
  EXPECT_EQ(ExactTime(0), "");
}

TEST(CsvTest, DoublesOfAnyBitsReadBackTheSame) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 20'000; ++i) {
    const double value = std::bit_cast<double>(random());
    const double back = std::strtod(ExactNumber(value).c_str(), nullptr);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(back));
    } else {
      EXPECT_EQ(std::bit_cast<std::uint64_t>(back),
                std::bit_cast<std::uint64_t>(value));
    }
  }
}

TEST(JsonTest, StringsEscapeWhatATerminalWouldObey) {
  EXPECT_EQ(JsonString("a\"\\\n\x1b\x7f"),
            "\"a\\\"\\\\\\u000a\\u001b\\u007f\"");
  EXPECT_EQ(JsonString("\xc2\x9b"), "\"\\u009b\"");
  EXPECT_EQ(JsonString("权重é"), "\"权重é\"");
  EXPECT_EQ(JsonString(std::string_view("a\0b", 3)), "\"a\\u0000b\"");
}

TEST(JsonTest, NumbersThatJsonLacksAreStrings) {
  EXPECT_EQ(JsonNumber(std::numeric_limits<double>::quiet_NaN()), "\"NaN\"");
  EXPECT_EQ(JsonNumber(-std::numeric_limits<double>::infinity()),
            "\"-Infinity\"");
  EXPECT_EQ(JsonNumber(-0.0), "-0.0");
  EXPECT_EQ(JsonNumber(0.1), "0.1");
}

TEST(JsonTest, NegativeZeroKeepsItsSignOutsideStringsOnly) {
  v1::Series series;
  series.set_parameter("-0, \"-0\"");
  series.add_value(-0.0);
  series.add_value(-0.5);
  series.add_step(0);
  const auto json = ToJson(series, JsonLayout::kOneLine);
  ASSERT_TRUE(json.ok());
  EXPECT_THAT(*json, HasSubstr("[-0.0,-0.5]"));
  EXPECT_THAT(*json, HasSubstr(R"("-0, \"-0\"")"));
}

TEST(JsonTest, FieldsWithTheirDefaultAreThere) {
  const auto json = ToJson(v1::RunInfo(), JsonLayout::kPretty);
  ASSERT_TRUE(json.ok());
  EXPECT_THAT(*json, HasSubstr("\"lostSteps\": \"0\""));
  EXPECT_THAT(*json, HasSubstr("\"state\": \"RUN_STATE_UNSPECIFIED\""));
  EXPECT_EQ(json->back(), '\n');
}

}  // namespace
}  // namespace gradtap::client
