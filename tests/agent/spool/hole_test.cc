#include "agent/spool/hole.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/spool/spool_fixtures.h"
#include "core/codec.h"
#include "core/limits.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::StepMeta;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

EntryMeta PartOfStep(std::int64_t step, std::uint32_t index) {
  EntryMeta meta = StepMeta(step);
  meta.part_index = index;
  meta.part_count = 3;
  return meta;
}

EntryMeta GapMeta(std::int64_t first_step, std::int64_t last_step) {
  EntryMeta meta;
  meta.kind = EntryKind::kGap;
  meta.step = first_step;
  meta.last_step = last_step;
  return meta;
}

EntryMeta RollbackMeta(std::uint32_t branch, std::int64_t step) {
  EntryMeta meta;
  meta.kind = EntryKind::kRollback;
  meta.branch = branch;
  meta.step = step;
  return meta;
}

// What stands in a hole, from its first record on, those of no kind left out:
// "gap BRANCH: FIRST-LAST" and "to BRANCH at STEP".
std::vector<std::string> Contents(const Hole& hole, std::uint64_t records) {
  std::vector<std::string> contents;
  for (std::uint64_t behind = records; behind-- > 0;) {
    const HoleRecord record = RecordOfHole(hole, behind);
    const EntryMeta& meta = record.meta;
    if (record.bytes.empty()) {
      EXPECT_EQ(meta.kind, EntryKind::kEnd);
      continue;
    }
    const auto view = ParseRecord(record.bytes);
    EXPECT_TRUE(view.ok());
    const std::string branch = std::to_string(meta.branch);
    if (view->kind == RecordKind::kRollback) {
      const auto rollback = DecodeRollback(view->body);
      EXPECT_TRUE(rollback.ok());
      EXPECT_EQ(meta.kind, EntryKind::kRollback);
      EXPECT_EQ(meta.branch, rollback->branch);
      EXPECT_EQ(meta.step, rollback->step);
      contents.push_back("to " + branch + " at " +
                         std::to_string(rollback->step));
      continue;
    }
    EXPECT_EQ(view->kind, RecordKind::kGap);
    const auto gap = DecodeGap(view->body);
    EXPECT_TRUE(gap.ok());
    EXPECT_EQ(meta.kind, EntryKind::kGap);
    EXPECT_EQ(gap->cause, GapCause::kIoError);
    EXPECT_EQ(gap->detail, "why");
    EXPECT_EQ(static_cast<std::int64_t>(gap->steps),
              gap->last_step - gap->first_step + 1);
    EXPECT_EQ(meta.step, gap->first_step);
    EXPECT_EQ(meta.last_step, gap->last_step);
    contents.push_back("gap " + branch + ": " +
                       std::to_string(gap->first_step) + "-" +
                       std::to_string(gap->last_step));
  }
  return contents;
}

std::vector<std::string> Between(std::optional<LoopPlace> before,
                                 LoopPlace next, std::uint64_t records,
                                 bool from_start = false) {
  Hole hole;
  hole.records = records;
  hole.from_start = from_start;
  hole.before = before;
  hole.next = next;
  hole.detail = "why";
  return Contents(hole, records);
}

TEST(HoleTest, OnOneBranchAllStepsBetweenAreAGap) {
  EXPECT_THAT(Between(LoopPlace{2, 9}, {2, 20}, 10),
              ElementsAre("gap 2: 10-19"));
  // Every 5th was captured; the others are known by nobody either.
  EXPECT_THAT(Between(LoopPlace{0, 9}, {0, 20}, 2),
              ElementsAre("gap 0: 10-19"));
  EXPECT_THAT(Between(LoopPlace{0, 19}, {0, 20}, 5), IsEmpty());
  EXPECT_THAT(Between(LoopPlace{0, 40}, {0, 20}, 5), IsEmpty());
  EXPECT_THAT(Between(LoopPlace{3, 9}, {2, 20}, 5), IsEmpty());
}

TEST(HoleTest, WithNothingKnownBeforeItAsManyAsThereAreRecordsAreAGap) {
  EXPECT_THAT(Between({}, {0, 20}, 5), ElementsAre("gap 0: 15-19"));
  EXPECT_THAT(Between({}, {0, 3}, 5), ElementsAre("gap 0: 0-2"));
  EXPECT_THAT(Between({}, {0, 0}, 5), IsEmpty());
  EXPECT_THAT(Between({}, {0, 20, 3}, 5), ElementsAre("gap 0: 18-19"));
}

TEST(HoleTest, ARollbackInItStandsBetweenTheStepsOfBothBranches) {
  EXPECT_THAT(Between(LoopPlace{0, 9}, {1, 4}, 11),
              ElementsAre("gap 0: 10-15", "to 1 at 0", "gap 1: 0-3"));
  EXPECT_THAT(Between(LoopPlace{0, 9}, {1, 40}, 11),
              ElementsAre("to 1 at 30", "gap 1: 30-39"));
  EXPECT_THAT(Between(LoopPlace{0, 9}, {1, 0}, 11),
              ElementsAre("gap 0: 10-19", "to 1 at 0"));
  EXPECT_THAT(Between(LoopPlace{0, 9}, {1, 4}, 1), ElementsAre("to 1 at 4"));
  EXPECT_THAT(
      Between(LoopPlace{1, 9}, {3, 2}, 6),
      ElementsAre("gap 1: 10-11", "to 2 at 0", "to 3 at 0", "gap 3: 0-1"));
}

