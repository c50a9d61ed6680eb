#include "client/cli/parse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/status_matchers.h"

namespace gradtap::client {
namespace {

using gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;

TEST(ParseSliceTest, EitherSideMayBeEmptyOrNegative) {
  auto range = ParseSlice("10:20");
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->begin(), 10);
  EXPECT_EQ(range->end(), 20);
  range = ParseSlice("-100:");
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->begin(), -100);
  EXPECT_FALSE(range->has_end());
  range = ParseSlice(":0");
  ASSERT_TRUE(range.ok());
  EXPECT_FALSE(range->has_begin());
  EXPECT_TRUE(range->has_end());
  range = ParseSlice(":");
  ASSERT_TRUE(range.ok());
  EXPECT_FALSE(range->has_begin() || range->has_end());
}

TEST(ParseSliceTest, WhatIsNoSliceIsNamed) {
  for (const char* text :
       {"", "5", "a:b", "1:2:3", "1.5:2", " 1:2", "1:2 ", "+1:2",
        "0x10:", "99999999999999999999:", "--1:", "1-2", "\x1b[31m:"}) {
    EXPECT_THAT(ParseSlice(text), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("bad steps '")))
        << text;
  }
  EXPECT_THAT(ParseSlice("a:b"),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'a:b'")));
}

TEST(ParseTimeTest, Rfc3339UnixSecondsAndRelativeTimesAgree) {
  EXPECT_EQ(*ParseTime("2023-11-14T22:13:20Z", kNow), kNow);
  EXPECT_EQ(*ParseTime("2023-11-14 22:13:20.5z", kNow), kNow + kSecond / 2);
  EXPECT_EQ(*ParseTime("2023-11-14T23:13:20+01:00", kNow), kNow);
  EXPECT_EQ(*ParseTime("2023-11-14T20:43:20-01:30", kNow), kNow);
  EXPECT_EQ(*ParseTime("2023-11-14", kNow), 1'699'920'000 * kSecond);
  EXPECT_EQ(*ParseTime("1700000000", kNow), kNow);
  EXPECT_EQ(*ParseTime("1700000000.000000001", kNow), kNow + 1);
  EXPECT_EQ(*ParseTime("-10m", kNow), kNow - 600 * kSecond);
  EXPECT_EQ(*ParseTime("-1h30m", kNow), kNow - 5400 * kSecond);
  EXPECT_EQ(*ParseTime("-0.5s", kNow), kNow - kSecond / 2);
  EXPECT_EQ(*ParseTime("-2w", kNow), kNow - 1'209'600 * kSecond);
}

TEST(ParseTimeTest, TheEpochIsNotTakenForAnOpenEnd) {
  EXPECT_EQ(*ParseTime("0", kNow), 1);
  EXPECT_EQ(*ParseTime("-5000w", kNow), 1);
}

TEST(ParseTimeTest, WhatIsNoTimeIsNamed) {
  for (const char* text :
       {"", "yesterday", "2023-13-01", "2023-02-29", "2023-11-14T25:00:00Z",
        "2023-11-14T22:13:20", "-10", "-m", "-10x", "10m", "-99999999w", "1e9",
        "2023-11-14T22:13:20Zjunk", "-1h-1m", "nan", "9999999999999"}) {
    EXPECT_THAT(
        ParseTime(text, kNow),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("bad time '")))
        << text;
  }
  EXPECT_TRUE(ParseTime("2024-02-29", kNow).ok());
}

TEST(ParseRanksTest, NumbersRangesAndMerged) {
  auto ranks = ParseRanks({"0,2-4", "merged"});
  ASSERT_TRUE(ranks.ok());
  EXPECT_THAT(ranks->ranks, ElementsAre(0, 2, 3, 4));
  EXPECT_TRUE(ranks->merged);
  ranks = ParseRanks({});
  ASSERT_TRUE(ranks.ok());
  EXPECT_THAT(ranks->ranks, IsEmpty());
  EXPECT_FALSE(ranks->merged);
}

TEST(ParseRanksTest, WhatIsNoRankIsNamed) {
  for (const char* text :
       {"x", "-1", "3-1", "0-4000000000", "4294967295", "1-", "1.5"}) {
    EXPECT_THAT(ParseRanks({text}), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("bad rank '")))
        << text;
  }
}

TEST(ParseWordsTest, StatesKindsTagsAndAttempts) {
  EXPECT_EQ(*ParseState("FINISHED"), v1::RUN_STATE_FINISHED);
  EXPECT_THAT(ParseState("done"), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("bad state 'done'")));
  EXPECT_EQ(*ParseKind("buffer"), v1::KIND_BUFFER);
  EXPECT_FALSE(ParseKind("weights").ok());
  EXPECT_EQ(ParseTag("k=v=w")->value(), "v=w");
  EXPECT_EQ(ParseTag("k=")->value(), "");
  EXPECT_FALSE(ParseTag("=v").ok());
  EXPECT_FALSE(ParseTag("k").ok());
  EXPECT_FALSE(ParseTag("k=\xff").ok());
  EXPECT_EQ(*ParseAttempt("3"), 3u);
  EXPECT_FALSE(ParseAttempt("0").ok());
  EXPECT_FALSE(ParseAttempt("-1").ok());
}

TEST(ParseWordsTest, RunNamesAreKeysNotPaths) {
  EXPECT_TRUE(CheckRunName("fashion-mnist_2.1").ok());
  for (const char* name : {"", ".", "..", "a/b", "../x", "a b", "é", "a\nb"}) {
    EXPECT_THAT(CheckRunName(name), StatusIs(absl::StatusCode::kInvalidArgument,
                                             HasSubstr("bad run '")))
        << name;
  }
}

TEST(ParseWordsTest, ListsSplitAtCommas) {
  EXPECT_THAT(SplitList({"a,b", ",c,", ""}), ElementsAre("a", "b", "c"));
}

}  // namespace
}  // namespace gradtap::client
