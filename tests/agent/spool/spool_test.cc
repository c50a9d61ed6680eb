#include "agent/spool/spool.h"

#include <errno.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/spool/spool_fixtures.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using testing::FaultyDisk;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeIdentity;
using testing::NamesIn;
using testing::Payload;
using testing::StatusIs;
using testing::StepMeta;

constexpr char kNonceName[] = "30313233343536373839616263646566";

class SpoolTest : public ::testing::Test {
 protected:
  std::string root() const { return dir_.path() + "/a/spool"; }
  std::string folder() const { return root() + "/" + kNonceName; }
  std::string file(const std::string& name) const {
    return folder() + "/" + name;
  }

  std::unique_ptr<Spool> Create(std::uint64_t segment_bytes = 600,
                                std::uint64_t max_bytes = 1 << 20) {
    SpoolOptions options;
    options.segment_bytes = segment_bytes;
    options.max_bytes = max_bytes;
    auto spool = Spool::Create(root(), MakeIdentity(), options, &disk_);
    EXPECT_THAT(spool, testing::IsOk());
    return spool.ok() ? *std::move(spool) : nullptr;
  }
  std::unique_ptr<Spool> Open(SpoolUse use = SpoolUse::kTakeOver) {
    auto spool = Spool::Open(folder(), use, &disk_);
    EXPECT_THAT(spool, testing::IsOk());
    return spool.ok() ? *std::move(spool) : nullptr;
  }
  static absl::Status Append(Spool* spool, std::uint64_t seq) {
    return spool->Append(seq, StepMeta(static_cast<std::int64_t>(seq)),
                         Payload(seq));
  }
  static void Fill(Spool* spool, std::uint64_t first, std::uint64_t last) {
    for (std::uint64_t seq = first; seq <= last; ++seq) {
      ASSERT_THAT(Append(spool, seq), testing::IsOk());
    }
  }
  static void ExpectRecords(Spool* spool, std::uint64_t first,
                            std::uint64_t last) {
    for (std::uint64_t seq = first; seq <= last; ++seq) {
      const auto entry = spool->Read(seq);
      ASSERT_THAT(entry, testing::IsOk());
      EXPECT_EQ(entry->seq, seq);
      EXPECT_EQ(entry->bytes, Payload(seq));
      EXPECT_EQ(entry->meta.step, static_cast<std::int64_t>(seq));
    }
  }
  // A spool of 1..20 in several segments, left behind.
  void Leave() { Fill(Create().get(), 1, 20); }
  // Name of the segment that begins n-th.
  std::string Nth(std::size_t n) const {
    auto names = NamesIn(folder());
    std::erase(names, "owner");
    return names.at(n);
  }
  static std::uint64_t SeqOf(const std::string& name) {
    return std::stoull(name.substr(0, 20));
  }

  testing::TempDir dir_;
  FaultyDisk disk_;
};

TEST_F(SpoolTest, RecordsReadBackInTheSameProcessAndTheNext) {
  auto spool = Create();
  EXPECT_GT(spool->first_seq(), spool->last_seq());
  Fill(spool.get(), 1, 20);
  EXPECT_EQ(spool->first_seq(), 1u);
  EXPECT_EQ(spool->last_seq(), 20u);
  ExpectRecords(spool.get(), 1, 20);
  Fill(spool.get(), 21, 25);  // Reading does not end writing.
  spool.reset();
  spool = Open();
  EXPECT_EQ(spool->identity(), MakeIdentity());
  EXPECT_EQ(spool->last_seq(), 25u);
  ExpectRecords(spool.get(), 1, 25);
  ExpectRecords(spool.get(), 7, 9);  // Back, too.
  EXPECT_TRUE(spool->TakeProblems().empty());
}

