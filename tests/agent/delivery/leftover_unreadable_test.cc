// What a dead process has left and nobody can read, for now or for good: it
// hides nothing else, and what refers to it waits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>

#include "agent/delivery/leftover_drive_fixture.h"
#include "agent/delivery/leftover_fixtures.h"
#include "core/codec.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::DyingProcess;
using ::gradtap::testing::IsOk;
using ::gradtap::testing::LeaveSpool;
using ::gradtap::testing::MakeIdentity;
using ::gradtap::testing::NamesIn;
using ::gradtap::testing::ReadAll;
using ::gradtap::testing::StatusIs;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using LeftoverUnreadableTest = LeftoverDriveTest;

// Its schemas cannot be opened for now: too many files are open.
class NoSchemaDisk : public testing::FaultyDisk {
 public:
  int OpenAt(int folder, const char* name, int flags, mode_t mode) override {
    if (std::string_view(name).ends_with(".schema")) return -EMFILE;
    return Syscalls::OpenAt(folder, name, flags, mode);
  }
};

TEST_F(LeftoverUnreadableTest, ASchemaThatCannotBeReadForNowStaysForItsRing) {
  {
    auto spool = Spool::Create(root_, MakeIdentity(), {}, &disk_);
    GRADTAP_ASSERT_OK(spool);
    (*spool)->KeepSchema({1, {EncodeSchema(testing::MakeSchema(1, 4))}});
    (*spool)->StayWithoutRecords(true);
  }
  testing::LeaveRing(rings_, root_, 100, 0, 60);
  const auto places = FindLeftovers(root_, rings_, /*lone_rings=*/true);
  GRADTAP_ASSERT_OK(places);
  NoSchemaDisk disk;
  EXPECT_THAT(
      Leftover::Open(places->front(), SpoolUse::kTakeOver, &disk),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(".schema")));
  EXPECT_THAT(NamesIn(root_), SizeIs(1));
  EXPECT_THAT(DeliverTheOne().status, IsOk());
  EXPECT_THAT(Gaps(), ElementsAre("0: 0-57"));
}

TEST_F(LeftoverUnreadableTest, AHoleBeforeASegmentOfASchemaAloneIsAGap) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    // Each record is a segment.
    DyingProcess process(root_, MakeIdentity(), &quick, 1);
    process.PutSteps(20);      // Records 2 to 21.
    process.PutSchemaAgain();  // Record 22.
    process.PutSteps(80);
    folder = process.Spill();
  }
  for (const std::uint64_t seq : {19, 20, 21}) {
    ASSERT_TRUE(
        std::filesystem::remove(folder + "/" + SegmentName(seq, "seg")));
  }
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 97u);
  EXPECT_THAT(Gaps(), ElementsAre("0: 17-19"));
}

// A loop that numbers its steps by samples. The records before 23 are in the
// spool, where 19 to 21 are lost and 22 is a schema, those from `ring_first` on
// in the ring. Step 64 n is record n + 2, from the 20th on n + 3.
void LeaveStepsOf64Samples(const std::string& root, const std::string& rings,
                           std::uint64_t ring_first) {
  testing::FaultyDisk quick;
  RingFileOptions options;
  options.folder = rings;
  options.capacity_bytes = 1 << 20;
  options.reserve_bytes = 1024;
  options.identity = MakeIdentity();
  options.spool_root = root;
  const auto file = RingFile::Create(options);
  GRADTAP_ASSERT_OK(file);
  const auto ring = (*file)->TakeRing();
  Books books;
  Recorder recorder(ring.get(), &books, &RealClock());
  recorder.PutSchema(testing::MakeSchema(1, 4));
  for (int n = 0; n < 20; ++n) {
    recorder.PutStep(testing::MakeStep(64 * n, 1, 4));
  }
  recorder.PutSchema(testing::MakeSchema(2, 4));
  for (int n = 20; n < 100; ++n) {
    recorder.PutStep(testing::MakeStep(64 * n, 2, 4));
  }
  SpoolOptions each;
  each.segment_bytes = 1;  // Each record is a segment.
  const auto spool = Spool::Create(root, MakeIdentity(), each, &quick);
  GRADTAP_ASSERT_OK(spool);
  EntryView entry;
  for (std::uint64_t seq = 1; seq < 23; ++seq) {
    ASSERT_TRUE(ring->Read(seq, &entry));
    GRADTAP_ASSERT_OK((*spool)->Append(seq, entry.meta, entry.bytes));
  }
  for (const std::uint64_t seq : {19, 20, 21}) {
    ASSERT_TRUE(std::filesystem::remove((*spool)->path() + "/" +
                                        SegmentName(seq, "seg")));
  }
  ring->FreeBefore(ring_first);
}

