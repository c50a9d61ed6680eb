#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/fake_transport.h"
#include "agent/delivery/worker_fixture.h"
#include "agent/spool/spool_fixtures.h"
#include "core/sync.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::FakeNetwork;
using ::gradtap::testing::FakeTransport;
using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using SteadyClock = std::chrono::steady_clock;

class WorkerSpoolTest : public WorkerFixture {
 protected:
  WorkerSpoolTest() : WorkerFixture(100) {
    options_.poll = milliseconds(2);
    options_.make_spool = [this] {
      return Spool::Create(root_, MakeIdentity(), spool_options_, &disk_);
    };
  }

  void Start() {
    worker_ = std::make_unique<Worker>(shared_, options_);
    ASSERT_TRUE(worker_->Start());
  }
  // At the pace of whoever makes room, so that none is thinned. False: nobody
  // does.
  bool AwaitRoom() {
    const auto give_up = SteadyClock::now() + seconds(60);
    while (shared_->ring->FreeBytes(Ring::Room::kOrdinary) < 160 * 1024) {
      if (SteadyClock::now() > give_up) return false;
      std::this_thread::yield();
    }
    return true;
  }
  // Several times what the ring holds.
  void PutMuch() {
    for (int i = 0; i < 500; ++i) {
      ASSERT_TRUE(AwaitRoom());
      PutSteps(1);
    }
  }

  // What the spool has, after the worker's end: recorded steps, by seq.
  std::vector<std::int64_t> SpooledSteps() {
    worker_.reset();
    std::vector<std::int64_t> steps;
    const auto found = FindSpools(root_);
    if (!found.ok() || found->size() != 1) return steps;
    auto spool = Spool::Open(found->front(), SpoolUse::kCopy);
    if (!spool.ok()) return steps;
    for (auto s = (*spool)->first_seq(); s <= (*spool)->last_seq(); ++s) {
      const auto entry = (*spool)->Read(s);
      if (!entry.ok()) return {};
      if (entry->meta.recorded_steps > 0) steps.push_back(entry->meta.step);
      ended_ |= entry->meta.kind == EntryKind::kEnd;
    }
    worker_ = std::make_unique<Worker>(shared_, options_);
    return steps;
  }

  testing::TempDir dir_;
  const std::string root_ = dir_.path() + "/spool";
  testing::FaultyDisk disk_;
  SpoolOptions spool_options_;
  bool ended_ = false;
};

TEST_F(WorkerSpoolTest, WhatTheRingCannotHoldWaitsOnDiskAndIsDeliveredInOrder) {
  network_.Set(FakeNetwork::Mode::kRefusing);
  Start();
  PutMuch();
  EXPECT_EQ(shared_->books.Snapshot().steps_lost, 0u);
  network_.Set(FakeNetwork::Mode::kUp);
  PutMuch();
  recorder_->PutEnd(EndReason::kFinished);
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  worker_->Stop(SteadyClock::now() + seconds(60));
  const DeliveryCounters c = shared_->books.Snapshot();
  EXPECT_EQ(c.steps_recorded, offered_);
  EXPECT_EQ(c.steps_acknowledged, offered_);
  const auto contents = network_.collector.Contents();
  EXPECT_EQ(contents.recorded.size(), offered_);
  EXPECT_TRUE(contents.end.has_value());
  // Nothing is left of it.
  worker_.reset();
  EXPECT_TRUE(std::filesystem::is_empty(root_));
  worker_ = std::make_unique<Worker>(shared_, options_);
}

TEST_F(WorkerSpoolTest, ASpoolIsMadeOnlyWhenItIsNeeded) {
  Ring* const ring = shared_->ring.get();
  while (ring->BytesFrom(1) < ring->capacity_bytes() * 3 / 16) PutSteps(1);
  ASSERT_LT(ring->BytesFrom(1), ring->capacity_bytes() / 4);
  Start();
  recorder_->PutEnd(EndReason::kFinished);
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  worker_->Stop(SteadyClock::now() + seconds(60));
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, offered_);
  EXPECT_FALSE(std::filesystem::exists(root_));
}

TEST_F(WorkerSpoolTest, ASpoolThatCannotBeReadIsSaidOnceAndGoesOnWhenItCan) {
  network_.Set(FakeNetwork::Mode::kRefusing);
  Start();
  PutMuch();
  disk_.read_error = 5;  // EIO.
  network_.Set(FakeNetwork::Mode::kUp);
  AwaitSaid("cannot be read back");
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, 0u);
  disk_.read_error = 0;
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  EXPECT_THAT(Lines(), Contains(HasSubstr("cannot be read back")).Times(1));
  EXPECT_EQ(network_.collector.Contents().recorded.size(), offered_);
}

TEST_F(WorkerSpoolTest, InABlackHoleTheSpoolGetsTheRestLongBeforeTheDeadline) {
  network_.Set(FakeNetwork::Mode::kBlackHole);
  Start();
  PutSteps(20);
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + std::chrono::hours(1), milliseconds(50));
  EXPECT_THAT(Lines(),
              Contains(HasSubstr("`gradtap --collector peer:1 drain`")));
  EXPECT_EQ(SpooledSteps().size(), 20u);
  EXPECT_TRUE(ended_);
  EXPECT_EQ(shared_->books.Snapshot().steps_acknowledged, 0u);
}