TEST_F(SpoolTest, FolderAndFilesArePrivateWhateverTheUmask) {
  const mode_t before = ::umask(0);
  Leave();
  ::umask(before);
  struct stat about {};
  ASSERT_EQ(::stat(folder().c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0700u);
  ASSERT_EQ(::stat(root().c_str(), &about), 0);
  EXPECT_EQ(about.st_mode & 07777, 0700u);
  for (const std::string& name : NamesIn(folder())) {
    ASSERT_EQ(::stat(file(name).c_str(), &about), 0);
    EXPECT_EQ(about.st_mode & 07777, 0600u) << name;
  }
}

TEST_F(SpoolTest, FreeingDeletesWholeSegmentsAndInTheEndTheFolder) {
  Leave();
  auto spool = Open();
  const std::size_t files = NamesIn(folder()).size();
  spool->FreeBefore(SeqOf(Nth(1)));
  EXPECT_EQ(NamesIn(folder()).size(), files - 1);
  spool->FreeBefore(SeqOf(Nth(1)) - 1);  // All but one of the next.
  EXPECT_EQ(NamesIn(folder()).size(), files - 1);
  ExpectRecords(spool.get(), spool->first_seq(), 20);
  EXPECT_THAT(spool->Read(1),
              StatusIs(absl::StatusCode::kOutOfRange, HasSubstr("record 1")));
  spool->FreeBefore(21);
  EXPECT_EQ(spool->bytes(), 0u);
  spool.reset();
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(SpoolTest, FreedSpaceIsUsedAgainFromAnySeqOn) {
  auto spool = Create();
  Fill(spool.get(), 1, 5);
  spool->FreeBefore(6);
  Fill(spool.get(), 40, 45);
  EXPECT_EQ(spool->first_seq(), 40u);
  ExpectRecords(spool.get(), 40, 45);
}

TEST_F(SpoolTest, ACopyIsReadAndLeftAsItIs) {
  Leave();
  ::chmod(folder().c_str(), 0755);
  for (const auto& name : NamesIn(folder())) {
    ::chmod(file(name).c_str(), 0644);
  }
  testing::WriteAll(file(Nth(1)), "nonsense");
  const auto before = NamesIn(folder());
  auto spool = Open(SpoolUse::kCopy);
  ExpectRecords(spool.get(), 1, SeqOf(Nth(1)) - 1);
  EXPECT_EQ(spool->TakeProblems().size(), 1u);
  spool->FreeBefore(21);
  spool.reset();
  EXPECT_EQ(NamesIn(folder()), before);
}

TEST_F(SpoolTest, AFullSpoolSaysSoAndTakesMoreOnceThereIsRoom) {
  auto spool = Create(600, 2000);
  std::uint64_t seq = 1;
  absl::Status status;
  while ((status = Append(spool.get(), seq)).ok()) ++seq;
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted,
                               HasSubstr("full, at 2000 bytes")));
  EXPECT_LE(spool->bytes(), 2000u);
  EXPECT_GT(seq, 5u);
  spool->FreeBefore(SeqOf(Nth(1)));
  GRADTAP_EXPECT_OK(Append(spool.get(), seq));
  ExpectRecords(spool.get(), spool->first_seq(), seq);
}

TEST_F(SpoolTest, AFullDiskAtAnyByteLosesNothingThatWasTaken) {
  for (std::int64_t room = 0; room < 1500; room += 7) {
    disk_.room = room;
    auto spool = Create();
    std::uint64_t seq = 1;
    absl::Status status;
    while ((status = Append(spool.get(), seq)).ok()) ++seq;
    ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    // Again and again, without a wrong success.
    ASSERT_FALSE(Append(spool.get(), seq).ok());
    disk_.room = 1 << 20;
    Fill(spool.get(), seq, 20);
    spool.reset();
    spool = Open();
    ASSERT_EQ(spool->last_seq(), 20u);
    ExpectRecords(spool.get(), 1, 20);
    ASSERT_TRUE(spool->TakeProblems().empty()) << room;
    spool->FreeBefore(21);
  }
}

TEST_F(SpoolTest, ARecordWrittenInPartThatCannotBeTakenBackIsSetAside) {
  auto spool = Create();
  Fill(spool.get(), 1, 2);
  disk_.room = 20;
  disk_.write_error = EIO;
  disk_.truncate_error = EIO;
  EXPECT_THAT(Append(spool.get(), 3),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr(".seg")));
  disk_.room = 1 << 20;
  Fill(spool.get(), 3, 8);
  ExpectRecords(spool.get(), 1, 8);
  spool.reset();
  spool = Open();
  EXPECT_EQ(spool->TakeProblems().size(), 1u);
  ExpectRecords(spool.get(), 1, 8);
  spool->FreeBefore(9);
  spool.reset();
  EXPECT_THAT(NamesIn(folder()),
              ElementsAre("00000000000000000001.bad", "owner"));
}

