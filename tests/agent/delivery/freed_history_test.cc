#include "agent/delivery/freed_history.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/delivery/delivery_fixtures.h"
#include "core/codec.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

EntryView Entry(std::uint64_t seq, EntryKind kind, std::int64_t step = 0,
                std::uint32_t part = 0, std::uint32_t parts = 1,
                bool rejected = false) {
  EntryView entry;
  entry.seq = seq;
  entry.meta.kind = kind;
  entry.meta.step = step;
  entry.meta.part_index = part;
  entry.meta.part_count = parts;
  entry.rejected = rejected;
  return entry;
}

// The step that stands in a gap of one lost step; -1 if it is no such gap.
std::int64_t LostStep(const std::string& record) {
  const auto view = ParseRecord(record);
  if (!view.ok() || view->kind != RecordKind::kGap) return -1;
  const auto gap = DecodeGap(view->body);
  if (!gap.ok() || gap->cause != GapCause::kIoError || gap->steps != 1) {
    return -1;
  }
  return gap->first_step;
}

TEST(FreedHistoryTest, AMillionStepsAreOneRun) {
  FreedHistory history;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    history.Add(Entry(1 + i, EntryKind::kStep, static_cast<std::int64_t>(i)));
  }
  EXPECT_EQ(history.runs(), 1u);
  EXPECT_EQ(LostStep(history.Replacement(1)), 0);
  EXPECT_EQ(LostStep(history.Replacement(777'778)), 777'777);
  EXPECT_EQ(history.Replacement(1'000'001), "");
  EXPECT_EQ(history.Replacement(0), "");
}

TEST(FreedHistoryTest, OfAStepInPartsTheLastOneSaysWhetherItWasRejected) {
  FreedHistory history;
  history.Add(Entry(1, EntryKind::kStep, 7, 0, 3, /*rejected=*/true));
  history.Add(Entry(2, EntryKind::kStep, 7, 1, 3, /*rejected=*/true));
  history.Add(Entry(3, EntryKind::kStep, 7, 2, 3));
  EXPECT_EQ(LostStep(history.Replacement(3)), 7);
}

TEST(FreedHistoryTest, AStepInPartsIsToldOnceInPlaceOfItsLastPart) {
  FreedHistory history;
  for (std::uint64_t i = 0; i < 30; ++i) {
    history.Add(Entry(1 + i, EntryKind::kStep, static_cast<std::int64_t>(i / 3),
                      static_cast<std::uint32_t>(i % 3), 3));
  }
  EXPECT_EQ(history.runs(), 1u);
  for (std::uint64_t seq = 1; seq <= 30; ++seq) {
    const std::string record = history.Replacement(seq);
    if (seq % 3 == 0) {
      EXPECT_EQ(LostStep(record), static_cast<std::int64_t>(seq / 3 - 1));
    } else {
      EXPECT_EQ(record, "");
    }
  }
}

TEST(FreedHistoryTest, ARejectedStepIsDeclaredForWhatItIs) {
  FreedHistory history;
  for (std::uint64_t i = 0; i < 6; ++i) {
    history.Add(Entry(1 + i, EntryKind::kStep, static_cast<std::int64_t>(i / 2),
                      static_cast<std::uint32_t>(i % 2), 2, i == 3));
  }
  EXPECT_EQ(LostStep(history.Replacement(2)), 0);
  EXPECT_EQ(history.Replacement(3), "");
  EXPECT_EQ(history.Replacement(4),
            EncodeGap({GapCause::kRejected, 1, 1, 1, ""}));
  EXPECT_EQ(LostStep(history.Replacement(6)), 2);
}

TEST(FreedHistoryTest, GapsRollbacksAndTheNewestSchemaAreSentAgain) {
  FreedHistory history;
  const std::string old_schema = EncodeSchema(testing::MakeSchema(1, 2));
  const std::string schema = EncodeSchema(testing::MakeSchema(2, 3));
  EntryView entry = Entry(1, EntryKind::kSchema);
  entry.bytes = old_schema;
  history.Add(entry);
  entry = Entry(2, EntryKind::kGap, 4);
  entry.meta.cause = GapCause::kLoop;
  entry.meta.last_step = 6;
  entry.meta.steps = 2;
  history.Add(entry);
  entry = Entry(3, EntryKind::kRollback, 1);
  entry.meta.branch = 9;
  history.Add(entry);
  entry = Entry(4, EntryKind::kSchema);
  entry.bytes = schema;
  history.Add(entry);

  EXPECT_EQ(history.Replacement(1), "");
  EXPECT_EQ(history.Replacement(2), EncodeGap({GapCause::kLoop, 4, 6, 2, ""}));
  EXPECT_EQ(history.Replacement(3), EncodeRollback({1, 9}));
  EXPECT_EQ(history.Replacement(4), schema);
}

TEST(FreedHistoryTest, TheOldestRunsAreForgottenBeyondTheBound) {
  FreedHistory history;
  for (std::uint64_t i = 0; i < 2 * FreedHistory::kMaxRuns; ++i) {
    history.Add(
        Entry(1 + i, EntryKind::kStep, static_cast<std::int64_t>(10 * i)));
  }
  EXPECT_EQ(history.runs(), FreedHistory::kMaxRuns);
  EXPECT_EQ(history.Replacement(1), "");
  EXPECT_EQ(LostStep(history.Replacement(2 * FreedHistory::kMaxRuns)),
            static_cast<std::int64_t>(10 * (2 * FreedHistory::kMaxRuns - 1)));
}

TEST(FreedHistoryTest, TheNewestSchemaIsNotForgottenBeyondTheBound) {
  FreedHistory history;
  const std::string schema = EncodeSchema(testing::MakeSchema(1, 2));
  EntryView entry = Entry(1, EntryKind::kSchema);
  entry.bytes = schema;
  history.Add(entry);
  for (std::uint64_t i = 0; i < 2 * FreedHistory::kMaxRuns; ++i) {
    history.Add(
        Entry(2 + i, EntryKind::kStep, static_cast<std::int64_t>(10 * i)));
  }
  EXPECT_EQ(history.Replacement(1), schema);
}

TEST(FreedHistoryTest, RecordsOfNoKindAreOneRun) {
  FreedHistory history;
  const std::string schema = EncodeSchema(testing::MakeSchema(1, 2));
  EntryView entry = Entry(1, EntryKind::kSchema);
  entry.bytes = schema;
  history.Add(entry);
  history.Add(Entry(2, EntryKind::kStep, 7));
  for (std::uint64_t i = 0; i < 2 * FreedHistory::kMaxRuns; ++i) {
    history.Add(Entry(3 + i, EntryKind::kEnd));
  }
  EXPECT_EQ(LostStep(history.Replacement(2)), 7);
}

TEST(FreedHistoryTest, RollbacksAreNotForgottenBeyondTheBound) {
  FreedHistory history;
  EntryView entry = Entry(1, EntryKind::kRollback, 3);
  entry.meta.branch = 1;
  history.Add(entry);
  for (std::uint64_t i = 0; i < 2 * FreedHistory::kMaxRuns; ++i) {
    history.Add(
        Entry(2 + i, EntryKind::kStep, static_cast<std::int64_t>(10 * i)));
  }
  EXPECT_EQ(history.Replacement(1), EncodeRollback({3, 1}));
}

}  // namespace
}  // namespace gradtap::agent
