// What the store says of itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/clock.h"
#include "server/store/faulty_fs.h"
#include "server/store/rocksdb_store.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using testing::FaultyEnv;
using testing::MakeHello;
using testing::MakeSchema;
using testing::StepsCommit;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;

class StoreFiguresTest : public ::testing::Test {
 protected:
  void SetUp() override {
    StoreOptions options;
    options.data_dir = temp_.path() + "/data";
    options.seal = false;
    options.window_steps = 128;
    auto store = RocksdbStore::Open(options, env_.env());
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    const auto stream = store_->OpenStream(MakeHello(), kNow);
    GRADTAP_ASSERT_OK(stream);
    id_ = stream->id;
    const std::string schema = testing::BodyOf(EncodeSchema(MakeSchema()));
    StreamCommit commit;
    commit.stream = id_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.schemas.push_back({1, schema});
    GRADTAP_ASSERT_OK(store_->Commit({&commit, 1}));
  }

  // The next `n` steps, of a stream that has been seen right now.
  absl::Status Commit(std::int64_t n) {
    const auto owned = StepsCommit(id_, seq_ + 1, step_, step_ + n - 1);
    StreamCommit commit = owned.commit;
    commit.last_seen_unix_ns = RealClock().UnixNanos();
    const absl::Status status = store_->Commit({&commit, 1});
    if (status.ok()) {
      seq_ = commit.last_seq;
      step_ += n;
    }
    return status;
  }

  gradtap::testing::TempDir temp_;
  FaultyEnv env_;
  std::unique_ptr<RocksdbStore> store_;
  StreamId id_ = 0;
  std::uint64_t seq_ = 0;
  std::int64_t step_ = 0;
};

TEST_F(StoreFiguresTest, EveryCommitAndSyncIsTimed) {
  const std::uint64_t before = store_->figures().commit.count;
  GRADTAP_ASSERT_OK(Commit(3));
  GRADTAP_ASSERT_OK(Commit(3));
  const StoreFigures figures = store_->figures();
  EXPECT_EQ(figures.commit.count, before + 2);
  EXPECT_EQ(figures.sync.count, store_->counters().syncs);
  EXPECT_GT(figures.sync.p50_ns, 0);
  EXPECT_LE(figures.sync.p50_ns, figures.sync.max_ns);
  EXPECT_GE(figures.commit.sum_ns, figures.commit.max_ns);
}

TEST_F(StoreFiguresTest, RowsAreDueOnceTheyAreEnoughAndNoLongerOnceSealed) {
  GRADTAP_ASSERT_OK(Commit(128 + 63));
  SealingFigures sealing = store_->figures().sealing;
  EXPECT_EQ(sealing.rows_waiting, 128u + 63u);
  EXPECT_EQ(sealing.rows_due, 0u);
  EXPECT_EQ(sealing.due_for_ns, 0);
  GRADTAP_ASSERT_OK(Commit(1));
  sealing = store_->figures().sealing;
  EXPECT_EQ(sealing.rows_due, 128u);
  EXPECT_EQ(sealing.branches_due, 1u);
  const std::int64_t due = store_->figures().sealing.due_for_ns;
  EXPECT_GT(due, 0);
  // The same rows are due for longer: no later commit starts it anew.
  GRADTAP_ASSERT_OK(Commit(1));
  EXPECT_GE(store_->figures().sealing.due_for_ns, due);

  const auto sealed = store_->SealOne();
  GRADTAP_ASSERT_OK(sealed);
  EXPECT_TRUE(*sealed);
  sealing = store_->figures().sealing;
  EXPECT_EQ(sealing.rows_waiting, 65u);
  EXPECT_EQ(sealing.rows_due, 0u);
  EXPECT_EQ(sealing.due_for_ns, 0);
  EXPECT_EQ(sealing.window.count, 1u);
  EXPECT_GT(sealing.windows_per_second, 0);
  EXPECT_GT(sealing.values_per_second, 0);
  // Two roles of two parameters.
  EXPECT_EQ(store_->counters().sealed_values, 128u * 4 * 9);
}

TEST_F(StoreFiguresTest, ABacklogStaysDueUntilItsLastWindowIsSealed) {
  GRADTAP_ASSERT_OK(Commit(330));
  GRADTAP_ASSERT_OK(store_->SealOne());
  EXPECT_GT(store_->figures().sealing.due_for_ns, 0);
  GRADTAP_ASSERT_OK(store_->SealOne());
  EXPECT_EQ(store_->figures().sealing.due_for_ns, 0);
  EXPECT_EQ(store_->figures().sealing.rows_waiting, 330u - 256u);
}

TEST_F(StoreFiguresTest, WhatFailsIsSaidUntilItWorksAgain) {
  EXPECT_EQ(store_->figures().trouble.what, "");
  env_.fs().SetFull(true);
  EXPECT_FALSE(Commit(1).ok());
  const Trouble trouble = store_->figures().trouble;
  EXPECT_NE(trouble.what, "");
  EXPECT_GT(trouble.since_unix_ns, 0);
  EXPECT_FALSE(Commit(1).ok());
  EXPECT_EQ(store_->figures().trouble.since_unix_ns, trouble.since_unix_ns);
  env_.fs().SetFull(false);
  GRADTAP_ASSERT_OK(Commit(1));
  EXPECT_EQ(store_->figures().trouble.what, "");
}

TEST_F(StoreFiguresTest, FamiliesAreNamedAndCounted) {
  GRADTAP_ASSERT_OK(Commit(600));
  bool rows = false;
  for (const FamilyFigures& family : store_->figures().families) {
    if (family.name != "rows") continue;
    rows = true;
    EXPECT_GT(family.memory_bytes, 0u);
  }
  EXPECT_TRUE(rows);
  EXPECT_EQ(store_->figures().families.front().name, "catalog");
  EXPECT_FALSE(store_->figures().writes_stopped);
}

}  // namespace
}  // namespace gradtap::server