TEST_F(SpoolTest, ASegmentWhoseFirstRecordCannotBeTakenBackLeavesNothing) {
  const auto header =
      static_cast<std::int64_t>(EncodeSegmentHeader(MakeIdentity()).size());
  const auto fail = [&](Spool* spool, std::uint64_t seq) {
    disk_.room = header + 20;
    disk_.truncate_error = EIO;
    EXPECT_FALSE(Append(spool, seq).ok());
    disk_.room = 1 << 20;
    disk_.truncate_error = 0;
  };
  auto spool = Create(/*segment_bytes=*/1);
  fail(spool.get(), 1);
  EXPECT_EQ(spool->bytes(), 0u);
  Fill(spool.get(), 1, 2);
  fail(spool.get(), 3);
  Fill(spool.get(), 3, 4);
  ExpectRecords(spool.get(), 1, 4);
  ExpectRecords(spool.get(), 1, 2);  // Not 3: from the disk, later.
  spool->FreeBefore(3);
  ExpectRecords(spool.get(), 3, 4);
  EXPECT_THAT(NamesIn(folder()),
              ElementsAre("00000000000000000003.seg",
                          "00000000000000000004.seg", "owner"));
  spool.reset();
  spool = Open();
  EXPECT_THAT(spool->TakeProblems(), IsEmpty());
  ExpectRecords(spool.get(), 3, 4);
}

TEST_F(SpoolTest, ASpoolWithoutAWholeRecordLeavesNothing) {
  auto spool = Create();
  disk_.room =
      static_cast<std::int64_t>(EncodeSegmentHeader(MakeIdentity()).size()) +
      20;
  disk_.truncate_error = EIO;
  EXPECT_FALSE(Append(spool.get(), 1).ok());
  spool.reset();
  EXPECT_THAT(NamesIn(root()), IsEmpty());
}

TEST_F(SpoolTest, ClosedSegmentsAreSyncedAndAFailedSyncIsSaid) {
  auto spool = Create();
  Fill(spool.get(), 1, 20);
  GRADTAP_EXPECT_OK(spool->Close());
  const int segments = static_cast<int>(NamesIn(folder()).size()) - 1;
  EXPECT_EQ(disk_.data_syncs, segments);
  EXPECT_EQ(disk_.folder_syncs, segments + 1);  // And of the root.
  Fill(spool.get(), 21, 21);
  disk_.sync_error = EIO;
  EXPECT_THAT(spool->Close(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("fdatasync")));
  EXPECT_EQ(spool->TakeProblems().size(), 1u);
}

TEST_F(SpoolTest, ATornTailCostsTheRecordsBehindItAndIsKept) {
  Leave();
  const std::string last = Nth(NamesIn(folder()).size() - 2);
  const std::string bytes = testing::ReadAll(file(last));
  testing::WriteAll(file(last), bytes.substr(0, bytes.size() - 1));
  auto spool = Open();
  EXPECT_EQ(spool->last_seq(), 19u);
  ExpectRecords(spool.get(), 1, 19);
  EXPECT_THAT(spool->TakeProblems(),
              ElementsAre(HasSubstr("a record is cut off")));
  spool->FreeBefore(20);
  spool.reset();
  const std::string bad = last.substr(0, 21) + "bad";
  EXPECT_THAT(NamesIn(folder()), ElementsAre(bad, "owner"));
  EXPECT_EQ(testing::ReadAll(file(bad)).size(), bytes.size() - 1);
}

