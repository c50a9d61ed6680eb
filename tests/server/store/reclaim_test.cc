// Giving space back takes what was deleted, and nothing else.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>

#include "faulty_fs.h"
#include "rocksdb/db.h"
#include "server/store/engine.h"
#include "server/store/keys.h"
#include "server/store/sealed_batch.h"
#include "tests/support/temp_dir.h"

namespace gradtap::server {
namespace {

constexpr BranchKey kBranch{1, 2, 0};

class ReclaimTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto engine = Engine::Open(dir_.path() + "/db", nullptr);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  static std::string KeyOf(std::int64_t step) {
    return keys::Row(kBranch.run_id, kBranch.stream, kBranch.branch, step);
  }

  void Put(std::int64_t begin, std::int64_t end) {
    for (std::int64_t step = begin; step < end; ++step) {
      ASSERT_TRUE(engine_->db()
                      ->Put(rocksdb::WriteOptions(), engine_->rows(),
                            KeyOf(step), std::string(1'000, 'x'))
                      .ok());
    }
  }

  // Into a table of their own, below level 0.
  void MoveDown() {
    ASSERT_TRUE(
        engine_->db()->Flush(rocksdb::FlushOptions(), engine_->rows()).ok());
    rocksdb::CompactRangeOptions down;
    down.change_level = true;
    down.target_level = -1;
    ASSERT_TRUE(engine_->db()
                    ->CompactRange(down, engine_->rows(), nullptr, nullptr)
                    .ok());
  }

  int Rows() {
    std::unique_ptr<rocksdb::Iterator> it(
        engine_->db()->NewIterator(rocksdb::ReadOptions(), engine_->rows()));
    int rows = 0;
    for (it->SeekToFirst(); it->Valid(); it->Next()) ++rows;
    return rows;
  }

  std::string FilesAtLevel0() { return FilesAtLevel0(engine_->rows()); }
  std::string FilesAtLevel0(rocksdb::ColumnFamilyHandle* family) {
    std::string files;
    engine_->db()->GetProperty(family, "rocksdb.num-files-at-level0", &files);
    return files;
  }

  // As sealing does: some of every series.
  void PutRollupTables(int from, int to, std::size_t bytes = 0) {
    const std::string padding(bytes / 20, 'x');
    for (int table = from; table < to; ++table) {
      for (int series = 0; series < 20; ++series) {
        const std::string key = RollupKey(series, table);
        ASSERT_TRUE(engine_->db()
                        ->Put(rocksdb::WriteOptions(), engine_->rollups(), key,
                              "roll-up of " + key + padding)
                        .ok());
      }
      ASSERT_TRUE(engine_->db()
                      ->Flush(rocksdb::FlushOptions(), engine_->rollups())
                      .ok());
    }
  }
  static std::string RollupKey(int series, int table) {
    return std::string(1, static_cast<char>(series)) + static_cast<char>(table);
  }
  void ExpectRollups(int tables) {
    std::unique_ptr<rocksdb::Iterator> it(
        engine_->db()->NewIterator(rocksdb::ReadOptions(), engine_->rollups()));
    int n = 0;
    for (it->SeekToFirst(); it->Valid(); it->Next(), ++n) {
      EXPECT_EQ(it->key().ToString(), RollupKey(n / tables, n % tables));
      EXPECT_EQ(it->value().ToString(), "roll-up of " + it->key().ToString());
    }
    EXPECT_EQ(n, 20 * tables);
  }

  void WaitForCompactions() {
    std::uint64_t busy = 1;
    while (busy != 0) {
      std::uint64_t pending = 0;
      engine_->db()->GetIntProperty(engine_->rollups(),
                                    "rocksdb.num-running-compactions", &busy);
      engine_->db()->GetIntProperty(engine_->rollups(),
                                    "rocksdb.compaction-pending", &pending);
      busy += pending;
    }
  }

  gradtap::testing::TempDir dir_;
  std::shared_ptr<Engine> engine_;
};

// Rows of the branch have come since its last window was sealed, and stand in
// a table of their own already.
TEST_F(ReclaimTest, RowsThatCameAfterTheSealedOnesStay) {
  Put(0, 100);
  ASSERT_TRUE(engine_->db()
                  ->DeleteRange(rocksdb::WriteOptions(), engine_->rows(),
                                KeyOf(0), KeyOf(100))
                  .ok());
  Put(100, 150);
  MoveDown();
  ASSERT_EQ(FilesAtLevel0(), "0");
  ASSERT_EQ(Rows(), 50);
  ReclaimRows(*engine_, kBranch, 100);
  EXPECT_EQ(Rows(), 50);
}

// What the rows became is in no log: it has to be in a table before their files
// go.
TEST_F(ReclaimTest, WhereverItDiesThereAreTheRowsOrWhatTheyBecame) {
  Put(0, 100);
  MoveDown();
  const std::string db = dir_.path() + "/db", copy = dir_.path() + "/copy";
  engine_.reset();
  int before = 0, after = 0;
  // The first operations of a flush, and all of it.
  for (const std::uint64_t at : {1, 2, 3, 4, 6, 8, 1'000}) {
    SCOPED_TRACE("dies at operation " + std::to_string(at));
    std::filesystem::copy(db, copy, std::filesystem::copy_options::recursive);
    testing::FaultyEnv faulty;
    engine_ = *Engine::Open(copy, faulty.env());
    rocksdb::WriteOptions unlogged;
    unlogged.disableWAL = true;
    rocksdb::WriteBatch sealed;
    sealed.Put(engine_->windows(), "window", "of all rows");
    sealed.DeleteRange(engine_->rows(), KeyOf(0), KeyOf(100));
    ASSERT_TRUE(engine_->db()->Write(unlogged, &sealed).ok());
    faulty.fs().FailFromOperation(faulty.fs().operations() + at);
    ReclaimRows(*engine_, kBranch, 100);
    faulty.fs().FailFromOperation(faulty.fs().operations() + 1);
    engine_.reset();
    faulty.fs().LosePower();
    engine_ = *Engine::Open(copy, nullptr);
    std::string window;
    const bool is_sealed =
        engine_->db()
            ->Get(rocksdb::ReadOptions(), engine_->windows(), "window", &window)
            .ok();
    EXPECT_EQ(Rows(), is_sealed ? 0 : 100);
    ++(is_sealed ? after : before);
    engine_.reset();
    std::filesystem::remove_all(copy);
  }
  EXPECT_GT(before, 0);
  EXPECT_GT(after, 0);
}

TEST_F(ReclaimTest, OnceSomebodyWantsToOpenItAgainNothingIsReclaimed) {
  Put(0, 100);
  MoveDown();
  engine_->StopReclaiming();
  // A whole file would go.
  engine_->Reclaim({engine_->rows(), KeyOf(0), KeyOf(1'000)});
  EXPECT_EQ(Rows(), 100);
}

TEST_F(ReclaimTest, ManyTablesOfRollupsAreMergedAFewAreNot) {
  PutRollupTables(0, 3);
  engine_->MergeRollups();
  EXPECT_EQ(FilesAtLevel0(engine_->rollups()), "3");
  PutRollupTables(3, 12);
  engine_->MergeRollups();
  EXPECT_EQ(FilesAtLevel0(engine_->rollups()), "0");
  ExpectRollups(12);
  // Onto what there is.
  PutRollupTables(12, 20);
  engine_->MergeRollups();
  EXPECT_EQ(FilesAtLevel0(engine_->rollups()), "0");
  ExpectRollups(20);
}

// Else a long run's would be written anew whenever a short one ends.
TEST_F(ReclaimTest, AMergeLeavesWhatTheLastLevelHas) {
  const auto last_tables = [this] {
    rocksdb::ColumnFamilyMetaData family;
    engine_->db()->GetColumnFamilyMetaData(engine_->rollups(), &family);
    std::set<std::string> names;
    for (const auto& table : family.levels.back().files) {
      names.insert(table.relative_filename);
    }
    return names;
  };
  int tables = 0;
  for (; tables < 120; tables += 5) {
    PutRollupTables(tables, tables + 5, std::size_t{1} << 20);
    while (!engine_->MergeRollups()) {
    }
  }
  WaitForCompactions();
  const std::set<std::string> before = last_tables();
  ASSERT_GT(before.size(), 2U);
  PutRollupTables(tables, tables + 5);
  ASSERT_TRUE(engine_->MergeRollups());
  EXPECT_EQ(FilesAtLevel0(engine_->rollups()), "0");
  const std::set<std::string> after = last_tables();
  EXPECT_TRUE(
      std::includes(after.begin(), after.end(), before.begin(), before.end()));
}

TEST_F(ReclaimTest, OnceSomebodyWantsToOpenItAgainNothingIsMerged) {
  PutRollupTables(0, 8);
  engine_->StopReclaiming();
  engine_->MergeRollups();
  EXPECT_EQ(FilesAtLevel0(engine_->rollups()), "8");
}

}  // namespace
}  // namespace gradtap::server
