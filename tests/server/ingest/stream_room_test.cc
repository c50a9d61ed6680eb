// What streams may take of the collector's memory.

#include "server/ingest/stream_room.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "server/ingest/commit_runner.h"
#include "server/ingest/fake_store.h"
#include "server/store/store_testing.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using testing::MakeHello;

std::shared_ptr<const RunEntry> OneRun(const std::string& name,
                                       std::size_t streams,
                                       std::size_t branches,
                                       std::int64_t created_unix_ns = 1) {
  auto run = std::make_shared<RunEntry>();
  run->run = name;
  run->created_unix_ns = created_unix_ns;
  run->streams.resize(streams);
  for (StreamEntry& stream : run->streams) stream.branches.resize(branches);
  return run;
}

std::uint64_t BytesOf(const RunEntry& run) {
  std::uint64_t bytes = 0;
  for (const StreamEntry& one : run.streams) bytes += StreamRoom::BytesOf(one);
  return bytes;
}

TEST(StreamRoomTest, ARunHasAQuarterAndAllHaveAllOfIt) {
  StreamRoom room(1'000);
  EXPECT_THAT(room.Take("a", 251),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at most 250 bytes")));
  EXPECT_THAT(room.Take("a", 250), IsOk());
  EXPECT_THAT(room.Take("a", 1), StatusIs(absl::StatusCode::kResourceExhausted,
                                          HasSubstr("another run")));
  for (const char* run : {"b", "c", "d"}) {
    EXPECT_THAT(room.Take(run, 220), IsOk());
  }
  EXPECT_THAT(room.Take("e", 100),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("delete a run")));
  room.GiveBack("b", 50);
  EXPECT_THAT(room.Take("e", 100), IsOk());
}

TEST(StreamRoomTest, WhatIsStoredIsCountedWhenItIsSeenAndLeavesWithItsRun) {
  const auto big = OneRun("big", 3, 100);
  const std::uint64_t bytes = BytesOf(*big);
  EXPECT_GE(bytes, 3 * 99 * StreamRoom::kBranchBytes);
  StreamRoom room(4 * bytes);
  room.LookAt({big});
  room.LookAt({big});  // Once is enough.
  EXPECT_FALSE(room.Take("big", 1).ok());
  EXPECT_THAT(room.Take("big", 0), IsOk());  // A stream that is there already.
  for (const char* run : {"a", "b", "c"}) {
    EXPECT_THAT(room.Take(run, bytes), IsOk());
  }
  EXPECT_FALSE(room.Take("d", 1).ok());
  const auto a = OneRun("a", 1, 1);
  room.LookAt({a, OneRun("b", 1, 1), OneRun("c", 1, 1)});
  EXPECT_FALSE(room.Take("a", 1).ok());  // As was taken, not as it is seen.
  EXPECT_THAT(room.Take("d", bytes), IsOk());
  // Deleted and begun again; the others are gone.
  room.LookAt({OneRun("a", 1, 1, 2)});
  EXPECT_THAT(room.Take("a", bytes - BytesOf(*a)), IsOk());
  for (const char* run : {"e", "f", "g"}) {
    EXPECT_THAT(room.Take(run, bytes), IsOk());
  }
}

TEST(StreamRoomTest, AllThatAHelloSaysCounts) {
  StreamHello hello = MakeHello();
  const std::uint64_t before = StreamRoom::BytesOf(hello);
  hello.host += std::string(100, 'h');
  hello.tags["key"] = std::string(200, 'v');
  EXPECT_GE(StreamRoom::BytesOf(hello), before + 303);
}

// Streams that open, and what they may tell.
class OpenedRoomTest : public ::testing::Test {
 protected:
  void Begin(std::uint64_t bytes) {
    limits_.guards.refused = &refused_;
    limits_.stream_bytes = bytes;
    runner_.emplace(&store_, &clock_, limits_);
  }

  absl::StatusOr<OpenedStream> Open(const StreamHello& hello) {
    absl::StatusOr<OpenedStream> result = absl::UnknownError("not opened");
    std::deque<CommitTask> tasks(1);
    tasks[0].hello = hello;
    tasks[0].open_done = [&](absl::StatusOr<OpenedStream> opened) {
      result = std::move(opened);
    };
    runner_->Run(std::move(tasks));
    return result;
  }

  // Up to `count` of them, in one batch; how many were refused.
  std::uint64_t Rollback(StreamValidator* validator, std::uint32_t from,
                         std::uint32_t count, std::string* reason,
                         absl::Status* committed) {
    std::vector<std::string> records;
    for (std::uint32_t i = 0; i < count; ++i) {
      records.push_back(EncodeRollback({0, from + i}));
    }
    const auto built =
        testing::MakeBatch(validator->accepted_seq() + 1, records);
    auto batch =
        validator->Accept(built.first_seq, built.record_count, built.frame);
    GRADTAP_EXPECT_OK(batch);
    const std::uint64_t refused = (*batch)->commit.rejected_records;
    if (refused > 0) *reason = (*batch)->rejected.front().reason;
    std::deque<CommitTask> tasks(1);
    tasks[0].batch = *std::move(batch);
    tasks[0].commit_done = [committed](const ValidatedBatch&,
                                       const absl::Status& status) {
      *committed = status;
    };
    runner_->Run(std::move(tasks));
    return refused;
  }

  testing::FakeStore store_;
  ManualClock clock_;
  LimitCounters refused_;
  IngestLimits limits_;
  std::optional<CommitRunner> runner_;
};

TEST_F(OpenedRoomTest, BranchesOfAllStreamsOfARunAreBounded) {
  Begin(400'000);
  std::vector<OpenedStream> opened;
  for (std::uint32_t rank = 0; rank < 4; ++rank) {
    auto one = Open(MakeHello("run", "l", rank));
    GRADTAP_ASSERT_OK(one);
    opened.push_back(*std::move(one));
  }
  std::uint64_t refused = 0;
  std::string reason;
  for (const OpenedStream& one : opened) {
    StreamValidator validator(limits_, one);
    absl::Status committed;
    refused += Rollback(&validator, 1, 600, &reason, &committed);
    GRADTAP_EXPECT_OK(committed);
  }
  const std::uint64_t stored = 4 * 600 - refused;
  EXPECT_GT(refused, 0U);
  EXPECT_LE(stored * StreamRoom::kBranchBytes, 100'000U);
  EXPECT_GT(stored * StreamRoom::kBranchBytes, 90'000U);
  EXPECT_THAT(reason, HasSubstr("a rollback to branch"));
  EXPECT_THAT(reason, HasSubstr("at most 100000 bytes"));
  // The first one of each stream that had no room; then the next is another.
  const std::uint64_t counted = refused_.refused(Limit::kStreamBytes);
  EXPECT_EQ(counted, 2U);
  // Nor is there room for another process; those of other runs have theirs.
  EXPECT_THAT(Open(MakeHello("run", "l", 4)),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at most 100000 bytes")));
  EXPECT_EQ(refused_.refused(Limit::kStreamBytes), counted + 1);
  GRADTAP_EXPECT_OK(Open(MakeHello("run", "l", 3)));
  GRADTAP_EXPECT_OK(Open(MakeHello("other")));
  // The same after a restart.
  Begin(400'000);
  EXPECT_FALSE(Open(MakeHello("run", "l", 4)).ok());
  GRADTAP_ASSERT_OK(store_.DeleteRun("run"));
  GRADTAP_EXPECT_OK(Open(MakeHello("run", "l", 4)));
}

TEST_F(OpenedRoomTest, WhatCouldNotBeStoredTakesNoRoom) {
  Begin(200'000);
  const auto opened = Open(MakeHello());
  GRADTAP_ASSERT_OK(opened);
  std::string reason;
  absl::Status committed;
  for (int i = 0; i < 5; ++i) {
    store_.FailWith(absl::ResourceExhaustedError("disk full"));
    EXPECT_FALSE(Open(MakeHello("run", "l", 1)).ok());
    StreamValidator validator(limits_, *opened);
    EXPECT_EQ(Rollback(&validator, 1, 500, &reason, &committed), 0U) << i;
    EXPECT_FALSE(committed.ok());
  }
  store_.FailWith(absl::OkStatus());
  StreamValidator validator(limits_, *opened);
  EXPECT_EQ(Rollback(&validator, 1, 500, &reason, &committed), 0U) << reason;
  GRADTAP_EXPECT_OK(committed);
}

TEST_F(OpenedRoomTest, TagsOfAProcessThatComesBackAreBounded) {
  Begin(1'000'000);
  StreamHello hello = MakeHello();
  hello.tags.clear();
  const auto add = [&hello](int from, int count) {
    for (int i = from; i < from + count; ++i) {
      hello.tags["key" + std::to_string(i)] = "value";
    }
  };
  add(0, 40);
  GRADTAP_EXPECT_OK(Open(hello));
  GRADTAP_EXPECT_OK(Open(hello));
  hello.tags.clear();
  add(40, 24);
  GRADTAP_EXPECT_OK(Open(hello));
  hello.tags.clear();
  add(64, 1);
  EXPECT_THAT(Open(hello), StatusIs(absl::StatusCode::kResourceExhausted,
                                    HasSubstr("would have 65")));
  EXPECT_EQ(refused_.refused(Limit::kStreamBytes), 1U);
}

}  // namespace
}  // namespace gradtap::server