TEST(HoleTest, RollbacksThatTheCollectorMayLackStandInIt) {
  EXPECT_THAT(Between({}, {2, 30}, 20),
              ElementsAre("to 1 at 10", "to 2 at 10", "gap 2: 10-29"));
  // From the stream's first record on there is none elsewhere.
  EXPECT_THAT(Between({}, {2, 30}, 20, /*from_start=*/true),
              ElementsAre("to 1 at 12", "to 2 at 12", "gap 2: 12-29"));
}

TEST(HoleTest, AmongManyRollbacksOfWhichTheCollectorMayHaveAllThereIsAGap) {
  EXPECT_THAT(Between({}, {9, 30}, 2),
              ElementsAre("to 9 at 28", "gap 9: 28-29"));
  EXPECT_THAT(Between({}, {3, 30}, 3),
              ElementsAre("to 2 at 27", "to 3 at 27", "gap 3: 27-29"));
  // One record was either.
  EXPECT_THAT(Between({}, {1, 30}, 1), ElementsAre("to 1 at 30"));
  EXPECT_THAT(Between({}, {1, 30}, 0), IsEmpty());
  // What was before them, or that nothing was, tells that it has none.
  EXPECT_THAT(Between({}, {2, 30}, 2, /*from_start=*/true),
              ElementsAre("to 1 at 30", "to 2 at 30"));
  EXPECT_THAT(Between(LoopPlace{0, 9}, {2, 30}, 2),
              ElementsAre("to 1 at 30", "to 2 at 30"));
}

TEST(HoleTest, WhatIsBehindItSaysItselfThatTheLoopWentBack) {
  const auto next = FirstPlace(RollbackMeta(1, 4));
  ASSERT_TRUE(next.has_value());
  EXPECT_THAT(Between(LoopPlace{0, 9}, *next, 3), ElementsAre("gap 0: 10-12"));
  EXPECT_THAT(Between({}, *next, 3), ElementsAre("gap 0: 1-3"));
  const auto before = LastPlace(RollbackMeta(1, 4));
  ASSERT_TRUE(before.has_value());
  EXPECT_THAT(Between(*before, {1, 7}, 3), ElementsAre("gap 1: 4-6"));
  EXPECT_THAT(Between(LastPlace(RollbackMeta(1, 0)), {1, 2}, 2),
              ElementsAre("gap 1: 0-1"));
}

TEST(HoleTest, AStepThatIsCutOffAtItIsInTheGap) {
  const auto head = LastPlace(PartOfStep(5, 1));
  const auto tail = FirstPlace(PartOfStep(12, 2));
  ASSERT_TRUE(head.has_value() && tail.has_value());
  EXPECT_THAT(Between(head, *tail, 20), ElementsAre("gap 0: 5-12"));
  // Two whole ones and two thirds of the last.
  EXPECT_THAT(Between({}, *tail, 8), ElementsAre("gap 0: 10-12"));
  EXPECT_THAT(
      Between(LastPlace(PartOfStep(5, 2)), *FirstPlace(PartOfStep(7, 0)), 3),
      ElementsAre("gap 0: 6-6"));
}

TEST(HoleTest, AGapOnlyTellsWhereTheLoopStood) {
  EXPECT_THAT(
      Between(LastPlace(GapMeta(3, 8)), *FirstPlace(GapMeta(11, 20)), 9),
      ElementsAre("gap 0: 9-10"));
}

TEST(HoleTest, NumbersThatNoStepHasTellNothing) {
  for (const std::int64_t step : {std::int64_t{-1}, kMaxStep + 1, INT64_MIN}) {
    EXPECT_FALSE(FirstPlace(StepMeta(step)).has_value());
    EXPECT_FALSE(LastPlace(StepMeta(step)).has_value());
    EXPECT_FALSE(LastPlace(GapMeta(0, step)).has_value());
    EXPECT_FALSE(FirstPlace(RollbackMeta(1, step)).has_value());
  }
  EXPECT_FALSE(FirstPlace(RollbackMeta(0, 4)).has_value());
  EntryMeta schema;
  schema.kind = EntryKind::kSchema;
  EXPECT_FALSE(FirstPlace(schema).has_value());
  // As large as they come.
  Hole hole;
  hole.records = UINT64_MAX;
  hole.before = LoopPlace{0, kMaxStep - 1};
  hole.next = {UINT32_MAX, kMaxStep};
  hole.detail = "why";
  EXPECT_EQ(RecordOfHole(hole, 0).meta.step, 0);
  EXPECT_EQ(RecordOfHole(hole, 1).meta.branch, UINT32_MAX);
  EXPECT_EQ(RecordOfHole(hole, UINT32_MAX).meta.branch, 1u);
  EXPECT_EQ(RecordOfHole(hole, std::uint64_t{UINT32_MAX} + 1).meta.last_step,
            kMaxStep);
}

}  // namespace
}  // namespace gradtap::agent