TEST_F(WorkerSpoolTest, WhatIsInTheSpoolIsSaidToBeThereThoughItsSyncFailed) {
  network_.Set(FakeNetwork::Mode::kBlackHole);
  disk_.sync_error = 5;  // EIO.
  Start();
  PutSteps(20);
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + seconds(60), milliseconds(50));
  EXPECT_TRUE(shared_->left_in_file);
  EXPECT_THAT(Lines(),
              Contains(AllOf(HasSubstr(root_), HasSubstr("are kept in"),
                             HasSubstr("drain`"))));
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr("fdatasync"),
                                      Not(HasSubstr("stay in the ring"))))
                           .Times(1));
  EXPECT_EQ(SpooledSteps().size(), 20u);
}

TEST_F(WorkerSpoolTest, ASchemaStaysForRecordsThatOnlyTheRingsFileHas) {
  RingFileOptions file;
  file.folder = dir_.path() + "/rings";
  file.capacity_bytes = 256 * 1024;
  file.reserve_bytes = 8 * 1024;
  file.identity = MakeIdentity();
  auto made = RingFile::Create(file);
  GRADTAP_ASSERT_OK(made);
  shared_->ring_file = *std::move(made);
  shared_->ring = shared_->ring_file->TakeRing();
  recorder_ = std::make_unique<Recorder>(shared_->ring.get(), &shared_->books,
                                         &RealClock());
  network_.Set(FakeNetwork::Mode::kRefusing);
  Start();
  PutMuch();
  network_.Set(FakeNetwork::Mode::kUp);
  EXPECT_TRUE(worker_->WaitAcknowledged(shared_->ring->last_seq(),
                                        SteadyClock::now() + seconds(60)));
  network_.Set(FakeNetwork::Mode::kBlackHole);
  disk_.room = 0;
  PutSteps(20);
  worker_->Stop(SteadyClock::now() + seconds(60), milliseconds(50));
  EXPECT_TRUE(shared_->left_in_file);
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr("are kept in"),
                                      HasSubstr(file.folder))));
  worker_ = std::make_unique<Worker>(shared_, options_);
  const auto folders = FindSpools(root_);
  GRADTAP_ASSERT_OK(folders);
  ASSERT_EQ(folders->size(), 1u);
  EXPECT_THAT(testing::NamesIn(folders->front()),
              Contains("00000000000000000001.schema"));
}

TEST_F(WorkerSpoolTest, OfflineNobodyIsDialledAndEverythingIsOnDisk) {
  options_.offline = true;
  options_.make_transport = nullptr;
  Start();
  PutMuch();
  EXPECT_EQ(worker_->state(), DeliveryState::kOffline);
  // Nothing will be acknowledged, so nobody waits for it.
  EXPECT_FALSE(worker_->WaitAcknowledged(
      shared_->ring->last_seq(), SteadyClock::now() + std::chrono::hours(1)));
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + seconds(60));
  const std::vector<std::int64_t> steps = SpooledSteps();
  ASSERT_EQ(steps.size(), offered_);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    ASSERT_EQ(steps[i], static_cast<std::int64_t>(i));
  }
  EXPECT_TRUE(ended_);
}

TEST_F(WorkerSpoolTest, AFullSpoolIsSaidOnceAndWhatItHasStays) {
  spool_options_.max_bytes = 1 << 20;
  options_.offline = true;
  Start();
  // The ring alone is full sooner, where the disk is slow for a moment.
  const auto give_up = SteadyClock::now() + seconds(60);
  while ((!Said("is full, at") ||
          shared_->books.missing(GapCause::kSpoolFull) == 0) &&
         SteadyClock::now() < give_up) {
    PutSteps(1);
    std::this_thread::yield();
  }
  EXPECT_GT(shared_->books.missing(GapCause::kSpoolFull), 0u);
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + seconds(5));
  EXPECT_THAT(Lines(), Contains(HasSubstr("is full, at")).Times(1));
  const std::vector<std::int64_t> steps = SpooledSteps();
  EXPECT_GT(steps.size(), 10u);
  for (std::size_t i = 1; i < steps.size(); ++i) {
    ASSERT_GT(steps[i], steps[i - 1]);  // Some have been thinned.
  }
}

TEST_F(WorkerSpoolTest, ASpoolThatCannotBeMadeIsToldAndTheDeadlineHolds) {
  disk_.type = 0x6969;  // NFS.
  network_.Set(FakeNetwork::Mode::kBlackHole);
  Start();
  while (shared_->books.Snapshot().steps_lost == 0) PutSteps(1);
  AwaitSaid("NFS");
  recorder_->PutEnd(EndReason::kFinished);
  worker_->Stop(SteadyClock::now() + milliseconds(100), milliseconds(10));
  EXPECT_EQ(worker_->state(), DeliveryState::kStopped);
  EXPECT_THAT(Lines(), Contains(HasSubstr("NFS")).Times(1));
}

}  // namespace
}  // namespace gradtap::agent
