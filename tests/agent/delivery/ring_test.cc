#include "agent/delivery/ring.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <random>
#include <string>
#include <thread>

#include "agent/delivery/delivery_fixtures.h"
#include "support/status_matchers.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EntriesOf;
using ::gradtap::testing::FreeOldest;
using ::gradtap::testing::MakeRing;

bool Append(Ring* ring, const std::string& bytes,
            Ring::Room room = Ring::Room::kOrdinary, EntryMeta meta = {}) {
  char* const out = ring->Reserve(meta, bytes.size(), room);
  if (out == nullptr) return false;
  std::memcpy(out, bytes.data(), bytes.size());
  ring->Publish();
  return true;
}

TEST(RingMemoryTest, BothHalvesAreTheSameBytes) {
  auto memory = RingMemory::Create(1);
  GRADTAP_ASSERT_OK(memory);
  ASSERT_GE((*memory)->size(), 4096u);
  (*memory)->data()[3] = 'x';
  EXPECT_EQ((*memory)->data()[3 + (*memory)->size()], 'x');
  (*memory)->data()[2 * (*memory)->size() - 1] = 'y';
  EXPECT_EQ((*memory)->data()[(*memory)->size() - 1], 'y');
}

TEST(RingMemoryTest, MoreThanTheSystemHasIsRefusedWithTheSize) {
  EXPECT_THAT(RingMemory::Create(0),
              testing::StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("0 bytes")));
  EXPECT_FALSE(RingMemory::Create(std::size_t{1} << 62).ok());
}

TEST(RingTest, AReserveOfHalfTheRingIsRefused) {
  auto memory = RingMemory::Create(4096);
  GRADTAP_ASSERT_OK(memory);
  EXPECT_FALSE(Ring::Create(*std::move(memory), 2048).ok());
}

TEST(RingTest, SeqsBeginAtOneAndHaveNoHoles) {
  auto ring = MakeRing(64 * 1024);
  EXPECT_EQ(ring->last_seq(), 0u);
  EXPECT_EQ(ring->first_seq(), 1u);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(Append(ring.get(), "record"));
  const auto entries = EntriesOf(*ring);
  ASSERT_EQ(entries.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(entries[i].seq, i + 1);
  EXPECT_EQ(ring->last_seq(), 5u);
}

TEST(RingTest, WhatIsNotPublishedIsNotSeenAndCanBeTakenBack) {
  auto ring = MakeRing(64 * 1024);
  ASSERT_NE(ring->Reserve({}, 100, Ring::Room::kOrdinary), nullptr);
  ASSERT_NE(ring->Reserve({}, 100, Ring::Room::kOrdinary), nullptr);
  EXPECT_TRUE(EntriesOf(*ring).empty());
  ring->Abandon();
  ASSERT_TRUE(Append(ring.get(), "after"));
  const auto entries = EntriesOf(*ring);
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].seq, 1u);
  EXPECT_EQ(entries[0].bytes, "after");
}

TEST(RingTest, AFullRingRefusesAndChangesNothing) {
  auto ring = MakeRing(4096, 256);
  int admitted = 0;
  while (Append(ring.get(), std::string(100, 'a'))) ++admitted;
  EXPECT_GT(admitted, 10);
  EXPECT_EQ(ring->last_seq(), static_cast<std::uint64_t>(admitted));
  EXPECT_EQ(EntriesOf(*ring).size(), static_cast<std::size_t>(admitted));
  FreeOldest(ring.get(), 1);
  EXPECT_TRUE(Append(ring.get(), std::string(100, 'b')));
  EXPECT_FALSE(Append(ring.get(), std::string(100, 'c')));
  EXPECT_EQ(EntriesOf(*ring).back().bytes, std::string(100, 'b'));
}

TEST(RingTest, TheReserveIsForThoseWhoMayUseIt) {
  auto ring = MakeRing(4096, 1024);
  while (Append(ring.get(), std::string(16, 'a'))) {
  }
  EXPECT_EQ(ring->FreeBytes(Ring::Room::kOrdinary) / 128, 0u);
  EXPECT_GE(ring->FreeBytes(Ring::Room::kAll), 1024u);
  EXPECT_TRUE(Append(ring.get(), std::string(500, 'e'), Ring::Room::kAll));
}

TEST(RingTest, ARecordAsLargeAsTheRingFitsAtAnyPosition) {
  auto ring = MakeRing(8192, 0);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(Append(ring.get(), std::string(333, 'p')));
    FreeOldest(ring.get(), 1);
    const std::string large(8192 - Ring::EntryBytes(0), 'A' + i % 26);
    ASSERT_TRUE(Append(ring.get(), large)) << i;
    ASSERT_EQ(EntriesOf(*ring).back().bytes, large);
    FreeOldest(ring.get(), 1);
  }
}

TEST(RingTest, ReadingAgainFromAnySeqAtHandGivesTheSame) {
  auto ring = MakeRing(64 * 1024);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(Append(ring.get(), "record " + std::to_string(i + 1)));
  }
  FreeOldest(ring.get(), 7);
  for (std::uint64_t seq = 8; seq <= 20; ++seq) {
    Ring::Cursor cursor = ring->CursorAt(seq);
    EntryView entry;
    ASSERT_TRUE(ring->Next(&cursor, &entry));
    EXPECT_EQ(entry.seq, seq);
    EXPECT_EQ(entry.bytes, "record " + std::to_string(seq));
  }
  EntryView entry;
  Ring::Cursor end = ring->CursorAt(21);
  EXPECT_FALSE(ring->Next(&end, &entry));
  // Out of range: the nearer end.
  Ring::Cursor before = ring->CursorAt(1);
  ASSERT_TRUE(ring->Next(&before, &entry));
  EXPECT_EQ(entry.seq, 8u);
  Ring::Cursor beyond = ring->CursorAt(1'000'000);
  EXPECT_FALSE(ring->Next(&beyond, &entry));
}

