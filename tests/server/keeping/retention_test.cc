#include "server/keeping/retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

using std::chrono::hours;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::int64_t kHour = 3'600'000'000'000;
constexpr std::int64_t kNow = 1'700'000'000'000'000'000;
constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
constexpr DiskSpace kRoomy{1'000 * kGiB, 500 * kGiB};

RunFacts FactsAt(const std::string& name, int hours_ago, std::uint64_t gib,
                 bool finished = true, bool pinned = false) {
  auto entry = std::make_shared<RunEntry>();
  entry->run = name;
  entry->pinned = pinned;
  return {std::move(entry), finished, kNow - hours_ago * kHour, gib * kGiB};
}

// "NAME age", in the order of the plan.
std::vector<std::string> Plan(std::vector<RunFacts> runs,
                              const KeepingLimits& limits,
                              const DiskSpace& disk = kRoomy) {
  std::vector<std::string> plan;
  for (const PlannedRemoval& removal :
       PlanRemovals(std::move(runs), limits, disk, kNow)) {
    constexpr const char* kWords[] = {" age", " size", " reserve"};
    plan.push_back(removal.run.entry->run +
                   kWords[static_cast<int>(removal.why)]);
  }
  return plan;
}

TEST(RetentionTest, WithoutLimitsEverythingStays) {
  EXPECT_THAT(Plan({FactsAt("old", 100'000, 400), FactsAt("new", 1, 400)}, {}),
              IsEmpty());
}

TEST(RetentionTest, FinishedRunsGoWithTheirAge) {
  KeepingLimits limits;
  limits.keep_for = hours(48);
  EXPECT_THAT(Plan({FactsAt("new", 47, 1), FactsAt("edge", 48, 1),
                    FactsAt("old", 49, 1), FactsAt("oldest", 500, 1),
                    FactsAt("running", 500, 1, false),
                    FactsAt("pinned", 500, 1, true, true)},
                   limits),
              ElementsAre("oldest age", "old age"));
}

TEST(RetentionTest, OverTheSizeTheOldestGoUntilItIsKept) {
  KeepingLimits limits;
  limits.keep_bytes = 10 * kGiB;
  EXPECT_THAT(Plan({FactsAt("c", 1, 4), FactsAt("a", 3, 4), FactsAt("b", 2, 4)},
                   limits),
              ElementsAre("a size"));
  EXPECT_THAT(Plan({FactsAt("a", 3, 5), FactsAt("b", 2, 5)}, limits),
              IsEmpty());
}

TEST(RetentionTest, PinnedAndRunningOnesCountButStay) {
  KeepingLimits limits;
  limits.keep_bytes = 10 * kGiB;
  EXPECT_THAT(Plan({FactsAt("pinned", 9, 6, true, true),
                    FactsAt("running", 8, 6, false), FactsAt("a", 3, 1),
                    FactsAt("b", 2, 1)},
                   limits),
              ElementsAre("a size", "b size"));
}

TEST(RetentionTest, WhatAgeHasTakenNeedNotGoForItsSize) {
  KeepingLimits limits;
  limits.keep_for = hours(48);
  limits.keep_bytes = 10 * kGiB;
  EXPECT_THAT(
      Plan({FactsAt("old", 50, 8), FactsAt("a", 3, 5), FactsAt("b", 2, 4)},
           limits),
      ElementsAre("old age"));
}

TEST(RetentionTest, BelowTheReserveTheOldestGoUntilAnEighthMoreIsFree) {
  KeepingLimits limits;
  limits.disk_reserve_bytes = 8 * kGiB;
  const std::vector<RunFacts> runs = {FactsAt("a", 4, 1), FactsAt("b", 3, 1),
                                      FactsAt("pinned", 9, 1, true, true),
                                      FactsAt("running", 9, 1, false),
                                      FactsAt("c", 2, 1)};
  EXPECT_THAT(Plan(runs, limits, {100 * kGiB, 8 * kGiB}), IsEmpty());
  // A GiB to the reserve, and one beyond.
  EXPECT_THAT(Plan(runs, limits, {100 * kGiB, 7 * kGiB}),
              ElementsAre("a reserve", "b reserve"));
  EXPECT_THAT(Plan(runs, limits, {100 * kGiB, 0}),
              ElementsAre("a reserve", "b reserve", "c reserve"));
  limits.disk_reserve_bytes = 0;
  EXPECT_THAT(Plan(runs, limits, {100 * kGiB, 0}), IsEmpty());
}

TEST(RetentionTest, TheDefaultReserveIsATwentiethAtMostTwoGibibytes) {
  EXPECT_EQ(DefaultReserve(20 * kGiB), kGiB);
  EXPECT_EQ(DefaultReserve(1'000 * kGiB), 2 * kGiB);
  EXPECT_THAT(Plan({FactsAt("a", 4, 1)}, {}, {1'000 * kGiB, kGiB}),
              ElementsAre("a reserve"));
}

RunEntry EntryOf(std::int64_t last_seen, std::optional<EndReason> end) {
  RunEntry entry;
  entry.run = "run";
  StreamEntry stream;
  stream.id = 7;
  stream.hello.launch = "one";
  stream.last_seen_unix_ns = last_seen;
  if (end.has_value()) stream.end = EndData{*end, last_seen, 0, 0, 0, 0};
  entry.streams.push_back(stream);
  return entry;
}

RunFacts Facts(const RunEntry& entry,
               std::optional<std::int64_t> live = std::nullopt,
               std::int64_t hearing_since = 0) {
  return FactsOf(std::make_shared<RunEntry>(entry), kNow, hearing_since,
                 [live](StreamId) { return live; });
}

TEST(RetentionTest, ARunHasFinishedWhenItSaidSo) {
  for (const EndReason reason : {EndReason::kFinished, EndReason::kStopped}) {
    const RunFacts facts = Facts(EntryOf(kNow - 5, reason));
    EXPECT_TRUE(facts.finished);
    EXPECT_EQ(facts.last_seen_unix_ns, kNow - 5);
  }
}

TEST(RetentionTest, ASilentRunMayComeBackForADay) {
  EXPECT_FALSE(Facts(EntryOf(kNow - 1, std::nullopt)).finished);
  EXPECT_FALSE(Facts(EntryOf(kNow - 23 * kHour, std::nullopt)).finished);
  EXPECT_TRUE(Facts(EntryOf(kNow - 24 * kHour, std::nullopt)).finished);
}

// The collector was away, or sent agents away.
TEST(RetentionTest, ADayInWhichNobodyCouldBeHeardDoesNotCount) {
  const RunEntry entry = EntryOf(kNow - 100 * kHour, std::nullopt);
  EXPECT_FALSE(Facts(entry, std::nullopt, kNow - 23 * kHour).finished);
  EXPECT_TRUE(Facts(entry, std::nullopt, kNow - 24 * kHour).finished);
}

TEST(RetentionTest, WithALiveSessionNothingHasFinished) {
  const RunFacts facts =
      Facts(EntryOf(kNow - 50 * kHour, EndReason::kFinished), kNow - 3);
  EXPECT_FALSE(facts.finished);
  EXPECT_EQ(facts.last_seen_unix_ns, kNow - 3);
}

TEST(RetentionTest, ANewAttemptKeepsARunThatHadFinished) {
  RunEntry entry = EntryOf(kNow - 50 * kHour, EndReason::kFinished);
  StreamEntry again = entry.streams[0];
  again.id = 8;
  again.hello.launch = "two";
  again.hello.start_time_unix_ns = 5;
  again.end.reset();
  again.last_seen_unix_ns = kNow - kHour;
  entry.streams.push_back(again);
  EXPECT_FALSE(Facts(entry).finished);
}

}  // namespace
}  // namespace gradtap::server
