// The committing thread and the table of live sessions.

#include "server/ingest/committer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/ingest/commit_queue.h"
#include "server/ingest/fake_store.h"
#include "server/ingest/live_sessions.h"
#include "server/store/store_testing.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::ElementsAre;
using testing::FakeStore;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeHello;

class CommitterTest : public ::testing::Test {
 protected:
  CommitterTest() { Restart(); }

  void Restart() {
    committer_.reset();
    committer_ = std::make_unique<Committer>(&store_, &clock_, limits_);
  }

  absl::StatusOr<OpenedStream> Open(const StreamHello& hello) {
    std::promise<absl::StatusOr<OpenedStream>> result;
    committer_->Open(hello, [&](absl::StatusOr<OpenedStream> opened) {
      result.set_value(std::move(opened));
    });
    return result.get_future().get();
  }

  std::future<absl::Status> Commit(StreamId id, std::uint64_t seq) {
    auto batch = std::make_unique<ValidatedBatch>();
    batch->commit.stream = id;
    batch->commit.first_seq = batch->commit.last_seq = seq;
    batch->commit.steps = {{0, static_cast<std::int64_t>(seq), true, 1, ""}};
    auto result = std::make_shared<std::promise<absl::Status>>();
    committer_->Commit(
        std::move(batch),
        [result, seq](const ValidatedBatch& done, const absl::Status& status) {
          EXPECT_EQ(done.commit.last_seq, seq);
          result->set_value(status);
        });
    return result->get_future();
  }

  // One that counts as so many bytes; `done` is the committer's.
  void CommitBytes(StreamId id, std::uint64_t seq, std::size_t bytes,
                   std::function<void()> done) {
    auto batch = std::make_unique<ValidatedBatch>();
    batch->commit.stream = id;
    batch->commit.first_seq = batch->commit.last_seq = seq;
    batch->commit.bytes = bytes;
    committer_->Commit(std::move(batch),
                       [done = std::move(done)](const ValidatedBatch&,
                                                const absl::Status& status) {
                         GRADTAP_EXPECT_OK(status);
                         done();
                       });
  }

  FakeStore store_;
  ManualClock clock_;
  IngestLimits limits_;
  std::unique_ptr<Committer> committer_;
};

TEST_F(CommitterTest, WhatQueuesUpDuringASyncGoesIntoTheNextOneTogether) {
  std::vector<StreamId> ids;
  for (std::uint32_t rank = 0; rank < 20; ++rank) {
    ids.push_back(Open(MakeHello("run", "l", rank))->entry.id);
  }
  store_.Hold();
  std::vector<std::future<absl::Status>> done;
  done.push_back(Commit(ids[0], 1));
  store_.WaitUntilHeld();
  for (std::size_t i = 1; i < ids.size(); ++i)
    done.push_back(Commit(ids[i], 1));
  done.push_back(Commit(ids[1], 2));
  store_.Release();
  for (auto& one : done) EXPECT_THAT(one.get(), ::gradtap::testing::IsOk());
  EXPECT_THAT(store_.group_sizes(), ElementsAre(1, 20));
  EXPECT_THAT(store_.steps(ids[1]), ElementsAre(1, 2));
}

TEST_F(CommitterTest, OneThatDoesNotFitFailsAlone) {
  const StreamId a = Open(MakeHello("a"))->entry.id;
  const StreamId b = Open(MakeHello("b"))->entry.id;
  const StreamId gone = Open(MakeHello("gone"))->entry.id;
  GRADTAP_ASSERT_OK(store_.DeleteRun("gone"));
  store_.Hold();
  auto first = Commit(a, 1);
  store_.WaitUntilHeld();
  auto deleted = Commit(gone, 1);
  auto hole = Commit(b, 7);
  auto good = Commit(a, 2);
  store_.Release();
  GRADTAP_EXPECT_OK(first.get());
  EXPECT_THAT(deleted.get(), StatusIs(absl::StatusCode::kNotFound, _));
  EXPECT_THAT(hole.get(), StatusIs(absl::StatusCode::kFailedPrecondition, _));
  GRADTAP_EXPECT_OK(good.get());
  EXPECT_THAT(store_.steps(a), ElementsAre(1, 2));
  EXPECT_THAT(store_.steps(b), IsEmpty());
}

