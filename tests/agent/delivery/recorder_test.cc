#include "agent/delivery/recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/recorder_fixture.h"
#include "core/names.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EntriesOf;
using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeSkippedStep;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::StreamContents;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

// With their branches.
std::vector<std::pair<std::uint32_t, GapData>> GapsOf(const StreamContents& c,
                                                      GapCause cause) {
  std::vector<std::pair<std::uint32_t, GapData>> gaps;
  for (const auto& gap : c.gaps) {
    if (gap.second.cause == cause) gaps.push_back(gap);
  }
  return gaps;
}

TEST_F(RecorderTest, TheSchemaStandsBeforeItsFirstStep) {
  recorder_.PutSchema(MakeSchema(1, 3));
  EXPECT_THAT(EntriesOf(*ring_), IsEmpty());
  Step(MakeStep(0, 1, 3));
  const auto entries = EntriesOf(*ring_);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].meta.kind, EntryKind::kSchema);
  EXPECT_EQ(entries[1].meta.kind, EntryKind::kStep);
  EXPECT_EQ(entries[1].meta.recorded_steps, 1u);
  EXPECT_EQ(books_.schema_fingerprint(), MakeSchema(1, 3).fingerprint);
  Deliver();
  EXPECT_THAT(contents().recorded, ElementsAre(Pair(0u, 0)));
}

TEST_F(RecorderTest, AStepInTheRingIsWhatTheCodecWrites) {
  const StepData step = MakeStep(5, 1, 40);
  Step(step);
  std::string expected(EncodedStepSize(step), '\0');
  EncodeStep(step, expected);
  ASSERT_EQ(EntriesOf(*ring_).size(), 1u);
  EXPECT_EQ(EntriesOf(*ring_)[0].bytes, expected);
  EXPECT_EQ(books_.Snapshot().bytes_recorded, expected.size());
}

TEST_F(RecorderTest, NeighbouringGapsOfOneCauseJoin) {
  recorder_.PutSchema(MakeSchema(1, 1));
  Step(MakeStep(0, 1, 1));
  for (int i = 1; i <= 4; ++i) Gap(GapCause::kLoop, i, "inf");
  Gap(GapCause::kLoop, 5, "other");
  Gap(GapCause::kOptimizerThrew, 6, "other");
  Gap(GapCause::kOptimizerThrew, 9, "other");  // Not a neighbour.
  Step(MakeStep(10, 1, 1));
  Deliver();
  const auto gaps = contents().gaps;
  ASSERT_EQ(gaps.size(), 4u);
  EXPECT_EQ(gaps[0].second.first_step, 1);
  EXPECT_EQ(gaps[0].second.last_step, 4);
  EXPECT_EQ(gaps[0].second.steps, 4u);
  EXPECT_EQ(gaps[0].second.detail, "inf");
  EXPECT_EQ(gaps[1].second.detail, "other");
  EXPECT_EQ(gaps[2].second.steps, 1u);
  EXPECT_EQ(gaps[3].second.first_step, 9);
  EXPECT_EQ(books_.Snapshot().by_cause.at(GapCause::kLoop), 5u);
}

TEST_F(RecorderTest, AGapIsToldAfterASecondThoughNoStepFollows) {
  Gap(GapCause::kLoop, 0);
  Gap(GapCause::kLoop, 1);
  EXPECT_THAT(EntriesOf(*ring_), IsEmpty());
  clock_.Advance(std::chrono::seconds(2));
  Gap(GapCause::kLoop, 2);
  ASSERT_EQ(EntriesOf(*ring_).size(), 1u);
  EXPECT_EQ(EntriesOf(*ring_)[0].meta.steps, 3u);
}

TEST_F(RecorderTest, ASkippedStepWithScalarsCountsAsSkipped) {
  Step(MakeSkippedStep(0, GapCause::kInterval));
  Step(MakeSkippedStep(1, GapCause::kBudget));
  const DeliveryCounters c = books_.Snapshot();
  EXPECT_EQ(c.steps_skipped, 2u);
  EXPECT_EQ(c.steps_recorded, 0u);
  EXPECT_EQ(c.by_cause.at(GapCause::kBudget), 1u);
  EXPECT_EQ(EntriesOf(*ring_)[0].meta.recorded_steps, 0u);
}

