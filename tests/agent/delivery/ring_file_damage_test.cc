// Rings that are not as their process left them.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "agent/delivery/ring_file.h"
#include "agent/delivery/ring_file_fixtures.h"

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using testing::ExpectNumbered;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::NumberedRecord;
using testing::ReadAll;
using testing::RingFileTest;
using testing::StatusIs;
using testing::WriteAll;

// Of the format.
constexpr std::size_t kControlAt = 64;
constexpr std::size_t kPublishedAt = kControlAt;
constexpr std::size_t kLastSeqAt = kControlAt + 8;
constexpr std::size_t kTailAt = kControlAt + 64;
constexpr std::size_t kFirstSeqAt = kControlAt + 72;
constexpr std::size_t kTextAt = 256;
constexpr std::size_t kCapacity = 64 * 1024;

class RingFileDamageTest : public RingFileTest {
 protected:
  std::uint64_t Word(std::size_t at) {
    std::uint64_t word = 0;
    std::memcpy(&word, ReadAll(path()).data() + at, sizeof(word));
    return word;
  }
  void SetWord(std::size_t at, std::uint64_t word) {
    Overwrite(at, std::string(reinterpret_cast<char*>(&word), sizeof(word)));
  }
  // In place: the modes stay.
  void Overwrite(std::size_t at, const std::string& bytes) {
    const int fd = ::open(path().c_str(), O_WRONLY);
    EXPECT_EQ(::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)),
              static_cast<ssize_t>(bytes.size()));
    ::close(fd);
  }
  std::size_t RingAt() { return ReadAll(path()).size() - kCapacity; }
  // Of the entry of `seq` in a file that Leave(1, ...) made.
  std::size_t EntryAt(std::uint64_t seq) {
    std::size_t at = RingAt();
    for (std::uint64_t before = 1; before < seq; ++before) {
      at += Ring::EntryBytes(NumberedRecord(before).size());
    }
    return at;
  }

  struct Found {
    std::uint64_t first_seq = 0;
    std::uint64_t last_seq = 0;
    std::vector<std::string> problems;
  };
  // Opens what must open, and expects intact all that it shows.
  Found OpenIntact(SpoolUse use = SpoolUse::kTakeOver) {
    auto left = RingFile::Open(path(), use);
    GRADTAP_EXPECT_OK(left);
    if (!left.ok()) return {};
    const auto ring = (*left)->TakeRing();
    ExpectNumbered(*ring);
    return {ring->first_seq(), ring->last_seq(), (*left)->problems()};
  }
};

// ---- A process may die between any two stores.

TEST_F(RingFileDamageTest,
       ADeathBeforePublishingShowsNothingOfWhatWasReserved) {
  {
    const auto file = Create();
    const auto ring = file->TakeRing();
    ASSERT_TRUE(testing::PutNumbered(ring.get(), 1));
    ASSERT_TRUE(testing::ReserveNumbered(ring.get(), 2));
  }
  const Found found = OpenIntact();
  EXPECT_EQ(found.last_seq, 1u);
  EXPECT_THAT(found.problems, IsEmpty());
}

TEST_F(RingFileDamageTest, ADeathBetweenPublishedAndLastSeqLosesNothing) {
  Leave(1, 8);
  SetWord(kLastSeqAt, 5);
  const Found found = OpenIntact();
  EXPECT_EQ(found.last_seq, 8u);
  EXPECT_THAT(found.problems, IsEmpty());
}

TEST_F(RingFileDamageTest, ADeathBetweenFirstSeqAndTailShowsTheFreedAgain) {
  Leave(1, 8);
  SetWord(kFirstSeqAt, 4);
  const Found found = OpenIntact();
  EXPECT_EQ(found.first_seq, 1u);
  EXPECT_EQ(found.last_seq, 8u);
  EXPECT_THAT(found.problems, IsEmpty());
}

TEST_F(RingFileDamageTest, AnEmptyRingGoesOnWhereItsOwnerStood) {
  {
    const auto file = Create();
    const auto ring = file->TakeRing();
    for (std::uint64_t seq = 1; seq <= 8; ++seq) {
      ASSERT_TRUE(testing::PutNumbered(ring.get(), seq));
    }
    testing::FreeNumbered(ring.get(), 9);
  }
  SetWord(kLastSeqAt, 6);  // All was acknowledged before it was noted.
  const Found found = OpenIntact();
  EXPECT_EQ(found.first_seq, 9u);
  EXPECT_EQ(found.last_seq, 8u);
  EXPECT_THAT(found.problems, IsEmpty());
}

