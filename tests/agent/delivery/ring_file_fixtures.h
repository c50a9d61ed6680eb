// A ring in a file, with records that say themselves what they should be.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_RING_FILE_FIXTURES_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_RING_FILE_FIXTURES_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "agent/delivery/ring_file.h"
#include "agent/spool/spool_fixtures.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::testing {

// Of a file made by RingFileTest::Options().
inline constexpr char kRingName[] = "30313233343536373839616263646566.ring";

// The bytes of record `seq`: every one depends on the seq, and the length too.
inline std::string NumberedRecord(std::uint64_t seq) {
  std::string bytes(16 + (seq * 7919) % 2900, '\0');
  std::uint64_t state = seq;
  for (char& c : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    c = static_cast<char>(state >> 56);
  }
  return bytes;
}

// Reserves record `seq`; false if there is no room.
inline bool ReserveNumbered(agent::Ring* ring, std::uint64_t seq) {
  const std::string bytes = NumberedRecord(seq);
  char* const out = ring->Reserve(StepMeta(static_cast<std::int64_t>(seq)),
                                  bytes.size(), agent::Ring::Room::kOrdinary);
  if (out == nullptr) return false;
  std::memcpy(out, bytes.data(), bytes.size());
  return true;
}
inline bool PutNumbered(agent::Ring* ring, std::uint64_t seq) {
  if (!ReserveNumbered(ring, seq)) return false;
  ring->Publish();
  return true;
}

// Frees all before `seq`.
inline void FreeNumbered(agent::Ring* ring, std::uint64_t seq) {
  ring->FreeBefore(ring->CursorAt(seq), seq);
}

// Expects first_seq() to last_seq() there, each as it was put.
inline void ExpectNumbered(const agent::Ring& ring) {
  agent::Ring::Cursor cursor = ring.CursorAt(ring.first_seq());
  agent::EntryView entry;
  std::uint64_t seq = ring.first_seq();
  for (; ring.Next(&cursor, &entry); ++seq) {
    ASSERT_EQ(entry.seq, seq);
    ASSERT_EQ(entry.meta.step, static_cast<std::int64_t>(seq));
    ASSERT_TRUE(entry.bytes == NumberedRecord(seq)) << "record " << seq;
  }
  EXPECT_EQ(seq, ring.last_seq() + 1);
}

class RingFileTest : public ::testing::Test {
 protected:
  agent::RingFileOptions Options(std::size_t capacity = 64 * 1024) {
    agent::RingFileOptions options;
    options.folder = folder();
    options.capacity_bytes = capacity;
    options.reserve_bytes = 1024;
    options.identity = MakeIdentity();
    options.spool_root = "/home/user/spool";
    return options;
  }
  std::string folder() const { return dir_.path() + "/rings"; }
  std::string path() const { return folder() + "/" + kRingName; }

  std::unique_ptr<agent::RingFile> Create(std::size_t capacity = 64 * 1024) {
    auto file = agent::RingFile::Create(Options(capacity));
    GRADTAP_EXPECT_OK(file);
    return file.ok() ? *std::move(file) : nullptr;
  }
  // Leaves a file with the records `first` to `last`, put by a process that
  // has freed those before.
  void Leave(std::uint64_t first, std::uint64_t last) {
    auto file = Create();
    ASSERT_NE(file, nullptr);
    const auto ring = file->TakeRing();
    for (std::uint64_t seq = 1; seq <= last; ++seq) {
      ASSERT_TRUE(PutNumbered(ring.get(), seq)) << seq;
      if (seq < first) FreeNumbered(ring.get(), seq + 1);
    }
  }

  // Where shared memory is, if this machine has any.
  TempDir dir_{std::filesystem::is_directory("/dev/shm")
                   ? "/dev/shm"
                   : std::filesystem::temp_directory_path().string()};
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_RING_FILE_FIXTURES_H_