TEST_F(SmallRingTest, AFullRingLosesCountsAndTellsLater) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) < 30)
    Step(MakeStep(step++, 1, 20));
  Deliver();
  Step(MakeStep(step++, 1, 20));
  Deliver();
  const StreamContents c = contents();
  EXPECT_EQ(c.gap_steps.at(GapCause::kRingFull), 30u);
  const auto gaps = GapsOf(c, GapCause::kRingFull);
  ASSERT_EQ(gaps.size(), 1u);
  EXPECT_EQ(gaps[0].second.last_step, step - 2);
  EXPECT_EQ(c.recorded.size(), books_.Snapshot().steps_recorded);
}

TEST_F(SmallRingTest, AStepLargerThanTheRingIsLostAndTheOthersAreNot) {
  recorder_.PutSchema(MakeSchema(1, 5));
  Step(MakeStep(0, 1, 5));
  for (int i = 1; i < 4; ++i) {
    Deliver();
    Step(MakeStep(i, 1, 20'000));
  }
  Deliver();
  Step(MakeStep(4, 1, 5));
  Deliver();
  EXPECT_EQ(contents().gap_steps.at(GapCause::kRingFull), 3u);
  EXPECT_EQ(contents().recorded.size(), 2u);
}

TEST_F(RecorderTest, ALargeRecordIsSplitAllOrNothing) {
  const StepData step = MakeStep(0, 1, 30'000);  // About 600 KB.
  ASSERT_GT(EncodedStepSize(step), kMaxPartBytes);
  Step(step);  // The ring has 256 KiB.
  EXPECT_THAT(EntriesOf(*ring_), IsEmpty());
  EXPECT_EQ(books_.Snapshot().steps_lost, 1u);

  auto large = MakeRing(8 << 20);
  recorder_.UseRing(large.get());
  recorder_.PutSchema(MakeSchema(1, 30'000));
  const StepData next = MakeStep(1, 1, 30'000);
  Step(next);
  const auto entries = EntriesOf(*large);
  std::vector<std::size_t> parts;
  std::uint32_t recorded = 0;
  for (const auto& entry : entries) {
    EXPECT_LE(entry.bytes.size(), kMaxPartBytes + 64);
    if (entry.meta.kind == EntryKind::kStep) {
      parts.push_back(entry.meta.part_index);
      EXPECT_EQ(entry.meta.part_count, 2u);
      recorded += entry.meta.recorded_steps;
    }
    collector_.records.push_back(entry.bytes);
  }
  EXPECT_THAT(parts, ElementsAre(0u, 1u));
  EXPECT_EQ(recorded, 1u);
  EXPECT_THAT(contents().recorded, ElementsAre(Pair(0u, 1)));
  EXPECT_EQ(contents().incomplete, 0u);
}

TEST_F(SmallRingTest, NoStepIsAdmittedBeforeItsSchema) {
  // A schema that fits only when the ring is almost empty.
  Schema schema = MakeSchema(2, 300);
  ASSERT_GT(EncodeSchema(schema).size(), 14'000u);
  recorder_.PutSchema(MakeSchema(1, 2));
  std::int64_t step = 0;
  while (ring_->FreeBytes(Ring::Room::kOrdinary) > 10'000) {
    Step(MakeStep(step++, 1, 2));
  }
  recorder_.PutSchema(schema);
  for (int i = 0; i < 5; ++i) Step(MakeStep(step++, 2, 300));
  EXPECT_EQ(books_.missing(GapCause::kRingFull), 5u);
  Deliver();
  Step(MakeStep(step++, 2, 300));
  Deliver();
  EXPECT_THAT(contents().schema_ids, ElementsAre(1u, 2u));
  EXPECT_EQ(contents().gap_steps.at(GapCause::kRingFull), 5u);
}

TEST_F(RecorderTest, GoingBackOpensABranch) {
  recorder_.PutSchema(MakeSchema(1, 1));
  for (int i = 0; i < 5; ++i) Step(MakeStep(i, 1, 1));
  recorder_.Rollback(2);
  Step(MakeStep(2, 1, 1));
  Step(MakeStep(3, 1, 1));
  Step(MakeStep(3, 1, 1));  // Without a word: the same.
  Gap(GapCause::kLoop, 1);  // And here.
  recorder_.Rollback(100);  // Not back: nothing.
  Step(MakeStep(2, 1, 1));
  Deliver();
  const StreamContents c = contents();
  EXPECT_EQ(c.branches, 3u);
  ASSERT_EQ(c.gaps.size(), 1u);
  EXPECT_EQ(c.gaps[0].first, 3u);
  EXPECT_THAT(c.recorded.back(), Pair(3u, 2));
}

TEST_F(RecorderTest, APendingGapIsOfTheBranchThatItWasMadeIn) {
  Gap(GapCause::kLoop, 7);
  recorder_.Rollback(2);
  Gap(GapCause::kLoop, 2);
  recorder_.PutSchema(MakeSchema(1, 2));
  Step(MakeStep(3, 1, 2));
  std::vector<std::uint32_t> branches;
  for (const auto& entry : testing::EntriesOf(*ring_)) {
    if (entry.meta.kind == EntryKind::kSchema) continue;
    branches.push_back(entry.meta.branch);
  }
  EXPECT_THAT(branches, ::testing::ElementsAre(0u, 1u, 1u, 1u));
  Deliver();
}

TEST_F(RecorderTest, ARollbackBeforeTheFirstStepIsNone) {
  recorder_.Rollback(0);
  recorder_.PutSchema(MakeSchema(1, 1));
  Step(MakeStep(0, 1, 1));
  Deliver();
  EXPECT_EQ(contents().branches, 0u);
}

TEST_F(SmallRingTest, RollbacksAndTheirGapsOutliveAFullRing) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) == 0)
    Step(MakeStep(step++, 1, 20));
  for (int branch = 1; branch <= 3; ++branch) {
    recorder_.Rollback(1);
    for (int i = 1; i <= 4; ++i) Step(MakeStep(i, 1, 20));
  }
  Deliver();
  recorder_.Rollback(0);
  Step(MakeStep(0, 1, 20));
  Deliver();
  const StreamContents c = contents();
  EXPECT_EQ(c.branches, 4u);
  const auto gaps = GapsOf(c, GapCause::kRingFull);
  ASSERT_EQ(gaps.size(), 4u);
  for (std::uint32_t branch = 1; branch <= 3; ++branch) {
    EXPECT_EQ(gaps[branch].first, branch);
    EXPECT_EQ(gaps[branch].second.steps, 4u);
  }
  EXPECT_THAT(c.recorded.back(), Pair(4u, 0));
}

TEST_F(SmallRingTest, EndlessRollbacksWithAFullRingTakeBoundedMemory) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) == 0)
    Step(MakeStep(step++, 1, 20));
  for (int i = 0; i < 50'000; ++i) {
    recorder_.Rollback(0);
    Step(MakeStep(0, 1, 20));
    Gap(GapCause::kLoop, 1, "reason " + std::to_string(i));
  }
  for (int i = 0; i < 5; ++i) {
    Deliver();
    recorder_.Rollback(0);
    Step(MakeStep(0, 1, 20));
  }
  Deliver();
  const StreamContents c = contents();
  EXPECT_LE(c.branches, 2'000u);
  EXPECT_GE(c.recorded.size(), 4u);
  EXPECT_EQ(c.recorded.size(), books_.Snapshot().steps_recorded);
}

// What the loop went back to while nothing could be told, not even rollbacks:
// the lowest step holds, though it went back to a higher one afterwards.
TEST_F(RecorderTest, RollbacksThatBecomeOneNameTheLowestStep) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 1000;
  while (books_.missing(GapCause::kRingFull) == 0)
    Step(MakeStep(step++, 1, 20));
  for (int i = 0; i < 5'000; ++i) {
    recorder_.Rollback(900);
    Step(MakeStep(900, 1, 20));
  }
  for (const std::int64_t back : {30, 10, 20}) {
    recorder_.Rollback(back);
    Step(MakeStep(50, 1, 20));
  }
  for (int i = 0; i < 5; ++i) {
    Deliver();
    Step(MakeStep(1000 + i, 1, 20));
  }
  Deliver();
  std::vector<std::int64_t> rollbacks;
  for (const std::string& record : collector_.records) {
    const auto view = ParseRecord(record);
    if (view->kind != RecordKind::kRollback) continue;
    rollbacks.push_back(DecodeRollback(view->body)->step);
  }
  ASSERT_FALSE(rollbacks.empty());
  EXPECT_EQ(rollbacks.back(), 10);
  EXPECT_GE(contents().recorded.size(), 4u);
}

TEST_F(SmallRingTest, AlternatingCausesWithAFullRingStillAddUp) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) == 0)
    Step(MakeStep(step++, 1, 20));
  for (int i = 0; i < 5'000; ++i) {
    Gap(GapCause::kInterval, step++);
    Step(MakeStep(step++, 1, 20));
    Gap(GapCause::kLoop, step++, "reason " + std::to_string(i));
  }
  Deliver();
  Step(MakeStep(step++, 1, 20));
  Deliver();
  const StreamContents c = contents();
  const DeliveryCounters books = books_.Snapshot();
  EXPECT_LE(c.gaps.size() - GapsOf(c, GapCause::kThinned).size(), 80u);
  for (const auto& [cause, steps] : books.by_cause) {
    EXPECT_EQ(c.gap_steps.at(cause), steps) << static_cast<int>(cause);
  }
  for (const auto& [branch, gap] : c.gaps) {
    EXPECT_LE(gap.steps,
              static_cast<std::uint64_t>(gap.last_step - gap.first_step + 1));
  }
}