TEST_F(LeftoverUnreadableTest, AHoleBeforeASchemaAloneReachesToTheRing) {
  LeaveStepsOf64Samples(root_, rings_, 23);
  EXPECT_THAT(DeliverTheOne().status, IsOk());
  EXPECT_EQ(StoredSteps(), 97u);
  EXPECT_THAT(Gaps(), ElementsAre("0: 1025-1279"));
}

TEST_F(LeftoverUnreadableTest, HolesOnBothSidesOfASchemaAloneAreOneGap) {
  LeaveStepsOf64Samples(root_, rings_, 33);
  EXPECT_THAT(DeliverTheOne().status, IsOk());
  EXPECT_EQ(StoredSteps(), 87u);
  EXPECT_THAT(Gaps(), ElementsAre("0: 1025-1919"));
}

TEST_F(LeftoverUnreadableTest, AHoleThatOnlyAnEndIsBehindIsAGap) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick, 1);
    process.PutSteps(20);  // Records 2 to 21.
    process.End();         // Record 22.
    folder = process.Spill();
  }
  for (const std::uint64_t seq : {19, 20, 21}) {
    ASSERT_TRUE(
        std::filesystem::remove(folder + "/" + SegmentName(seq, "seg")));
  }
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 17u);
  EXPECT_THAT(Gaps(), ElementsAre("0: 17-19"));
}

// A read of its files fails, the next `fails` times.
class BusyDisk : public testing::FaultyDisk {
 public:
  int fails = 0;
  ssize_t ReadAt(int fd, char* out, std::size_t bytes, off_t at) override {
    if (fails > 0) {
      --fails;
      return -EMFILE;
    }
    return Syscalls::ReadAt(fd, out, bytes, at);
  }
};

TEST_F(LeftoverUnreadableTest, WhatRefersToASchemaThatCannotBeReadForNowStays) {
  testing::FaultyDisk quick;
  std::string folder;
  {
    DyingProcess process(root_, MakeIdentity(), &quick, 1);
    process.PutSteps(20);      // Records 2 to 21.
    process.PutSchemaAgain();  // Record 22.
    process.PutSteps(80);
    folder = process.Spill();
  }
  ASSERT_TRUE(std::filesystem::remove(folder + "/" + SegmentName(22, "seg")));
  NoSchemaDisk disk;
  EXPECT_THAT(
      Leftover::Open(testing::SpoolPlace(folder), SpoolUse::kTakeOver, &disk),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr(".schema")));
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
}

TEST_F(LeftoverUnreadableTest,
       StepsWithoutASchemaStayThoughTheFirstReadOfThemFails) {
  const std::string folder = LeaveSpool(root_, 100, MakeIdentity(), 20);
  std::filesystem::remove(folder + "/00000000000000000001.schema");
  const auto before = Bytes(folder);
  BusyDisk disk;
  auto leftover =
      Leftover::Open(testing::SpoolPlace(folder), SpoolUse::kTakeOver, &disk);
  ASSERT_THAT(leftover, IsOk());
  disk.fails = 1;
  EXPECT_FALSE(Finish(Drive(leftover->get()).get()).status.ok());
  EXPECT_EQ(network_.collector.cursor(), 0u);
  EXPECT_EQ(Bytes(folder), before);
}

TEST_F(LeftoverUnreadableTest, ASegmentThatOverlapsAnotherHidesNoRecord) {
  const std::string folder = LeaveSpool(root_, 100);
  const std::string other = dir_.path() + "/other";
  testing::FaultyDisk quick;
  {
    // The same records, each a segment.
    DyingProcess process(other, MakeIdentity(), &quick, 1);
    process.PutSteps(100);
    const std::string from = process.Spill();
    const std::string name = SegmentName(5, "seg");
    std::filesystem::copy(from + "/" + name, folder + "/" + name);
  }
  const auto outcome = Deliver(folder);
  EXPECT_THAT(outcome.status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  EXPECT_THAT(Gaps(), IsEmpty());
}

TEST_F(LeftoverUnreadableTest,
       ASegmentThatIsBroughtBackBesideItsBadOneIsDelivered) {
  const std::string folder = LeaveSpool(root_, 100);
  const std::string name = Segments(folder)[1];
  const std::string bad = folder + "/" + name.substr(0, 20) + ".bad";
  std::filesystem::copy(folder + "/" + name, bad);
  CutOff(bad);
  const std::string damaged = ReadAll(bad);
  EXPECT_THAT(Deliver(folder).status, IsOk());
  EXPECT_EQ(StoredSteps(), 100u);
  EXPECT_THAT(Gaps(), IsEmpty());
  EXPECT_TRUE(ReadAll(bad) == damaged);
}

}  // namespace
}  // namespace gradtap::agent
