// What was acknowledged stays: power failures, full disks, failing syncs,
// kills.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/store/faulty_fs.h"
#include "server/store/rocksdb_store.h"
#include "server/store/run_of_steps.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::_;
using testing::CheckStore;
using testing::CommitSteps;
using testing::FaultyEnv;
using testing::kStepsPerCommit;
using testing::MakeHello;
using testing::StepBody;
using testing::StoredBody;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;
// Opens, writes 4 commits, opens again (which writes tables), writes 4 more.
// Stops at the first failure; returns the highest acknowledged seq.
std::uint64_t Work(const std::string& dir, rocksdb::Env* env) {
  std::uint64_t acknowledged = 0;
  for (int life = 0; life < 2; ++life) {
    const auto store = RocksdbStore::Open({dir}, env);
    if (!store.ok()) return acknowledged;
    const auto stream = (*store)->OpenStream(MakeHello(), kNow);
    if (!stream.ok()) return acknowledged;
    EXPECT_EQ(stream->durable_seq, acknowledged);
    for (int i = 0; i < 4; ++i) {
      const auto first = static_cast<std::int64_t>(acknowledged);
      if (!CommitSteps(store->get(), stream->id, first).ok()) {
        return acknowledged;
      }
      acknowledged += kStepsPerCommit;
    }
  }
  return acknowledged;
}

TEST(StorePowerTest, WhateverWriteThePowerFailsAtAcknowledgedStepsAreThere) {
  std::uint64_t operations = 0;
  {
    const TempDir temp;
    FaultyEnv env;
    ASSERT_EQ(Work(temp.path(), env.env()), 8U * kStepsPerCommit);
    operations = env.fs().operations();
  }
  ASSERT_GT(operations, 40U);
  std::uint64_t lives_with_some = 0;
  for (std::uint64_t at = 1; at <= operations; ++at) {
    SCOPED_TRACE("power lost at operation " + std::to_string(at));
    const TempDir temp;
    FaultyEnv env;
    env.fs().FailFromOperation(at);
    const std::uint64_t acknowledged = Work(temp.path(), env.env());
    env.fs().LosePower();
    FaultyEnv healthy;
    const auto store = RocksdbStore::Open({temp.path()}, healthy.env());
    GRADTAP_ASSERT_OK(store);
    EXPECT_GE(CheckStore(store->get()), acknowledged);
    lives_with_some += acknowledged > 0 ? 1 : 0;
  }
  EXPECT_GT(lives_with_some, operations / 4);
}

// With the newest steps in memory, and without: what is read is the same.
class StoreFaultsTest : public ::testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override { Open(env_.env()); }

  void Open(rocksdb::Env* env) {
    store_.reset();
    StoreOptions options;
    options.data_dir = temp_.path();
    options.tail_bytes = GetParam();
    auto store = RocksdbStore::Open(options, env);
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    const auto stream = store_->OpenStream(MakeHello(), kNow);
    GRADTAP_ASSERT_OK(stream);
    id_ = stream->id;
  }

  void LosePowerAndReopen() {
    env_.fs().FailFromOperation(1);
    store_.reset();
    env_.fs().LosePower();
    env_.fs().FailFromOperation(0);
    Open(nullptr);
  }

  TempDir temp_;
  FaultyEnv env_;
  std::unique_ptr<RocksdbStore> store_;
  StreamId id_ = 0;
};

TEST_P(StoreFaultsTest, AFullDiskRefusesCommitsAndServesReads) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().SetFull(true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(CommitSteps(store_.get(), id_, 3),
                StatusIs(absl::StatusCode::kResourceExhausted, _));
    EXPECT_EQ(CheckStore(store_.get()), 3U);
  }
  EXPECT_THAT(store_->OpenStream(MakeHello("other"), kNow),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_THAT(store_->DeleteRun("run"),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(store_->Runs().size(), 1U);
}

TEST_P(StoreFaultsTest, WhenThereIsRoomAgainTheNextCommitWorksAndLasts) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().SetFull(true);
  ASSERT_FALSE(CommitSteps(store_.get(), id_, 3).ok());
  ASSERT_FALSE(CommitSteps(store_.get(), id_, 3).ok());
  env_.fs().SetFull(false);
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 3));
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 6));
  EXPECT_EQ(CheckStore(store_.get()), 9U);
  LosePowerAndReopen();
  EXPECT_EQ(CheckStore(store_.get()), 9U);
}

