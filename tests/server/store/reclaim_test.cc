// Giving space back takes what was deleted, and nothing else.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>

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

  std::string FilesAtLevel0() {
    std::string files;
    engine_->db()->GetProperty(engine_->rows(), "rocksdb.num-files-at-level0",
                               &files);
    return files;
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

TEST_F(ReclaimTest, OnceSomebodyWantsToOpenItAgainNothingIsReclaimed) {
  Put(0, 100);
  MoveDown();
  engine_->StopReclaiming();
  // A whole file would go.
  engine_->Reclaim({engine_->rows(), KeyOf(0), KeyOf(1'000)});
  EXPECT_EQ(Rows(), 100);
}

}  // namespace
}  // namespace gradtap::server
