#include "agent/delivery/backlog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/spool/spool_fixtures.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::MakeRing;
using ::gradtap::testing::Payload;
using ::gradtap::testing::StepMeta;

class BacklogTest : public ::testing::Test {
 protected:
  BacklogTest()
      : ring_(MakeRing(64 * 1024)),
        backlog_(std::make_unique<Backlog>(ring_.get())) {}

  void PutOne(const EntryMeta& meta) {
    const std::string bytes = Payload(ring_->last_seq() + 1);
    char* const out = ring_->Reserve(meta, bytes.size(), Ring::Room::kOrdinary);
    ASSERT_NE(out, nullptr);
    std::memcpy(out, bytes.data(), bytes.size());
    ring_->Publish();
  }
  void Put(int count) {
    for (; count > 0; --count) {
      PutOne(StepMeta(static_cast<std::int64_t>(ring_->last_seq() + 1)));
    }
  }
  void PutSchema() {
    EntryMeta meta;
    meta.kind = EntryKind::kSchema;
    PutOne(meta);
  }
  // As a session does with what is acknowledged.
  void ReadAndFree() {
    EntryView entry;
    const std::uint64_t end = backlog_->last_seq() + 1;
    for (std::uint64_t seq = backlog_->first_seq(); seq < end; ++seq) {
      ASSERT_TRUE(backlog_->Read(seq, &entry));
    }
    backlog_->FreeBefore(end);
  }

  void MakeSpool(std::uint64_t max_bytes = 1 << 20) {
    SpoolOptions options;
    options.max_bytes = max_bytes;
    options.segment_bytes = 1'000;
    auto spool =
        Spool::Create(dir_.path() + "/spool", MakeIdentity(), options, &disk_);
    GRADTAP_ASSERT_OK(spool);
    backlog_->SetSpool(*std::move(spool));
  }

  void ExpectAll(std::uint64_t first, std::uint64_t last) {
    EXPECT_EQ(backlog_->first_seq(), first);
    EXPECT_EQ(backlog_->last_seq(), last);
    EntryView entry;
    for (std::uint64_t seq = first; seq <= last; ++seq) {
      ASSERT_TRUE(backlog_->Read(seq, &entry)) << seq;
      EXPECT_EQ(entry.seq, seq);
      EXPECT_EQ(entry.bytes, Payload(seq));
      EXPECT_EQ(entry.meta.step, static_cast<std::int64_t>(seq));
    }
    EXPECT_FALSE(backlog_->Read(first - 1, &entry));
    EXPECT_FALSE(backlog_->Read(last + 1, &entry));
  }

  testing::TempDir dir_;
  testing::FaultyDisk disk_;
  std::unique_ptr<Ring> ring_;
  std::unique_ptr<Backlog> backlog_;
};

TEST_F(BacklogTest, WithoutASpoolItIsTheRing) {
  Put(5);
  ExpectAll(1, 5);
  backlog_->FreeBefore(4);
  ExpectAll(4, 5);
  backlog_->FreeBefore(6);
  ExpectAll(6, 5);
}

TEST_F(BacklogTest, SpillMovesTheOldestAndKeepsTheOrder) {
  MakeSpool();
  Put(100);
  const std::size_t keep = ring_->BytesFrom(71);
  GRADTAP_EXPECT_OK(backlog_->Spill(keep));
  EXPECT_EQ(ring_->first_seq(), 71u);
  EXPECT_EQ(backlog_->spool()->last_seq(), 70u);
  ExpectAll(1, 100);
  backlog_->FreeBefore(40);
  ExpectAll(40, 100);
  backlog_->FreeBefore(80);
  ExpectAll(80, 100);
  // Once more, after a hole in the spool's seqs.
  GRADTAP_EXPECT_OK(backlog_->Spill(0));
  ExpectAll(80, 100);
  EXPECT_GT(ring_->first_seq(), ring_->last_seq());
}