TEST_P(StoreFaultsTest, AQuotaIsNoticedThoughTheDiskSaysItHasRoom) {
  env_.fs().HideFullness();
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().SetFull(true);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(CommitSteps(store_.get(), id_, 3),
                StatusIs(absl::StatusCode::kResourceExhausted, _));
    EXPECT_EQ(CheckStore(store_.get()), 3U);
  }
  env_.fs().SetFull(false);
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 3));
  EXPECT_EQ(CheckStore(store_.get()), 6U);
}

TEST_P(StoreFaultsTest, FullAgainAndAgainLosesNothing) {
  std::int64_t next = 0;
  for (int round = 0; round < 8; ++round) {
    env_.fs().SetFull(true);
    EXPECT_FALSE(CommitSteps(store_.get(), id_, next).ok());
    env_.fs().SetFull(false);
    for (int i = 0; i < round % 3 + 1; ++i) {
      GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, next));
      next += kStepsPerCommit;
    }
  }
  EXPECT_EQ(CheckStore(store_.get()), static_cast<std::uint64_t>(next));
  LosePowerAndReopen();
  EXPECT_EQ(CheckStore(store_.get()), static_cast<std::uint64_t>(next));
}

TEST_P(StoreFaultsTest, PowerLostWhileTheDiskIsFullLeavesWhatWasAcknowledged) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().SetFull(true);
  ASSERT_FALSE(CommitSteps(store_.get(), id_, 3).ok());
  LosePowerAndReopen();
  EXPECT_EQ(CheckStore(store_.get()), 3U);
}

// The bytes of a commit whose sync failed may be there all the same: then it
// is whole, and its cursor says so.
TEST_P(StoreFaultsTest, AFailedSyncRefusesTheCommitAndAStreamGoesOnAfterIt) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().FailSyncs(1);
  EXPECT_THAT(CommitSteps(store_.get(), id_, 3),
              StatusIs(absl::StatusCode::kUnavailable, _));
  EXPECT_EQ(CheckStore(store_.get()), 3U);
  // As a session does: connect again, go on from the cursor.
  const auto stream = store_->OpenStream(MakeHello(), kNow);
  GRADTAP_ASSERT_OK(stream);
  const auto first = static_cast<std::int64_t>(stream->durable_seq);
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, first));
  EXPECT_GE(CheckStore(store_.get()), 6U);
  const std::uint64_t durable = CheckStore(store_.get());
  LosePowerAndReopen();
  EXPECT_EQ(CheckStore(store_.get()), durable);
}

TEST_P(StoreFaultsTest, AFailedDatabaseIsNotClosedUnderAReader) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  env_.fs().FailSyncs(1);
  ASSERT_FALSE(CommitSteps(store_.get(), id_, 3).ok());
  int visited = 0;
  GRADTAP_ASSERT_OK(store_->ScanSteps(id_, 0, 0, 100, [&](const StepRow& row) {
    // A commit meanwhile must not open the database again under this one.
    EXPECT_THAT(CommitSteps(store_.get(), id_, 3),
                StatusIs(absl::StatusCode::kUnavailable, _));
    EXPECT_EQ(StoredBody(row), StepBody(row.step));
    ++visited;
    return true;
  }));
  EXPECT_EQ(visited, 3);
  const auto stream = store_->OpenStream(MakeHello(), kNow);
  GRADTAP_ASSERT_OK(stream);
  EXPECT_GE(CheckStore(store_.get()), 3U);
}

INSTANTIATE_TEST_SUITE_P(Tail, StoreFaultsTest,
                         ::testing::Values(std::size_t{1} << 20, 0U));

}  // namespace
}  // namespace gradtap::server