TEST_F(SpoolTest, ATornTailIsNoDamageWhereTheRingHasItsRecord) {
  Leave();
  const std::string last = Nth(NamesIn(folder()).size() - 2);
  const std::string bytes = testing::ReadAll(file(last));
  testing::WriteAll(file(last), bytes.substr(0, bytes.size() - 1));
  struct Ring {
    std::uint64_t first, last;
    std::size_t problems;
  };
  for (const Ring ring :
       {Ring{20, 20, 0}, Ring{1, 30, 0}, Ring{1, 19, 1}, Ring{21, 30, 1}}) {
    auto opening = Spool::Opening::Begin(folder(), SpoolUse::kCopy, &disk_);
    GRADTAP_ASSERT_OK(opening);
    (*opening)->RingHas(ring.first, ring.last);
    std::unique_ptr<Spool> spool;
    while (spool == nullptr) {
      auto stepped = (*opening)->Step();
      GRADTAP_ASSERT_OK(stepped);
      spool = *std::move(stepped);
    }
    EXPECT_EQ(spool->last_seq(), 19u);
    EXPECT_EQ(spool->TakeProblems().size(), ring.problems)
        << "the ring has " << ring.first << " to " << ring.last;
  }
}

TEST_F(SpoolTest, AnUnreadableSegmentInTheMiddleBecomesADeclaredGap) {
  Leave();
  const std::string bad = Nth(1);
  const std::uint64_t first = SeqOf(bad);
  const std::uint64_t after = SeqOf(Nth(2));
  testing::WriteAll(file(bad), "nonsense");
  for (int again = 0; again < 2; ++again) {
    auto spool = Open();
    ExpectRecords(spool.get(), 1, first - 1);
    ExpectRecords(spool.get(), after, 20);
    for (std::uint64_t seq = first; seq + 1 < after; ++seq) {
      ASSERT_THAT(spool->Read(seq), testing::IsOk());
      EXPECT_EQ(spool->Read(seq)->bytes, "");
    }
    const auto gap = spool->Read(after - 1);
    ASSERT_THAT(gap, testing::IsOk());
    EXPECT_EQ(gap->meta.kind, EntryKind::kGap);
    EXPECT_EQ(gap->meta.cause, GapCause::kIoError);
    EXPECT_EQ(gap->meta.step, static_cast<std::int64_t>(first));
    EXPECT_EQ(gap->meta.last_step, static_cast<std::int64_t>(after) - 1);
    EXPECT_EQ(gap->meta.steps, after - first);
    EXPECT_NE(gap->bytes, "");
    // Said once; the second time it is aside already.
    EXPECT_EQ(spool->TakeProblems().size(), again == 0 ? 1u : 0u);
    EXPECT_TRUE(std::filesystem::exists(file(bad.substr(0, 21) + "bad")));
  }
}

