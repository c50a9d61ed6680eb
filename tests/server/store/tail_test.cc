// The newest steps in memory: what is kept, what goes first, and that it is
// read without the database.

#include "server/store/tail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/store/rocksdb_store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr std::size_t kBody = 1000;

SharedTailRecord RowRecord(std::uint64_t ordinal, std::int64_t step,
                           StreamId stream = 1, std::uint32_t branch = 0) {
  return std::make_shared<const TailRecord>(TailRecord{
      ordinal, stream, branch, step, std::string(kBody, 'b'), std::nullopt});
}

SharedTailRecord GapRecord(std::uint64_t ordinal, std::int64_t step) {
  GapRow gap;
  gap.stream = 1;
  gap.ordinal = ordinal;
  gap.gap = {GapCause::kRingFull, step, step, 1, ""};
  return std::make_shared<const TailRecord>(
      TailRecord{ordinal, 1, 0, step, "", gap});
}

std::vector<std::uint64_t> Ordinals(const TailRecords& records) {
  std::vector<std::uint64_t> ordinals;
  for (const auto& record : records) ordinals.push_back(record->ordinal);
  return ordinals;
}

std::size_t BytesOfARow() {
  Tail tail({});
  tail.Append(1, {RowRecord(1, 1)}, true);
  return tail.bytes();
}

