// A branch that cannot be read: it is set aside, and nothing else suffers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sealing_testing.h"
#include "server/store/engine.h"
#include "server/store/keys.h"
#include "tests/support/status_matchers.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;

class SetAsideTest : public SealingTest {
 protected:
  // A run whose first window is due and has a row that cannot be read.
  void StartWithADamagedRow() {
    StartStream(4);
    CommitSteps(0, kTileSteps + 64);
    store_.reset();
    {
      const auto engine = Engine::Open(dir_.path() + "/data/db", nullptr);
      GRADTAP_ASSERT_OK(engine);
      ASSERT_TRUE((*engine)
                      ->db()
                      ->Put({}, (*engine)->rows(), keys::Row(1, stream_, 0, 10),
                            "damaged")
                      .ok());
    }
    Open();
  }

  // With the store closed.
  void DamageRollups() {
    store_.reset();
    const auto engine = Engine::Open(dir_.path() + "/data/db", nullptr);
    GRADTAP_ASSERT_OK(engine);
    const std::unique_ptr<rocksdb::Iterator> it((*engine)->db()->NewIterator(
        rocksdb::ReadOptions(), (*engine)->rollups()));
    int damaged = 0;
    for (it->SeekToFirst(); it->Valid(); it->Next(), ++damaged) {
      (*engine)->db()->Put({}, (*engine)->rollups(), it->key(), "damaged");
    }
    EXPECT_GT(damaged, 10);
  }

  // From here on steps go to the other of two streams.
  void Switch() {
    std::swap(stream_, other_.stream);
    std::swap(seq_, other_.seq);
    std::swap(schema_id_, other_.schema_id);
    std::swap(sent_, other_.sent);
  }

  void StartOther() {
    const auto stream = store_->OpenStream(MakeHello("other"), 1);
    GRADTAP_ASSERT_OK(stream);
    Switch();
    stream_ = stream->id;
    AddSchema(4);
  }

  std::string Trouble() const { return store_->figures().sealing.trouble.what; }

  struct {
    StreamId stream = 0;
    std::uint64_t seq = 0;
    std::uint32_t schema_id = 0;
    decltype(sent_) sent;
  } other_;
};

TEST_F(SetAsideTest, ADamagedBranchIsTriedOnceAndOthersAreSealed) {
  StartWithADamagedRow();
  EXPECT_THAT(store_->SealOne(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("row")));
  for (std::int64_t i = 0; i < 3; ++i) {
    CommitSteps(kTileSteps + 64 + 100 * i, kTileSteps + 164 + 100 * i);
    EXPECT_EQ(SealAll(), 0);
    EXPECT_EQ(store_->DueBytesForTest().sum, 0U);
  }
  StartOther();
  CommitSteps(0, kTileSteps + 64);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_EQ(CheckAll(), kTileSteps);
  Switch();
  StreamCommit commit = NextCommit();
  commit.new_branches.push_back({1, 300});
  GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  CommitSteps(300, 300 + kTileSteps + 64, 1);
  EXPECT_EQ(SealAll(), 1);
}

TEST_F(SetAsideTest, AChapterThatCannotBeBoundIsTriedOnce) {
  StartStream(4);
  CommitSteps(0, 2 * kTileSteps + 64);
  EXPECT_EQ(SealAll(), 2);
  DamageRollups();
  Open();
  End();
  EXPECT_THAT(store_->SealOne(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("stream 1")));
  CommitSteps(2 * kTileSteps + 64, 3 * kTileSteps);
  EXPECT_EQ(SealAll(), 0);
  EXPECT_NE(Trouble(), "");
  EXPECT_EQ(CheckAll(), 2 * kTileSteps);
}

TEST_F(SetAsideTest, ItIsSaidUntilItsRunIsDeleted) {
  StartWithADamagedRow();
  EXPECT_EQ(Trouble(), "");
  EXPECT_FALSE(store_->SealOne().ok());
  StartOther();
  CommitSteps(0, kTileSteps + 64);
  EXPECT_EQ(SealAll(), 1);
  EXPECT_THAT(Trouble(), HasSubstr("damaged row"));
  EXPECT_THAT(Trouble(), HasSubstr("stream " + std::to_string(other_.stream)));
  EXPECT_THAT(store_->SealAll([](std::uint64_t) {}),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("row")));
  Open();  // It is looked at again.
  EXPECT_EQ(Trouble(), "");
  EXPECT_FALSE(store_->SealOne().ok());
  EXPECT_THAT(Trouble(), HasSubstr("damaged row"));
  GRADTAP_ASSERT_OK(store_->DeleteRun("run"));
  EXPECT_EQ(Trouble(), "");
}

TEST_F(SetAsideTest, CommitsGoOnWaitingForTheSealerOfOthers) {
  StartWithADamagedRow();
  seal_ = true;
  Open();
  StartOther();
  for (std::uint64_t rows = 500; rows <= 5'000; rows += 500) {
    const auto end = static_cast<std::int64_t>(rows);
    CommitSteps(end - 500, end);
    EXPECT_LE(rows - store_->counters().sealed_rows, 500U + 192U);
    Switch();  // Which makes the damaged one due anew.
    CommitSteps(kTileSteps + 64 + end - 500, kTileSteps + 64 + end);
    Switch();
  }
}

}  // namespace
}  // namespace gradtap::server::testing