TEST_F(SmallRingTest, TheEndAndWhatIsPendingFitIntoAFullRing) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) < 3) Step(MakeStep(step++, 1, 20));
  recorder_.Rollback(0);
  Gap(GapCause::kLoop, 0);
  recorder_.PutEnd(EndReason::kStopped);
  recorder_.PutEnd(EndReason::kFinished);  // Once is enough.
  Deliver();
  const StreamContents c = contents();
  ASSERT_TRUE(c.end.has_value());
  EXPECT_EQ(c.end->reason, EndReason::kStopped);
  EXPECT_EQ(c.end->steps_seen, offered_);
  EXPECT_EQ(c.end->steps_lost, 3u + books_.missing(GapCause::kThinned));
  EXPECT_EQ(c.end->steps_skipped, 1u);
  EXPECT_EQ(c.gap_steps.at(GapCause::kRingFull), 3u);
  EXPECT_EQ(c.branches, 1u);
}

TEST_F(SmallRingTest, AnEndlessListOfGapsDoesNotCrowdOutTheEnd) {
  recorder_.PutSchema(MakeSchema(1, 20));
  std::int64_t step = 0;
  while (books_.missing(GapCause::kRingFull) == 0)
    Step(MakeStep(step++, 1, 20));
  for (int i = 0; i < 3'000; ++i) {
    Gap(GapCause::kLoop, i % 7, std::string(500, 'd'));  // A branch each time.
  }
  recorder_.PutEnd(EndReason::kFinished);
  EXPECT_EQ(EntriesOf(*ring_).back().meta.kind, EntryKind::kEnd);
  Deliver();
  EXPECT_EQ(contents().end->steps_seen, offered_);
}