// Its process died between making it and putting something into it.
TEST_F(SpoolTest, ASegmentWithoutARecordLeavesNothingBehind) {
  const std::string header = EncodeSegmentHeader(MakeIdentity());
  Fill(Create().get(), 1, 3);
  testing::WriteAll(file("00000000000000000004.seg"), header);
  ::chmod(file("00000000000000000004.seg").c_str(), 0600);
  auto spool = Open();
  EXPECT_EQ(spool->last_seq(), 3u);
  EXPECT_THAT(spool->TakeProblems(), ElementsAre());
  spool->FreeBefore(4);
  spool = nullptr;
  EXPECT_FALSE(std::filesystem::exists(folder()));

  ASSERT_TRUE(std::filesystem::create_directories(folder()));
  ::chmod(folder().c_str(), 0700);
  testing::WriteAll(file("00000000000000000001.seg"), header);
  ::chmod(file("00000000000000000001.seg").c_str(), 0600);
  EXPECT_THAT(Spool::Open(folder(), SpoolUse::kCopy, &disk_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no record")));
  EXPECT_TRUE(std::filesystem::exists(folder()));
  EXPECT_THAT(Spool::Open(folder(), SpoolUse::kTakeOver, &disk_),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no record")));
  EXPECT_FALSE(std::filesystem::exists(folder()));
}

TEST_F(SpoolTest, AReadErrorIsNoLoss) {
  Leave();
  auto spool = Open();
  disk_.read_error = EIO;
  EXPECT_THAT(spool->Read(1), StatusIs(absl::StatusCode::kUnavailable,
                                       HasSubstr("cannot be read")));
  disk_.read_error = 0;
  ExpectRecords(spool.get(), 1, 20);
}

TEST_F(SpoolTest, AReadErrorAtTheBeginningIsNoLossEither) {
  Leave();
  const std::vector<std::string> before = NamesIn(folder());
  disk_.read_error = EIO;
  for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
    EXPECT_THAT(Spool::Open(folder(), use, &disk_),
                StatusIs(absl::StatusCode::kUnavailable,
                         HasSubstr("until it can be read")));
  }
  EXPECT_EQ(NamesIn(folder()), before);
  disk_.read_error = 0;
  ExpectRecords(Open().get(), 1, 20);
}

TEST_F(SpoolTest, ASegmentOfAnotherProcessIsSetAside) {
  Leave();
  const std::string last = Nth(NamesIn(folder()).size() - 2);
  SpoolIdentity other = MakeIdentity();
  other.process_nonce = "fedcba9876543210";
  testing::WriteAll(file(last),
                    EncodeSegmentHeader(other) +
                        EncodeRecordHead(SeqOf(last), StepMeta(1), "x") + "x");
  auto spool = Open();
  EXPECT_EQ(spool->last_seq(), SeqOf(last) - 1);
  EXPECT_THAT(spool->TakeProblems(),
              ElementsAre(HasSubstr("of another process")));
}

TEST_F(SpoolTest, ASymbolicLinkForASegmentIsNotFollowed) {
  Leave();
  const std::string name = Nth(0);
  const std::string elsewhere = dir_.path() + "/elsewhere";
  std::filesystem::rename(file(name), elsewhere);
  std::filesystem::create_symlink(elsewhere, file(name));
  auto spool = Open();
  EXPECT_THAT(spool->TakeProblems(),
              ElementsAre(HasSubstr("it is a symbolic link")));
  EXPECT_GT(spool->Read(1)->meta.kind, EntryKind::kStep);  // A stand-in.
  EXPECT_TRUE(std::filesystem::exists(elsewhere));
}

TEST_F(SpoolTest, ASegmentThatOthersMayReachIsSetAside) {
  Leave();
  ::chmod(file(Nth(0)).c_str(), 0644);
  auto spool = Open();
  EXPECT_THAT(spool->TakeProblems(), ElementsAre(HasSubstr("0600")));
}

TEST_F(SpoolTest, OpenedInPiecesEachReadsOneSegmentAndTheLastGivesTheSpool) {
  Leave();
  const std::size_t segments = NamesIn(folder()).size() - 1;
  ASSERT_GT(segments, 3u);
  auto opening = Spool::Opening::Begin(folder(), SpoolUse::kTakeOver, &disk_);
  GRADTAP_ASSERT_OK(opening);
  for (std::size_t i = 1; i < segments; ++i) {
    const auto spool = (*opening)->Step();
    GRADTAP_ASSERT_OK(spool);
    EXPECT_EQ(*spool, nullptr);
  }
  const auto spool = (*opening)->Step();
  GRADTAP_ASSERT_OK(spool);
  ASSERT_NE(*spool, nullptr);
  ExpectRecords(spool->get(), 1, 20);
  EXPECT_EQ((*spool)->steps_found(), 20u);
  EXPECT_GT((*spool)->bytes(), 20 * kRecordHeadBytes);
}

TEST_F(SpoolTest, WhatANewerProgramWroteIsLeftToIt) {
  Leave();
  const std::string last = Nth(NamesIn(folder()).size() - 2);
  testing::WriteAll(file(last),
                    testing::OfVersion(3, testing::ReadAll(file(last))));
  const auto before = NamesIn(folder());
  for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
    EXPECT_THAT(Spool::Open(folder(), use, &disk_),
                StatusIs(absl::StatusCode::kUnimplemented,
                         HasSubstr(last + "': it has format version 3, and")));
  }
  EXPECT_EQ(NamesIn(folder()), before);
}

TEST_F(SpoolTest, AFolderWithoutAReadableRecordSaysWhy) {
  Leave();
  for (const auto& name : NamesIn(folder())) {
    if (name != "owner") testing::WriteAll(file(name), "nonsense");
  }
  EXPECT_THAT(Spool::Open(folder(), SpoolUse::kTakeOver, &disk_),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("cut off")));
}

}  // namespace
}  // namespace gradtap::agent