TEST_F(CommitterTest, AFullDiskFailsTheGroupAndLaterCommitsWork) {
  const StreamId id = Open(MakeHello())->entry.id;
  store_.FailWith(absl::ResourceExhaustedError("disk full"));
  EXPECT_THAT(Commit(id, 1).get(),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_THAT(Open(MakeHello("other")),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("disk full")));
  store_.FailWith(absl::OkStatus());
  GRADTAP_EXPECT_OK(Commit(id, 1).get());
}

TEST_F(CommitterTest, RunsAreLimitedAndKnownOnesAreNot) {
  limits_.max_runs = 2;
  Restart();
  GRADTAP_ASSERT_OK(Open(MakeHello("a")));
  GRADTAP_ASSERT_OK(Open(MakeHello("b")));
  EXPECT_THAT(Open(MakeHello("c")),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("at most 2 runs")));
  GRADTAP_EXPECT_OK(Open(MakeHello("a", "l", 5)));
}

TEST_F(CommitterTest, AttemptsAreNumberedByStartAndKnowWhatWasBefore) {
  StreamHello second = MakeHello("run", "second", 0, 'b');
  second.start_time_unix_ns += 100;
  EXPECT_EQ(Open(second)->attempt, 1U);
  StreamHello first = MakeHello("run", "first", 0, 'a');
  const auto opened = Open(first);
  EXPECT_EQ(opened->attempt, 1U);
  GRADTAP_ASSERT_OK(Commit(opened->entry.id, 1).get());
  const auto again = Open(second);
  EXPECT_EQ(again->attempt, 2U);
  EXPECT_EQ(again->last_step_of_run, 1);
  EXPECT_EQ(Open(first)->last_step_of_run, -1);
  // Another rank of the second attempt, started first of all.
  StreamHello peer = MakeHello("run", "second", 1, 'c');
  peer.start_time_unix_ns -= 100;
  EXPECT_EQ(Open(peer)->attempt, 1U);
  EXPECT_EQ(Open(first)->attempt, 2U);
}

TEST_F(CommitterTest, ABatchWaitsForOneOpeningHoweverManyThereAre) {
  const StreamId id = Open(MakeHello())->entry.id;
  store_.Hold();
  auto first = Commit(id, 1);
  store_.WaitUntilHeld();
  std::vector<std::string> order;  // Of the committer's thread.
  for (std::uint32_t rank = 1; rank <= 50; ++rank) {
    committer_->Open(MakeHello("run", "l", rank),
                     [&order](const absl::StatusOr<OpenedStream>& opened) {
                       GRADTAP_EXPECT_OK(opened);
                       order.push_back("opening");
                     });
  }
  auto batch = std::make_unique<ValidatedBatch>();
  batch->commit.stream = id;
  batch->commit.first_seq = batch->commit.last_seq = 2;
  committer_->Commit(std::move(batch), [&order](const ValidatedBatch&,
                                                const absl::Status& status) {
    GRADTAP_EXPECT_OK(status);
    order.push_back("batch");
  });
  store_.Release();
  committer_.reset();
  GRADTAP_EXPECT_OK(first.get());
  ASSERT_EQ(order.size(), 51U);
  EXPECT_EQ(order.front(), "batch");
}

TEST_F(CommitterTest, GroupsOfBatchesAndOpeningsTakeTurns) {
  const StreamId id = Open(MakeHello())->entry.id;
  store_.Hold();
  auto first = Commit(id, 1);
  store_.WaitUntilHeld();
  std::string order;  // Of the committer's thread.
  for (std::uint64_t seq = 2; seq <= 4; ++seq) {
    CommitBytes(id, seq, kCommitGroupBytes, [&order] { order += 'b'; });
  }
  for (std::uint32_t rank = 1; rank <= 6; ++rank) {
    committer_->Open(MakeHello("run", "l", rank),
                     [&](const absl::StatusOr<OpenedStream>& opened) {
                       GRADTAP_EXPECT_OK(opened);
                       order += 'o';
                     });
  }
  store_.Release();
  committer_.reset();
  GRADTAP_EXPECT_OK(first.get());
  EXPECT_EQ(order, "boboboooo");
}