TEST_F(RecorderTest, AfterTheEndStepsAreLostToShutdown) {
  recorder_.PutSchema(MakeSchema(1, 1));
  Step(MakeStep(0, 1, 1));
  recorder_.PutEnd(EndReason::kFinished);
  const std::uint64_t last = ring_->last_seq();
  Step(MakeStep(1, 1, 1));
  Gap(GapCause::kCaptureError, 2);
  recorder_.Rollback(0);
  recorder_.PutSchema(MakeSchema(2, 1));
  EXPECT_EQ(ring_->last_seq(), last);
  EXPECT_EQ(books_.Snapshot().by_cause.at(GapCause::kShutdown), 2u);
}

TEST_F(RecorderTest, StrangeNumbersAndTextsPass) {
  recorder_.PutSchema(MakeSchema(1, 0));
  Step(MakeStep(std::numeric_limits<std::int64_t>::min(), 1, 0));
  Gap(GapCause::kLoop, -5, std::string(100'000, '\xff'));
  Gap(static_cast<GapCause>(200), 0, std::string("\0\x1b[31m", 6));
  StepData empty;
  empty.step = 1;
  empty.schema_id = 1;
  Step(empty);
  Step(MakeStep(std::numeric_limits<std::int64_t>::max(), 1, 0));
  Deliver();
  for (const auto& [branch, gap] : contents().gaps) {
    EXPECT_LE(gap.detail.size(), 512u);
    EXPECT_TRUE(IsValidUtf8(gap.detail));
  }
  EXPECT_EQ(contents().recorded.size(), 3u);
}

}  // namespace
}  // namespace gradtap::agent
