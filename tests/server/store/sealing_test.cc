// Rows become windows: what comes back is what was committed, bit for bit,
// wherever it is.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sealing_testing.h"
#include "server/store/window/timeline.h"

namespace gradtap::server::testing {
namespace {

TEST_F(SealingTest, AFullWindowIsSealedAndTheNewestStepsStayRows) {
  StartStream(10);
  CommitSteps(0, kTileSteps + 63);
  EXPECT_EQ(SealAll(), 0);
  CommitSteps(kTileSteps + 63, kTileSteps + 64);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(), kTileSteps);
  EXPECT_EQ(store_->counters().sealed_windows, 1U);
  EXPECT_EQ(store_->counters().sealed_rows, kTileSteps);
}

TEST_F(SealingTest, OnceARunHasEndedItsRollupsStandInFewTables) {
  flush_sealed_writes_ = true;  // Each window's into a table of their own.
  StartStream(4);
  for (int i = 0; i < 8; ++i) {
    CommitSteps(i * kTileSteps, (i + 1) * kTileSteps);
    SealAll();
  }
  End();
  SealAll();
  store_.reset();
  const auto engine = Engine::OpenToRead(dir_.path() + "/data/db", true);
  ASSERT_TRUE(engine.ok()) << engine.status();
  rocksdb::ColumnFamilyMetaData rollups;
  (*engine)->db()->GetColumnFamilyMetaData((*engine)->rollups(), &rollups);
  EXPECT_GT(rollups.size, 0U);
  EXPECT_LE(rollups.levels[0].files.size(), 1U);  // That of the last flush.
}

TEST_F(SealingTest, CommitsWaitForASealerThatLagsBehind) {
  seal_ = true;
  StartStream(50);
  for (std::uint64_t rows = 500; rows <= 10'000; rows += 500) {
    CommitSteps(static_cast<std::int64_t>(rows) - 500,
                static_cast<std::int64_t>(rows));
    // What came in one piece, and what is not due yet.
    EXPECT_LE(rows - store_->counters().sealed_rows, 500U + 192U);
  }
}

// What commits wait by is not counted anew for each: it must not drift.
TEST_F(SealingTest, TheSumOfWhatIsDueIsThatOfAllBranches) {
  const auto check = [this] {
    const RocksdbStore::DueBytes due = store_->DueBytesForTest();
    EXPECT_EQ(due.sum, due.walked);
    return due.sum;
  };
  StartStream(10);
  CommitSteps(0, kTileSteps + 63);
  EXPECT_EQ(check(), 0U);
  CommitSteps(kTileSteps + 63, kTileSteps + 64);
  EXPECT_GT(check(), 0U);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(check(), 0U);

  std::uint32_t branch = 0;
  std::int64_t next = kTileSteps + 64;
  std::uint64_t most = 0;
  for (int round = 0; round < 60; ++round) {
    switch (random_() % 5) {
      case 0: {  // What was there is due to its last row now.
        StreamCommit commit = NextCommit();
        next /= 2;
        commit.new_branches.push_back({++branch, next});
        ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
        break;
      }
      case 1:
        ASSERT_TRUE(store_->SealOne().ok());
        break;
      case 2:
        Open();
        break;
      default:
        CommitSteps(next, next + 150, branch);
        next += 150;
    }
    most = std::max(most, check());
  }
  EXPECT_GT(most, 0U);
  End();
  check();
  SealAll();
  EXPECT_EQ(check(), 0U);
  CommitSteps(next, next + 10, branch);
  EXPECT_GT(check(), 0U);
  ASSERT_TRUE(store_->DeleteRun("run").ok());
  EXPECT_EQ(check(), 0U);
}

TEST_F(SealingTest, WindowsOfSmallModelsAreLonger) {
  window_steps_ = 0;
  StartStream(130);  // Three blocks.
  CommitSteps(0, 512 + 63);
  EXPECT_EQ(SealAll(), 0);
  CommitSteps(512 + 63, 1024 + 64);
  EXPECT_EQ(SealAll(), 2);
  AddSchema(128);  // Two: a window is of 1,024. The chapter ends.
  CommitSteps(1024 + 64, 2112 + 64);
  EXPECT_EQ(SealAll(), 2);
  EXPECT_EQ(store_->counters().sealed_rows, 2112U);
  EXPECT_EQ(CheckAll(), 2112);
}

TEST_F(SealingTest, SeveralBlocksAndSlabsComeBackBitForBit) {
  StartStream(200);  // Four blocks; the last one is short.
  CommitSteps(0, 600);
  End();
  EXPECT_EQ(SealAll(), 5);
  EXPECT_EQ(CheckAll(), 600);
  Open();
  EXPECT_EQ(CheckAll(), 600);
  EXPECT_EQ(SealAll(), 0);
}

// A tile that would be all zero is not written: in any place of a row of tiles.
TEST_F(SealingTest, TilesThatAreNotThereAreZeroWhereverTheyLack) {
  StartStream(6 * kTileParameters);
  const TileLayout layout(schema_);
  const auto lacks = [&](Role role, std::size_t place) {
    const auto at = static_cast<std::uint32_t>(place);
    return std::array{
        true, false, true, true, false, true}[layout.BlockOf(role, at)];
  };
  std::vector<StepData> steps;
  for (std::int64_t i = 0; i < kTileSteps; ++i) {
    StepData step = RandomStep(i);
    for (RoleColumns& columns : step.roles) {
      for (std::size_t place = 0; place < columns.size(); ++place) {
        if (columns.absent[place] != 0) continue;
        Record record = columns.Get(place);
        record.zero = lacks(columns.role, place) ? 0 : 1 + place;
        record.nan = lacks(columns.role, place) ? 1 + place : 0;
        columns.Set(place, record);
      }
    }
    steps.push_back(std::move(step));
  }
  Commit(steps);
  End();
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(), kTileSteps);
}