TEST_F(CommitterTest, AStreamIsOpenedAgainAfterAllThatItsLastSessionSent) {
  const StreamId id = Open(MakeHello())->entry.id;
  store_.Hold();
  auto first = Commit(id, 1);
  store_.WaitUntilHeld();
  for (std::uint64_t seq = 2; seq <= 4; ++seq) {
    CommitBytes(id, seq, kCommitGroupBytes, [] {});
  }
  std::vector<std::uint64_t> order;  // The cursors that are told.
  for (const std::uint32_t rank : {0U, 1U}) {
    committer_->Open(MakeHello("run", "launch", rank),
                     [&](const absl::StatusOr<OpenedStream>& opened) {
                       GRADTAP_ASSERT_OK(opened);
                       order.push_back(opened->entry.durable_seq);
                     });
  }
  store_.Release();
  committer_.reset();
  GRADTAP_EXPECT_OK(first.get());
  EXPECT_THAT(order, ElementsAre(0, 4));  // The other one did not wait.
}

TEST_F(CommitterTest, WhoSendsLittleDoesNotWaitForThoseWhoSendMuch) {
  std::vector<StreamId> ids;
  for (std::uint32_t rank = 0; rank < 10; ++rank) {
    ids.push_back(Open(MakeHello("run", "l", rank))->entry.id);
  }
  const StreamId small = Open(MakeHello("run", "l", 10))->entry.id;
  store_.Hold();
  auto first = Commit(small, 1);
  store_.WaitUntilHeld();
  std::vector<StreamId> order;  // Of the committer's thread.
  std::promise<void> all;
  const auto done = [&](StreamId id) {
    order.push_back(id);
    if (order.size() == ids.size() + 2) all.set_value();
  };
  // It comes when all of the others wait, and comes again.
  const auto send_little = [&] {
    CommitBytes(small, 2, 1'000, [&] {
      done(small);
      CommitBytes(small, 3, 1'000, [&] { done(small); });
    });
  };
  for (const StreamId id : ids) {
    CommitBytes(id, 1, kCommitGroupBytes, [&, id] {
      done(id);
      if (id == ids[0]) send_little();
    });
  }
  store_.Release();
  GRADTAP_EXPECT_OK(first.get());
  all.get_future().get();
  committer_.reset();  // Its thread is done with what is here.
  order.resize(4);
  EXPECT_THAT(order, ElementsAre(ids[0], small, ids[1], small));
}

TEST_F(CommitterTest, WhoSendsMuchGetsItsTurnHoweverOftenOthersCome) {
  const StreamId large = Open(MakeHello())->entry.id;
  const StreamId other = Open(MakeHello("run", "l", 1))->entry.id;
  store_.Hold();
  auto first = Commit(large, 1);
  store_.WaitUntilHeld();
  bool done = false;  // Of the committer's thread, as the next one.
  std::uint64_t seq = 0;
  std::promise<std::uint64_t> before;
  CommitBytes(large, 2, 10 * kCommitGroupBytes, [&] {
    done = true;
    before.set_value(seq);
  });
  const std::function<void()> next = [&] {
    if (!done) CommitBytes(other, ++seq, kCommitGroupBytes, next);
  };
  CommitBytes(other, ++seq, kCommitGroupBytes, next);
  store_.Release();
  GRADTAP_EXPECT_OK(first.get());
  const std::uint64_t others = before.get_future().get();
  committer_.reset();  // Its thread is done with what is here.
  EXPECT_GE(others, 5U);
  EXPECT_LE(others, 15U);
}