TEST_F(BacklogTest, WhatTheDiskDoesNotTakeStaysInTheRing) {
  MakeSpool();
  Put(50);
  disk_.room = 2'000;
  EXPECT_FALSE(backlog_->Spill(0).ok());
  EXPECT_GT(ring_->first_seq(), 1u);
  EXPECT_LE(ring_->first_seq(), ring_->last_seq());
  ExpectAll(1, 50);
  disk_.room = 1 << 20;
  GRADTAP_EXPECT_OK(backlog_->Spill(0));
  ExpectAll(1, 50);
}

TEST_F(BacklogTest, AFullSpoolSaysSoAndGoesOnOnceItIsFreed) {
  MakeSpool(4'000);
  Put(100);
  EXPECT_THAT(backlog_->Spill(0),
              testing::StatusIs(absl::StatusCode::kResourceExhausted,
                                ::testing::HasSubstr("full")));
  ExpectAll(1, 100);
  const std::uint64_t moved = backlog_->spool()->last_seq();
  backlog_->FreeBefore(moved);
  (void)backlog_->Spill(0);
  EXPECT_GT(backlog_->spool()->last_seq(), moved);
  ExpectAll(moved, 100);
}

TEST_F(BacklogTest, RejectedMarksStayWithTheirRecordsAcrossASpill) {
  MakeSpool();
  Put(6);
  backlog_->MarkRejected(2);
  GRADTAP_EXPECT_OK(backlog_->Spill(ring_->BytesFrom(4)));
  backlog_->MarkRejected(3);
  backlog_->MarkRejected(5);
  EntryView entry;
  for (std::uint64_t seq = 1; seq <= 6; ++seq) {
    ASSERT_TRUE(backlog_->Read(seq, &entry));
    EXPECT_EQ(entry.rejected, seq == 2 || seq == 3 || seq == 5) << seq;
  }
}

TEST_F(BacklogTest, AGapWithNothingKnownBeforeItDoesNotShrinkAsItIsFreed) {
  MakeSpool();
  PutSchema();
  Put(9);
  EntryView entry;
  ASSERT_TRUE(ring_->Read(1, &entry));
  GRADTAP_ASSERT_OK(backlog_->spool()->Append(1, entry.meta, entry.bytes));
  ring_->FreeBefore(8);  // 2 to 7 are in neither.
  for (const std::uint64_t freed : {1, 2, 4, 7}) {
    backlog_->FreeBefore(freed);
    ASSERT_TRUE(backlog_->Read(7, &entry));
    EXPECT_EQ(entry.meta.kind, EntryKind::kGap);
    EXPECT_EQ(entry.meta.step, 2);
    EXPECT_EQ(entry.meta.last_step, 7);
  }
  // From elsewhere.
  backlog_->NoteDelivered(5);
  ASSERT_TRUE(backlog_->Read(7, &entry));
  EXPECT_EQ(entry.meta.step, 5);
}

TEST_F(BacklogTest, WhatStandsInBothIsReadOnceAndWhatStandsInNeitherIsAGap) {
  MakeSpool();
  Put(10);
  // A process that died between moving and freeing.
  EntryView entry;
  for (std::uint64_t seq = 1; seq <= 4; ++seq) {
    ASSERT_TRUE(ring_->Read(seq, &entry));
    GRADTAP_ASSERT_OK(backlog_->spool()->Append(seq, entry.meta, entry.bytes));
  }
  ExpectAll(1, 10);
  ring_->FreeBefore(8);  // 5 to 7 are in neither.
  EXPECT_EQ(backlog_->first_seq(), 1u);
  // Also once all of the spool is freed.
  for (const std::uint64_t freed : {1, 5, 6}) {
    backlog_->FreeBefore(freed);
    EXPECT_EQ(backlog_->first_seq(), freed);
    for (std::uint64_t seq = std::max<std::uint64_t>(freed, 5); seq <= 7;
         ++seq) {
      ASSERT_TRUE(backlog_->Read(seq, &entry));
      EXPECT_EQ(entry.seq, seq);
      EXPECT_EQ(entry.bytes.empty(), seq < 7);
      EXPECT_EQ(entry.meta.recorded_steps, 0u);
    }
    EXPECT_EQ(entry.meta.kind, EntryKind::kGap);
    EXPECT_EQ(entry.meta.step, 5);
    EXPECT_EQ(entry.meta.last_step, 7);
    EXPECT_EQ(entry.meta.steps, 3u);
  }
  ASSERT_TRUE(backlog_->Read(8, &entry));
  EXPECT_EQ(entry.bytes, Payload(8));
  backlog_->FreeBefore(8);
  ExpectAll(8, 10);
}

TEST_F(BacklogTest, ASpoolAloneIsReadToItsEnd) {
  MakeSpool();
  Put(30);
  GRADTAP_ASSERT_OK(backlog_->Spill(0));
  const std::string path = backlog_->spool()->path();
  backlog_ = std::make_unique<Backlog>(nullptr);
  auto spool = Spool::Open(path, SpoolUse::kTakeOver);
  GRADTAP_ASSERT_OK(spool);
  backlog_->SetSpool(*std::move(spool));
  ExpectAll(1, 30);
  backlog_->FreeBefore(31);
  ExpectAll(31, 30);
}

TEST_F(BacklogTest, ASchemaThatNeverWasInTheSpoolIsKeptThereWhenItIsFreed) {
  MakeSpool();
  PutSchema();
  Put(10);
  GRADTAP_ASSERT_OK(backlog_->Spill(0));
  ReadAndFree();
  // More than a spool keeps, each superseded by the next.
  for (int i = 0; i < 100; ++i) {
    PutSchema();
    Put(1);
    ReadAndFree();
  }
  const std::uint64_t newest = ring_->last_seq() - 1;
  Put(5);
  const std::string path = backlog_->spool()->path();
  // It dies, and the records in its ring refer to the newest.
  backlog_->spool()->StayWithoutRecords(true);
  backlog_ = std::make_unique<Backlog>(ring_.get());
  auto spool = Spool::Open(path, SpoolUse::kTakeOver);
  GRADTAP_ASSERT_OK(spool);
  const KeptSchema* const kept = (*spool)->SchemaBefore(ring_->first_seq());
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->first_seq, newest);
  EXPECT_EQ(kept->records.front(), Payload(newest));
}