TEST_F(SealingTest, AnyRangeOfStepsIsFoundAcrossWindowsAndRows) {
  StartStream(3);
  CommitSteps(100, 100 + 700);
  EXPECT_EQ(SealAll(), 4);
  for (const auto& [begin, end] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 100},
                                                          {0, 101},
                                                          {355, 357},
                                                          {356, 357},
                                                          {300, 400},
                                                          {611, 613},
                                                          {612, 613},
                                                          {799, 800},
                                                          {799, 900},
                                                          {800, 900},
                                                          {100, 356},
                                                          {356, 612},
                                                          {200, 200}}) {
    SCOPED_TRACE(std::to_string(begin) + ":" + std::to_string(end));
    CheckAll(0, begin, end);
  }
}

TEST_F(SealingTest, AStepReadAloneHasTheSameValues) {
  StartStream(70);
  CommitSteps(0, 320);
  EXPECT_EQ(SealAll(), 2);
  for (const std::int64_t step : {0, 1, 100, 255}) {
    EXPECT_EQ(CheckAll(0, step, step + 1), 1);
  }
}

TEST_F(SealingTest, SkippedStepsAndTheirReasonsAreKept) {
  StartStream(4);
  std::vector<StepData> steps;
  for (std::int64_t i = 0; i < 1000; ++i) {
    steps.push_back(i % 4 == 0 ? RandomStep(i) : SkippedStep(i));
  }
  Commit(steps);
  End();
  EXPECT_EQ(SealAll(), 2);  // 250 steps with statistics.
  EXPECT_EQ(CheckAll(), 1000);
  for (const std::int64_t step : {3, 4, 5, 999}) CheckAll(0, step, step + 1);
}

TEST_F(SealingTest, StepsWithoutStatisticsEndAWindowAtItsLimit) {
  StartStream(4);
  std::vector<StepData> steps;
  for (std::int64_t i = 0; i < kMaxWindowRows + 10; ++i) {
    steps.push_back(SkippedStep(i));
  }
  Commit(steps);
  End();
  EXPECT_EQ(SealAll(), 2);
  EXPECT_EQ(CheckAll(), kMaxWindowRows + 10);
}

TEST_F(SealingTest, ANewSchemaBeginsANewWindow) {
  StartStream(4);
  CommitSteps(0, 100);
  AddSchema(9);
  CommitSteps(100, 200);
  End();
  EXPECT_EQ(SealAll(), 2);
  EXPECT_EQ(CheckAll(), 200);
}

TEST_F(SealingTest, ABranchThatHasBeenLeftIsSealedAsItIs) {
  StartStream(4);
  CommitSteps(0, 50);
  StreamCommit commit = NextCommit();
  commit.new_branches.push_back({1, 20});
  ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  CommitSteps(20, 60, 1);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(0), 50);
  EXPECT_EQ(CheckAll(1), 0);
  End();
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(1), 40);
}

TEST_F(SealingTest, StepsThatComeAfterTheEndFollowTheSealedOnes) {
  StartStream(4);
  CommitSteps(0, 10);
  End();
  EXPECT_EQ(SealAll(), 1);
  CommitSteps(10, 15);
  EXPECT_EQ(CheckAll(), 10);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(), 15);
}

TEST_F(SealingTest, StepsThatAreCommittedWhileOthersAreSealedAreAllThere) {
  StartStream(40);
  End();  // Whatever there is is sealed at once, and its space reclaimed.
  std::atomic<bool> done = false;
  std::thread sealer([&] {
    while (!done) SealAll();
  });
  for (std::int64_t i = 0; i < 3000; i += 20) CommitSteps(i, i + 20);
  done = true;
  sealer.join();
  SealAll();
  EXPECT_EQ(CheckAll(), 3000);
}

TEST_F(SealingTest, OrdinalsFindSealedStepsAndGapsAlike) {
  StartStream(4);
  CommitSteps(0, 300);
  StreamCommit commit = NextCommit();
  commit.gaps.push_back({0, {GapCause::kRingFull, 300, 309, 10, ""}});
  ASSERT_TRUE(store_->Commit({&commit, 1}).ok());
  CommitSteps(310, 400);
  EXPECT_EQ(SealAll(), 2);
  std::uint64_t ordinal = 0;
  int rows = 0, gaps = 0;
  ASSERT_TRUE(store_
                  ->ScanByOrdinal("run", 0,
                                  [&](const StepRow* row, const GapRow* gap) {
                                    EXPECT_EQ(row != nullptr ? row->ordinal
                                                             : gap->ordinal,
                                              ++ordinal);
                                    rows += row != nullptr;
                                    gaps += gap != nullptr;
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(rows, 390);
  EXPECT_EQ(gaps, 1);
}

TEST_F(SealingTest, ADeletedRunTakesItsWindowsAlong) {
  StartStream(100);
  CommitSteps(0, 320);
  EXPECT_EQ(SealAll(), 2);
  const std::uint64_t before = store_->disk_bytes();
  EXPECT_GT(before, 1'000'000U);
  ASSERT_TRUE(store_->DeleteRun("run").ok());
  EXPECT_EQ(SealAll(), 0);
  Open();  // Logs go.
  EXPECT_LT(store_->disk_bytes(), before / 2);
  EXPECT_TRUE(store_->Runs().empty());
}

}  // namespace
}  // namespace gradtap::server::testing