TEST(TailTest, GivesWhatIsBeyondAnOrdinalAndWithinSteps) {
  Tail tail({});
  tail.Append(7, {RowRecord(1, 10), RowRecord(2, 11)}, true);
  tail.Append(7, {GapRecord(3, 12), RowRecord(4, 13), RowRecord(5, 4, 2)},
              true);
  EXPECT_THAT(Ordinals(tail.After(7, 0)), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(Ordinals(tail.After(7, 3)), ElementsAre(4, 5));
  EXPECT_THAT(tail.After(7, 5), IsEmpty());
  EXPECT_THAT(tail.After(8, 0), IsEmpty());
  std::optional<std::int64_t> first;
  EXPECT_THAT(Ordinals(tail.Steps(7, 1, 0, 11, 13, &first)), ElementsAre(2));
  EXPECT_EQ(first, 10);
  EXPECT_THAT(Ordinals(tail.Steps(7, 1, 0, 0, 99, &first)),
              ElementsAre(1, 2, 4));
  EXPECT_THAT(Ordinals(tail.Steps(7, 2, 0, 0, 99, &first)), ElementsAre(5));
  EXPECT_EQ(first, 4);
  EXPECT_THAT(tail.Steps(7, 1, 1, 0, 99, &first), IsEmpty());
  EXPECT_EQ(first, std::nullopt);
}

TEST(TailTest, TheOldestGoFirstAndALiveRunsNewestStepLast) {
  Tail tail({.bytes = 4 * BytesOfARow()});
  tail.Append(1, {RowRecord(1, 1)}, true);  // The oldest, and its newest.
  tail.Append(2, {RowRecord(1, 1), RowRecord(2, 2), RowRecord(3, 3)}, true);
  EXPECT_EQ(tail.bytes(), 4 * BytesOfARow());
  tail.Append(2, {RowRecord(4, 4), RowRecord(5, 5)}, true);
  EXPECT_EQ(tail.bytes(), 4 * BytesOfARow());
  EXPECT_THAT(Ordinals(tail.After(1, 0)), ElementsAre(1));
  EXPECT_THAT(Ordinals(tail.After(2, 0)), ElementsAre(3, 4, 5));
  // Once it has ended it goes as all others.
  tail.Append(1, {}, false);
  tail.Append(2, {RowRecord(6, 6)}, true);
  EXPECT_THAT(tail.After(1, 0), IsEmpty());
  EXPECT_THAT(Ordinals(tail.After(2, 0)), ElementsAre(3, 4, 5, 6));
}

TEST(TailTest, AGapAfterTheNewestStepDoesNotMakeItGo) {
  Tail tail({.bytes = 3 * BytesOfARow()});
  tail.Append(1, {RowRecord(1, 1), GapRecord(2, 2)}, true);
  tail.Append(2, {RowRecord(1, 1), RowRecord(2, 2), RowRecord(3, 3)}, true);
  EXPECT_THAT(Ordinals(tail.After(1, 0)), ElementsAre(1, 2));
}

TEST(TailTest, NewestStepsGoTooWhenTheyAloneAreTooMuch) {
  Tail tail({.bytes = 2 * BytesOfARow()});
  for (std::uint64_t run = 1; run <= 5; ++run) {
    tail.Append(run, {RowRecord(1, 1)}, true);
    EXPECT_LE(tail.bytes(), 2 * BytesOfARow());
  }
  EXPECT_THAT(tail.After(3, 0), IsEmpty());
  EXPECT_THAT(Ordinals(tail.After(5, 0)), ElementsAre(1));
}

TEST(TailTest, OneRecordThatIsTooLargeIsNotKept) {
  Tail tail({.bytes = kBody / 2});
  tail.Append(1, {RowRecord(1, 1)}, true);
  EXPECT_EQ(tail.bytes(), 0U);
  EXPECT_THAT(tail.After(1, 0), IsEmpty());
}

TEST(TailTest, ARunHasNoMoreRecordsThanAReaderMayCopy) {
  Tail tail({.records_of_run = 3});
  for (std::uint64_t i = 1; i <= 10; ++i) {
    tail.Append(1, {RowRecord(i, static_cast<std::int64_t>(i))}, true);
  }
  EXPECT_THAT(Ordinals(tail.After(1, 0)), ElementsAre(8, 9, 10));
  EXPECT_EQ(tail.bytes(), 3 * BytesOfARow());
}

TEST(TailTest, WhatAReaderHoldsOutlivesWhatIsForgotten) {
  Tail tail({});
  tail.Append(1, {RowRecord(1, 1)}, true);
  StepRow row = RowOf(tail.After(1, 0)[0]);
  tail.Forget(1);
  EXPECT_EQ(tail.bytes(), 0U);
  EXPECT_THAT(tail.After(1, 0), IsEmpty());
  EXPECT_EQ(row.body, std::string(kBody, 'b'));
}

class StoreTailTest : public ::testing::Test {
 protected:
  void Open() {
    store_.reset();
    StoreOptions options;
    options.data_dir = temp_.path() + "/data";
    auto store = RocksdbStore::Open(options, nullptr);
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    stream_ = store_->OpenStream(MakeHello(), 1)->id;
  }

  void Commit(std::int64_t first, std::int64_t last) {
    const OwnedCommit commit = StepsCommit(
        stream_, static_cast<std::uint64_t>(first) + 1, first, last);
    GRADTAP_ASSERT_OK(store_->Commit({&commit.commit, 1}));
  }

  // How many scans went to the database meanwhile.
  std::uint64_t DatabaseScans() {
    const std::uint64_t all = store_->counters().database_scans;
    return all - std::exchange(scans_, all);
  }

  std::int64_t RowsAfter(std::uint64_t ordinal) {
    std::int64_t rows = 0;
    GRADTAP_EXPECT_OK(store_->ScanByOrdinal(
        "run", ordinal, [&](const StepRow* row, const GapRow*) {
          EXPECT_EQ(row->ordinal, ++ordinal);
          EXPECT_EQ(StoredBody(*row), StepBody(row->step));
          ++rows;
          return true;
        }));
    return rows;
  }

  gradtap::testing::TempDir temp_;
  std::unique_ptr<RocksdbStore> store_;
  StreamId stream_ = 0;
  std::uint64_t scans_ = 0;
};

TEST_F(StoreTailTest, WhatWasCommittedSinceTheStartIsReadFromMemory) {
  Open();
  Commit(0, 9);
  Commit(10, 14);
  EXPECT_EQ(RowsAfter(0), 15);
  EXPECT_EQ(RowsAfter(12), 3);
  EXPECT_EQ(RowsAfter(15), 0);
  EXPECT_EQ(StepsOf(store_.get(), stream_).size(), 15U);
  EXPECT_EQ(DatabaseScans(), 1U);  // There may be steps below the first one.
  GRADTAP_EXPECT_OK(store_->ScanSteps(stream_, 0, 14, 15, [](const auto& row) {
    EXPECT_EQ(StoredBody(row), StepBody(14));
    EXPECT_NE(row.body_owner, nullptr);
    return true;
  }));
  EXPECT_EQ(DatabaseScans(), 0U);
  EXPECT_GT(store_->counters().tail_scans, 0U);
}

TEST_F(StoreTailTest, AfterOpeningAgainItIsEmptyAndOldAndNewMakeOneScan) {
  Open();
  Commit(0, 9);
  Open();
  EXPECT_EQ(store_->tail_bytes(), 0U);
  EXPECT_EQ(RowsAfter(0), 10);
  Commit(10, 12);
  EXPECT_EQ(RowsAfter(0), 13);
  EXPECT_EQ(RowsAfter(8), 5);
  EXPECT_EQ(StepsOf(store_.get(), stream_).size(), 13U);
  DatabaseScans();
  EXPECT_EQ(RowsAfter(10), 3);
  EXPECT_EQ(DatabaseScans(), 0U);
}

TEST_F(StoreTailTest, ADeletedRunIsGoneFromMemoryAsWell) {
  Open();
  Commit(0, 9);
  EXPECT_GT(store_->tail_bytes(), 0U);
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_EQ(store_->tail_bytes(), 0U);
  stream_ = store_->OpenStream(MakeHello(), 2)->id;
  EXPECT_EQ(RowsAfter(0), 0);
  Commit(0, 2);
  EXPECT_EQ(RowsAfter(0), 3);
}

}  // namespace
}  // namespace gradtap::server::testing