TEST(CommitQueueTest,
     OfManyStreamsTheQueueForgetsThoseThatHaveNoMoreThanOthers) {
  CommitQueue queue;
  const auto add = [&queue](StreamId id) {
    CommitTask task;
    task.batch = std::make_unique<ValidatedBatch>();
    task.batch->commit.stream = id;
    task.batch->commit.bytes = 1'000;
    queue.Add(std::move(task));
  };
  for (StreamId id = 1; id <= 10'000; ++id) {
    EXPECT_FALSE(queue.Has(id));
    add(id);
    EXPECT_TRUE(queue.Has(id));
    EXPECT_EQ(queue.TakeGroup().size(), 1U);
    EXPECT_FALSE(queue.Has(id));
  }
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(queue.TakeGroup().empty());
  // As before for those that come back.
  add(1);
  add(1);
  add(10'000);
  std::vector<StreamId> order;
  for (const CommitTask& task : queue.TakeGroup()) {
    order.push_back(task.batch->commit.stream);
  }
  EXPECT_THAT(order, ElementsAre(1, 10'000, 1));
}

TEST_F(CommitterTest, AStreamWaitsForOneBatchOfAnother) {
  const StreamId greedy = Open(MakeHello())->entry.id;
  const StreamId other = Open(MakeHello("run", "l", 1))->entry.id;
  const StreamId third = Open(MakeHello("run", "l", 2))->entry.id;
  store_.Hold();
  auto first = Commit(third, 1);
  store_.WaitUntilHeld();
  std::vector<StreamId> order;  // Of the committer's thread.
  const auto commit = [&](StreamId id, std::uint64_t seq) {
    CommitBytes(id, seq, 0, [&order, id] { order.push_back(id); });
  };
  for (std::uint64_t seq = 1; seq <= 3; ++seq) commit(greedy, seq);
  commit(other, 1);
  commit(other, 2);
  store_.Release();
  committer_.reset();
  GRADTAP_EXPECT_OK(first.get());
  EXPECT_THAT(order, ElementsAre(greedy, other, greedy, other, greedy));
}

TEST_F(CommitterTest, AStreamIsOpenedWithoutReadingMoreThanOnePart) {
  const StreamId id = Open(MakeHello())->entry.id;
  const std::string data(1'000, 'x');
  const std::string part = EncodePartHead(0, 100, data.size()) + data;
  const std::string_view body = ParseRecord(part)->body;
  auto batch = std::make_unique<ValidatedBatch>();
  batch->commit.stream = id;
  batch->commit.first_seq = 1;
  batch->commit.last_seq = 90;
  for (std::uint64_t seq = 1; seq <= 90; ++seq) {
    batch->commit.parts.push_back({seq, body});
  }
  std::promise<absl::Status> done;
  committer_->Commit(std::move(batch), [&done](const ValidatedBatch&,
                                               const absl::Status& status) {
    done.set_value(status);
  });
  GRADTAP_ASSERT_OK(done.get_future().get());
  for (std::size_t openings = 1; openings <= 3; ++openings) {
    const auto opened = Open(MakeHello());
    GRADTAP_ASSERT_OK(opened);
    EXPECT_EQ(store_.parts_read(), openings);
    EXPECT_EQ(opened->unfinished.first_seq, 1U);
    EXPECT_EQ(opened->unfinished.parts, 90U);
    EXPECT_EQ(opened->unfinished.count, 100U);
    EXPECT_NEAR(static_cast<double>(opened->unfinished.bytes), 90'000, 1'000);
  }
}

TEST_F(CommitterTest, TheQueueIsDoneBeforeTheThreadEnds) {
  const StreamId id = Open(MakeHello())->entry.id;
  store_.Hold();
  std::vector<std::future<absl::Status>> done;
  done.push_back(Commit(id, 1));
  store_.WaitUntilHeld();
  for (std::uint64_t seq = 2; seq <= 50; ++seq) {
    done.push_back(Commit(id, seq));
  }
  store_.Release();
  committer_.reset();
  for (auto& one : done) GRADTAP_EXPECT_OK(one.get());
  EXPECT_EQ(store_.steps(id).size(), 50U);
}

class CountingCall : public LiveCall {
 public:
  void Tick() override { ++ticks; }
  void Drain() override { ++drains; }
  int ticks = 0;
  int drains = 0;
};

TEST(LiveSessionsTest, AStreamIsClaimedOnceUntilItIsReleased) {
  LiveSessions live(3);
  std::shared_ptr<LiveStream> a, b, twice;
  EXPECT_EQ(live.Admit(MakeHello("a"), &a), LiveSessions::Admission::kOk);
  EXPECT_EQ(live.Admit(MakeHello("a"), &twice),
            LiveSessions::Admission::kDuplicate);
  EXPECT_EQ(twice, nullptr);
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 1), &b),
            LiveSessions::Admission::kOk);
  live.SetId(a.get(), 7);
  a->last_seen_unix_ns = 5;
  EXPECT_EQ(live.LastSeenUnixNanos(7), 5);
  EXPECT_EQ(live.size(), 2U);
  live.Release(*a);
  EXPECT_EQ(live.LastSeenUnixNanos(7), std::nullopt);
  live.SetId(a.get(), 7);  // Too late: it has been released.
  EXPECT_EQ(live.LastSeenUnixNanos(7), std::nullopt);
  EXPECT_EQ(live.Admit(MakeHello("a"), &a), LiveSessions::Admission::kOk);
}

TEST(LiveSessionsTest, SessionsAndCallsAreLimited) {
  LiveSessions live(1);
  std::shared_ptr<LiveStream> a, b;
  EXPECT_EQ(live.Admit(MakeHello("a"), &a), LiveSessions::Admission::kOk);
  EXPECT_EQ(live.Admit(MakeHello("b"), &b), LiveSessions::Admission::kLimit);
  const auto first = std::make_shared<CountingCall>();
  const auto second = std::make_shared<CountingCall>();
  const auto third = std::make_shared<CountingCall>();
  EXPECT_EQ(live.AddCall(first), LiveSessions::Entry::kOk);
  EXPECT_EQ(live.AddCall(second), LiveSessions::Entry::kOk);
  EXPECT_EQ(live.AddCall(third), LiveSessions::Entry::kFull);
  EXPECT_EQ(live.Calls().size(), 2U);
  live.RemoveCall(first.get());
  live.BeginDrain();
  EXPECT_EQ(live.AddCall(third), LiveSessions::Entry::kDraining);
  EXPECT_FALSE(live.WaitUntilEmpty(std::chrono::steady_clock::now()));
  live.RemoveCall(second.get());
  live.RemoveCall(third.get());
  EXPECT_TRUE(live.WaitUntilEmpty(std::chrono::steady_clock::now()));
}

TEST(LiveSessionsTest, OneClientHasThreeQuartersOfAll) {
  LiveSessions live(8);
  std::vector<std::shared_ptr<LiveStream>> streams(9);
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(live.Admit(MakeHello("a", "l", i), &streams[i], "token"),
              LiveSessions::Admission::kOk);
  }
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 6), &streams[6], "token"),
            LiveSessions::Admission::kClientLimit);
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 0), &streams[6], "other"),
            LiveSessions::Admission::kDuplicate);
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 7), &streams[7], "other"),
            LiveSessions::Admission::kOk);
  live.Release(*streams[0]);
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 6), &streams[6], "token"),
            LiveSessions::Admission::kOk);
  EXPECT_EQ(live.Admit(MakeHello("a", "l", 8), &streams[8], "token"),
            LiveSessions::Admission::kClientLimit);
}