TEST(RingTest, ReadBySeqGivesWhatACursorGivesInAnyOrder) {
  auto ring = MakeRing(64 * 1024);
  std::mt19937 random(7);
  for (int turn = 0; turn < 2'000; ++turn) {
    Append(ring.get(), std::string(random() % 900, 'a' + turn % 26));
    if (random() % 8 == 0) {
      ring->FreeBefore(ring->first_seq() + random() % 40);
    }
    const auto entries = EntriesOf(*ring);
    ASSERT_EQ(entries.size(), ring->last_seq() + 1 - ring->first_seq());
    for (int i = 0; i < 4; ++i) {
      const std::uint64_t seq =
          ring->first_seq() + random() % (entries.size() + 1);
      EntryView entry;
      const bool at_hand = seq <= ring->last_seq();
      ASSERT_EQ(ring->Read(seq, &entry), at_hand) << seq;
      if (!at_hand) continue;
      EXPECT_EQ(entry.seq, seq);
      EXPECT_EQ(entry.bytes, entries[seq - ring->first_seq()].bytes);
      std::size_t bytes = 0;
      for (std::size_t k = seq - ring->first_seq(); k < entries.size(); ++k) {
        bytes += Ring::EntryBytes(entries[k].bytes.size());
      }
      EXPECT_EQ(ring->BytesFrom(seq), bytes);
    }
    EntryView entry;
    EXPECT_FALSE(ring->Read(ring->first_seq() - 1, &entry));
  }
}

TEST(RingTest, MoreThanThereIsCannotBeFreed) {
  auto ring = MakeRing(64 * 1024);
  for (int i = 0; i < 3; ++i) Append(ring.get(), "record");
  ring->FreeBefore(100);
  EXPECT_EQ(ring->first_seq(), 4u);
  ring->FreeBefore(2);
  EXPECT_EQ(ring->first_seq(), 4u);
  Append(ring.get(), "next");
  EntryView entry;
  ASSERT_TRUE(ring->Read(4, &entry));
  EXPECT_EQ(entry.bytes, "next");
}

TEST(RingTest, ARejectedMarkStaysWithItsEntry) {
  auto ring = MakeRing(64 * 1024);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(Append(ring.get(), "r"));
  Ring::Cursor cursor = ring->CursorAt(2);
  EntryView entry;
  ASSERT_TRUE(ring->Next(&cursor, &entry));
  EXPECT_FALSE(entry.rejected);
  ring->MarkRejected(entry);
  cursor = ring->CursorAt(1);
  for (std::uint64_t seq = 1; seq <= 3; ++seq) {
    ASSERT_TRUE(ring->Next(&cursor, &entry));
    EXPECT_EQ(entry.rejected, seq == 2) << seq;
  }
}

TEST(RingTest, RandomSizesSurviveManyTurns) {
  auto ring = MakeRing(16 * 1024, 512);
  std::mt19937 random(7);
  std::deque<std::string> model;
  std::uint64_t first = 1;
  for (int i = 0; i < 20'000; ++i) {
    const std::string record(random() % 900, static_cast<char>(random()));
    if (random() % 2 == 0) {
      if (Append(ring.get(), record)) model.push_back(record);
    } else if (!model.empty()) {
      EXPECT_EQ(ring->first_seq(), first);
      FreeOldest(ring.get(), 1);
      model.pop_front();
      ++first;
    }
    if (i % 500 == 0) {
      const auto entries = EntriesOf(*ring);
      ASSERT_EQ(entries.size(), model.size());
      for (std::size_t k = 0; k < model.size(); ++k) {
        ASSERT_EQ(entries[k].bytes, model[k]);
        ASSERT_EQ(entries[k].seq, first + k);
      }
    }
  }
}

TEST(RingTest, OneThreadWritesWhileAnotherReadsAndFrees) {
  constexpr std::uint64_t kRecords = 200'000;
  auto ring = MakeRing(64 * 1024, 1024);
  std::atomic<std::uint64_t> refused{0};
  std::thread producer([&] {
    std::mt19937 random(1);
    for (std::uint64_t n = 0; n < kRecords;) {
      const std::size_t size = 8 + random() % 200;
      EntryMeta meta;
      meta.step = static_cast<std::int64_t>(n);
      char* const out = ring->Reserve(meta, size, Ring::Room::kOrdinary);
      if (out == nullptr) {
        refused.fetch_add(1, std::memory_order_relaxed);
        std::this_thread::yield();
        continue;
      }
      std::memset(out, static_cast<int>(n % 251), size);
      if (n % 3 == 0) {
        ring->Abandon();  // Taken back, then written again.
        char* const again = ring->Reserve(meta, size, Ring::Room::kOrdinary);
        ASSERT_NE(again, nullptr);
        std::memset(again, static_cast<int>(n % 251), size);
      }
      ring->Publish();
      ++n;
    }
  });
  std::uint64_t next = 1;
  while (next <= kRecords) {
    Ring::Cursor cursor = ring->CursorAt(ring->first_seq());
    EntryView entry;
    while (ring->Next(&cursor, &entry)) {
      ASSERT_EQ(entry.seq, next);
      ASSERT_EQ(entry.meta.step, static_cast<std::int64_t>(next - 1));
      const char expected = static_cast<char>((next - 1) % 251);
      ASSERT_EQ(entry.bytes.front(), expected);
      ASSERT_EQ(entry.bytes.back(), expected);
      ++next;
    }
    ring->FreeBefore(cursor, next);
  }
  producer.join();
  EXPECT_EQ(ring->last_seq(), kRecords);
}

}  // namespace
}  // namespace gradtap::agent