TEST_F(BacklogTest, ACopyGetsNoSchemaOfTheRing) {
  MakeSpool();
  Put(3);
  GRADTAP_ASSERT_OK(backlog_->Spill(0));
  const std::string path = backlog_->spool()->path();
  const std::string copy = dir_.path() + "/copy";
  std::filesystem::copy(path, copy);
  backlog_ = std::make_unique<Backlog>(ring_.get());
  auto spool = Spool::Open(copy, SpoolUse::kCopy);
  GRADTAP_ASSERT_OK(spool);
  backlog_->SetSpool(*std::move(spool));
  const auto before = testing::NamesIn(copy);
  PutSchema();
  ReadAndFree();
  EXPECT_EQ(testing::NamesIn(copy), before);
}

TEST_F(BacklogTest, AnyOrderOfPuttingSpillingAndFreeingKeepsAll) {
  MakeSpool();
  std::mt19937 random(11);
  for (int turn = 0; turn < 400; ++turn) {
    Put(static_cast<int>(random() % 20));
    if (random() % 3 == 0) {
      GRADTAP_ASSERT_OK(backlog_->Spill(random() % 2'000));
    }
    const std::uint64_t first = backlog_->first_seq();
    const std::uint64_t count = backlog_->last_seq() + 1 - first;
    const std::uint64_t freed = random() % (count + 1);
    if (turn % 10 == 0) ExpectAll(first, first + count - 1);
    backlog_->FreeBefore(first + freed);
    EXPECT_EQ(backlog_->first_seq(), first + freed);
  }
}

}  // namespace
}  // namespace gradtap::agent