TEST(LiveSessionsTest, CallsOfOneClientAreLimitedAndThoseThatEndCountNoMore) {
  LiveSessions live(4);
  std::vector<std::shared_ptr<CountingCall>> calls;
  const auto add = [&](const std::string& client) {
    calls.push_back(std::make_shared<CountingCall>());
    return live.AddCall(calls.back(), client);
  };
  for (int i = 0; i < 6; ++i) EXPECT_EQ(add("a"), LiveSessions::Entry::kOk);
  EXPECT_EQ(add("a"), LiveSessions::Entry::kFull);
  EXPECT_EQ(add("b"), LiveSessions::Entry::kOk);
  EXPECT_EQ(add("b"), LiveSessions::Entry::kOk);
  EXPECT_EQ(add("b"), LiveSessions::Entry::kFull);
  live.EndCall(calls[0].get());
  live.EndCall(calls[0].get());
  EXPECT_EQ(add("a"), LiveSessions::Entry::kOk);
  EXPECT_EQ(add("a"), LiveSessions::Entry::kFull);
  live.RemoveCall(calls[0].get());  // It counted no more.
  EXPECT_EQ(add("a"), LiveSessions::Entry::kFull);
  live.RemoveCall(calls[1].get());
  EXPECT_EQ(add("a"), LiveSessions::Entry::kOk);
  EXPECT_EQ(live.Calls().size(), 8U);
}

}  // namespace
}  // namespace gradtap::server