// ---- Damage.

TEST_F(RingFileDamageTest, ABadEntryCutsWhatFollowsAndIsTold) {
  for (const std::size_t at : {0u, 8u, 16u, 20u, 24u, 28u}) {
    SCOPED_TRACE(at);
    Leave(1, 8);
    // Seq, size, kind, recorded_steps, part_index, part_count.
    Overwrite(EntryAt(5) + at, "\xff\xff\xff\xff");
    for (int i = 0; i < 2; ++i) {  // Found each time.
      const Found found = OpenIntact();
      EXPECT_EQ(found.first_seq, 1u);
      EXPECT_EQ(found.last_seq, 4u);
      EXPECT_THAT(found.problems,
                  ElementsAre(HasSubstr("what follows record 4")));
    }
    ASSERT_EQ(::unlink(path().c_str()), 0);
  }
}

TEST_F(RingFileDamageTest, ASizeThatLeavesWhatIsPublishedIsCut) {
  Leave(1, 3);
  const std::uint32_t size = NumberedRecord(3).size() + 8;
  Overwrite(EntryAt(3) + 8,
            std::string(reinterpret_cast<const char*>(&size), sizeof(size)));
  EXPECT_EQ(OpenIntact().last_seq, 2u);
}

TEST_F(RingFileDamageTest, RecordsThatAreNotThereAreTold) {
  Leave(1, 8);
  SetWord(kLastSeqAt, 9);
  const Found found = OpenIntact();
  EXPECT_EQ(found.last_seq, 8u);
  EXPECT_THAT(found.problems,
              ElementsAre(HasSubstr("says that it has 1 to 9")));
}

TEST_F(RingFileDamageTest, PositionsThatCannotBeShowNothing) {
  Leave(1, 8);
  const std::uint64_t published = Word(kPublishedAt);
  for (const std::uint64_t tail :
       {published + 8, std::uint64_t{4}, ~std::uint64_t{0}}) {
    SetWord(kTailAt, tail);
    const Found found = OpenIntact();
    EXPECT_EQ(found.last_seq + 1, found.first_seq);
    EXPECT_THAT(found.problems, ElementsAre(HasSubstr("cannot be")));
  }
  SetWord(kTailAt, 0);
  SetWord(kPublishedAt, kCapacity + 8);
  EXPECT_THAT(OpenIntact().problems, ElementsAre(HasSubstr("cannot be")));
}

TEST_F(RingFileDamageTest, PagesThatWereGivenBackAreNotReadAsRecords) {
  Leave(1, 8);
  SetWord(kPublishedAt, kCapacity);
  const Found found = OpenIntact();
  EXPECT_EQ(found.last_seq, 8u);
  EXPECT_THAT(found.problems, ElementsAre(HasSubstr("it has no bytes"),
                                          HasSubstr("what follows record 8")));
}

TEST_F(RingFileDamageTest, EveryBitOfTheHeaderThatFlipsIsSeen) {
  Leave(1, 4);
  const std::string good = ReadAll(path());
  const std::size_t texts =
      EncodeSegmentHeader(testing::MakeIdentity()).size() +
      Options().spool_root.size();
  for (std::size_t at = 0; at < kTextAt + texts; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const char flipped = static_cast<char>(good[at] ^ (1 << bit));
      Overwrite(at, std::string(1, flipped));
      for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
        auto left = RingFile::Open(path(), use);
        const bool hashed = at < 56 || at >= kTextAt;
        ASSERT_EQ(left.ok(), !hashed) << "byte " << at << ", bit " << bit;
        // In the control words: what it shows is intact.
        if (left.ok()) ExpectNumbered(*(*left)->TakeRing());
      }
      Overwrite(at, good.substr(at, 1));
    }
  }
  EXPECT_EQ(OpenIntact().last_seq, 4u);
}

