#include "server/keeping/option_values.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "tests/support/status_matchers.h"

namespace gradtap::server {
namespace {

using gradtap::testing::StatusIs;
using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(OptionValuesTest, DurationsAreWholeNumbersOfAUnit) {
  EXPECT_EQ(ParseDuration("0").value(), nanoseconds(0));
  EXPECT_EQ(ParseDuration("45s").value(), seconds(45));
  EXPECT_EQ(ParseDuration("10min").value(), minutes(10));
  EXPECT_EQ(ParseDuration("12h").value(), hours(12));
  EXPECT_EQ(ParseDuration("30 d").value(), hours(30 * 24));
  EXPECT_EQ(ParseDuration("2w").value(), hours(14 * 24));
}

TEST(OptionValuesTest, WhatIsNoDurationIsNamedWithWhatIsOne) {
  for (const char* text : {"", "30", "d", "-3d", "1.5d", "30days", "3m", "1y",
                           "99999999999999999999d"}) {
    EXPECT_THAT(ParseDuration(text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("'" + std::string(text) + "'"),
                               HasSubstr("30d"))));
  }
  EXPECT_THAT(
      ParseDuration("999999999w").status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'999999999w'")));
}

TEST(OptionValuesTest, SizesAreNumbersOfAUnit) {
  EXPECT_EQ(ParseBytes("0").value(), 0U);
  EXPECT_EQ(ParseBytes("512B").value(), 512U);
  EXPECT_EQ(ParseBytes("2kB").value(), 2'000U);
  EXPECT_EQ(ParseBytes("1.5 GiB").value(), 3U << 29);
  EXPECT_EQ(ParseBytes("200GiB").value(), std::uint64_t{200} << 30);
  EXPECT_EQ(ParseBytes("3TB").value(), 3'000'000'000'000U);
}

TEST(OptionValuesTest, WhatIsNoSizeIsNamedWithWhatIsOne) {
  for (const char* text :
       {"", "200", "GiB", "-1GiB", "200Gib", "1..5GB", "5 parsecs"}) {
    EXPECT_THAT(ParseBytes(text).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("'" + std::string(text) + "'"),
                               HasSubstr("200GiB"))));
  }
  EXPECT_THAT(ParseBytes("99999999999TiB").status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("99999999999TiB")));
}

TEST(OptionValuesTest, WordsForPeople) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1'023), "1023 B");
  EXPECT_EQ(FormatBytes(3U << 29), "1.5 GiB");
  EXPECT_EQ(FormatDuration(seconds(90)), "90 s");
  EXPECT_EQ(FormatDuration(hours(47)), "47 h");
  EXPECT_EQ(FormatDuration(hours(30 * 24)), "30 d");
}

}  // namespace
}  // namespace gradtap::server