TEST_F(RingFileDamageTest, EveryLengthThatIsNotItsOwnIsRefused) {
  Leave(1, 4);
  const std::string good = ReadAll(path());
  for (std::size_t length = 0; length < good.size();
       length += length < 1024 ? 1 : 509) {
    ASSERT_EQ(::truncate(path().c_str(), static_cast<off_t>(length)), 0);
    for (const SpoolUse use : {SpoolUse::kTakeOver, SpoolUse::kCopy}) {
      ASSERT_THAT(RingFile::Open(path(), use),
                  StatusIs(absl::StatusCode::kDataLoss, HasSubstr(path())))
          << length;
    }
    Overwrite(0, good);
  }
  Overwrite(good.size(), "more");
  EXPECT_THAT(OpenRingFile(path()),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("in place of")));
}

TEST_F(RingFileDamageTest, AnotherFormatVersionIsRefusedAsSuch) {
  Leave(1, 4);
  Overwrite(8, "\x03");
  EXPECT_THAT(
      OpenRingFile(path()),
      StatusIs(absl::StatusCode::kUnimplemented,
               HasSubstr("format version 3, and this program knows 2")));
}

TEST_F(RingFileDamageTest, AnyBytesInTheRingLeaveWhatIsBeforeThem) {
  std::mt19937_64 random(3);
  Leave(1, 20);
  const std::string good = ReadAll(path());
  const std::size_t ring_at = RingAt();
  const std::uint64_t published = Word(kPublishedAt);
  for (int round = 0; round < 2'000; ++round) {
    const std::size_t from = random() % published;
    std::string noise(1 + random() % (published - from), '\0');
    for (char& c : noise) c = static_cast<char>(random());
    Overwrite(ring_at + from, noise);
    auto left = OpenRingFile(path());
    GRADTAP_ASSERT_OK(left);
    const auto ring = (*left)->TakeRing();
    Ring::Cursor cursor = ring->CursorAt(1);
    EntryView entry;
    std::uint64_t seq = 1;
    for (std::size_t at = 0; ring->Next(&cursor, &entry); ++seq) {
      ASSERT_EQ(entry.seq, seq);
      at += Ring::EntryBytes(entry.bytes.size());
      ASSERT_LE(at, published);
      if (at <= from) {
        ASSERT_TRUE(entry.bytes == NumberedRecord(seq));
      }
    }
    if (seq <= 20) {
      ASSERT_GT(EntryAt(seq) + Ring::EntryBytes(NumberedRecord(seq).size()),
                ring_at + from)
          << "a record before the damage is missing";
    }
    left->reset();
    Overwrite(ring_at + from, good.substr(ring_at + from, noise.size()));
  }
}

TEST_F(RingFileDamageTest, AnyFileAtAllIsRefused) {
  std::mt19937_64 random(4);
  Leave(1, 1);
  for (int round = 0; round < 500; ++round) {
    std::string noise(random() % 10'000, '\0');
    for (char& c : noise) c = static_cast<char>(random());
    if (round % 2 == 0) noise.replace(0, 12, "GTRING01\x01\0\0\0", 12);
    WriteAll(path(), noise);
    EXPECT_FALSE(OpenRingFile(path()).ok());
  }
}

TEST_F(RingFileDamageTest, AnyControlWordsAtAllShowOnlyRecords) {
  std::mt19937_64 random(5);
  Leave(1, 20);
  const std::uint64_t published = Word(kPublishedAt);
  for (int round = 0; round < 2'000; ++round) {
    for (const std::size_t at :
         {kPublishedAt, kLastSeqAt, kTailAt, kFirstSeqAt}) {
      const std::uint64_t any = random();
      SetWord(at, random() % 3 == 0 ? any : any % (2 * published) / 8 * 8);
    }
    auto left = OpenRingFile(path());
    GRADTAP_ASSERT_OK(left);
    const auto ring = (*left)->TakeRing();
    Ring::Cursor cursor = ring->CursorAt(ring->first_seq());
    EntryView entry;
    std::uint64_t seq = ring->first_seq();
    for (; ring->Next(&cursor, &entry); ++seq) ASSERT_EQ(entry.seq, seq);
    ASSERT_EQ(seq, ring->last_seq() + 1);
  }
}

}  // namespace
}  // namespace gradtap::agent
