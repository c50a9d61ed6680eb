// The session's state machine, driven by hand: no thread, no socket.

#include "server/ingest/ingest_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "server/ingest/commit_runner.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using std::chrono::seconds;
using testing::BuiltBatch;
using testing::GapRecord;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::MakeBatch;
using testing::SchemaRecord;
using ::testing::SizeIs;
using testing::StepRecord;

HelloUntrusted GoodHello() {
  HelloUntrusted hello;
  hello.protocol_version = 1;
  hello.run = "run";
  hello.launch = "launch";
  hello.world_size = 1;
  hello.process_nonce = std::string(16, 'n');
  return hello;
}

class IngestSessionTest : public ::testing::Test {
 protected:
  IngestSessionTest() { Restart(); }

  void Restart() {
    session_ = std::make_unique<IngestSession>(limits_, clock_.Steady());
  }

  OpenedStream Opened(std::uint64_t durable_seq = 0) {
    OpenedStream opened;
    opened.entry.id = 1;
    opened.entry.durable_seq = durable_seq;
    opened.entry.branches.push_back({});
    opened.attempt = 3;
    opened.last_step_of_run = 99;
    return opened;
  }

  void Stream(const OpenedStream& opened) {
    ASSERT_TRUE(
        session_->OnHello(GoodHello(), clock_.Steady()).open.has_value());
    const auto actions = session_->OnOpened(opened, clock_.Steady());
    ASSERT_THAT(actions.send, SizeIs(1));
    const auto& welcome = std::get<WelcomeOut>(actions.send[0]);
    EXPECT_EQ(welcome.next_seq, opened.entry.durable_seq + 1);
  }

  SessionActions Send(const BuiltBatch& batch) {
    return session_->OnBatch(batch.first_seq, batch.record_count, batch.frame,
                             clock_.UnixNanos(), clock_.Steady());
  }

  SessionActions Committed(const ValidatedBatch& batch,
                           const absl::Status& status = absl::OkStatus()) {
    return session_->OnCommitted(batch.commit.last_seq, BytesHeld(batch),
                                 batch.rejected, status, clock_.Steady());
  }

  static std::uint64_t AckedSeq(const SessionActions& actions) {
    if (actions.send.size() != 1) return 0;
    const auto* ack = std::get_if<AckOut>(&actions.send[0]);
    return ack == nullptr ? 0 : ack->durable_seq;
  }

  ManualClock clock_;
  IngestLimits limits_;
  std::unique_ptr<IngestSession> session_;
};

TEST_F(IngestSessionTest, GreetsWithWhatIsDurable) {
  auto actions = session_->OnHello(GoodHello(), clock_.Steady());
  ASSERT_TRUE(actions.open.has_value());
  EXPECT_EQ(actions.open->run, "run");
  EXPECT_FALSE(session_->wants_read());
  actions = session_->OnOpened(Opened(41), clock_.Steady());
  const auto& welcome = std::get<WelcomeOut>(actions.send[0]);
  EXPECT_EQ(welcome.next_seq, 42U);
  EXPECT_EQ(welcome.attempt, 3U);
  EXPECT_EQ(welcome.last_step_of_run, 99);
  EXPECT_TRUE(session_->wants_read());
}

TEST_F(IngestSessionTest, RefusesAMalformedHelloForGood) {
  HelloUntrusted hello = GoodHello();
  hello.run = "a/b";
  auto actions = session_->OnHello(hello, clock_.Steady());
  ASSERT_THAT(actions.send, SizeIs(1));
  const auto& reject = std::get<RejectOut>(actions.send[0]);
  EXPECT_EQ(reject.code, RejectCode::kInvalid);
  EXPECT_FALSE(reject.retry);
  EXPECT_THAT(reject.detail, HasSubstr("a/b"));
  ASSERT_TRUE(actions.finish.has_value());
  EXPECT_THAT(*actions.finish, ::gradtap::testing::IsOk());

  Restart();
  hello = GoodHello();
  hello.protocol_version = 9;
  actions = session_->OnHello(hello, clock_.Steady());
  EXPECT_EQ(std::get<RejectOut>(actions.send[0]).code, RejectCode::kVersion);
  EXPECT_FALSE(std::get<RejectOut>(actions.send[0]).retry);
}

TEST_F(IngestSessionTest, WhatPassesIsRefusedWithRetry) {
  for (const RejectCode code :
       {RejectCode::kDuplicate, RejectCode::kLimit, RejectCode::kUnavailable}) {
    Restart();
    session_->OnHello(GoodHello(), clock_.Steady());
    const auto actions = session_->OnRefused(code, "why");
    EXPECT_EQ(std::get<RejectOut>(actions.send[0]).code, code);
    EXPECT_TRUE(std::get<RejectOut>(actions.send[0]).retry);
    EXPECT_TRUE(actions.finish.has_value());
    EXPECT_TRUE(session_->finished());
  }
}

TEST_F(IngestSessionTest, AcknowledgesNothingBeforeItIsDurable) {
  Stream(Opened());
  auto actions = Send(MakeBatch(1, {SchemaRecord(), StepRecord(0)}));
  EXPECT_THAT(actions.send, IsEmpty());
  ASSERT_NE(actions.commit, nullptr);
  EXPECT_EQ(actions.commit->commit.last_seen_unix_ns, clock_.UnixNanos());
  EXPECT_EQ(session_->durable_seq(), 0U);
  EXPECT_EQ(AckedSeq(Committed(*actions.commit)), 2U);
  EXPECT_EQ(session_->durable_seq(), 2U);
  EXPECT_EQ(session_->pending_bytes(), 0U);
}

TEST_F(IngestSessionTest, NamesRejectedRecordsInTheAck) {
  Stream(Opened());
  const auto actions = Send(MakeBatch(1, {SchemaRecord(), "\xff"}));
  const auto ack = Committed(*actions.commit);
  const auto& out = std::get<AckOut>(ack.send[0]);
  EXPECT_EQ(out.durable_seq, 2U);
  ASSERT_THAT(out.rejected, SizeIs(1));
  EXPECT_EQ(out.rejected[0].seq, 2U);
}

TEST_F(IngestSessionTest, AcknowledgesAgainWhatItHasAlready) {
  Stream(Opened(10));
  for (const auto& [first, records] :
       {std::pair<std::uint64_t, std::size_t>{1, 10}, {10, 1}, {5, 3}}) {
    const auto actions = Send(
        MakeBatch(first, std::vector<std::string>(records, StepRecord(0))));
    EXPECT_EQ(actions.commit, nullptr);
    EXPECT_EQ(AckedSeq(actions), 10U);
  }
}

TEST_F(IngestSessionTest, ADuplicateOfWhatIsNotDurableYetWaitsForItsAck) {
  Stream(Opened());
  const auto batch = MakeBatch(1, {SchemaRecord()});
  const auto first = Send(batch);
  const auto second = Send(batch);
  EXPECT_EQ(second.commit, nullptr);
  EXPECT_THAT(second.send, IsEmpty());
  EXPECT_EQ(AckedSeq(Committed(*first.commit)), 1U);
}

TEST_F(IngestSessionTest, AHoleEndsTheCallNamingTheSeqItExpects) {
  Stream(Opened(10));
  const auto actions = Send(MakeBatch(12, {StepRecord(0)}));
  ASSERT_TRUE(actions.finish.has_value());
  EXPECT_THAT(*actions.finish, StatusIs(absl::StatusCode::kOutOfRange,
                                        HasSubstr("expected seq 11")));
}

TEST_F(IngestSessionTest, ImpossibleSeqsEndTheCall) {
  for (const auto& [first, count] :
       {std::pair<std::uint64_t, std::uint32_t>{0, 1},
        {1, 0},
        {UINT64_MAX, 1},
        {UINT64_MAX - 1, 4'000'000'000U}}) {
    Restart();
    Stream(Opened());
    const auto actions =
        session_->OnBatch(first, count, "", 0, clock_.Steady());
    ASSERT_TRUE(actions.finish.has_value());
    EXPECT_THAT(*actions.finish,
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("seq")));
  }
}

TEST_F(IngestSessionTest, MessagesOutOfOrderEndTheCall) {
  const auto expect_invalid = [&](const SessionActions& actions) {
    ASSERT_TRUE(actions.finish.has_value());
    EXPECT_EQ(actions.finish->code(), absl::StatusCode::kInvalidArgument);
    Restart();
  };
  expect_invalid(Send(MakeBatch(1, {SchemaRecord()})));
  expect_invalid(session_->OnHeartbeat(clock_.Steady()));
  expect_invalid(session_->OnBye(clock_.Steady()));
  expect_invalid(session_->OnUnknownMessage(clock_.Steady()));
  session_->OnHello(GoodHello(), clock_.Steady());
  expect_invalid(Send(MakeBatch(1, {SchemaRecord()})));
  Stream(Opened());
  expect_invalid(session_->OnHello(GoodHello(), clock_.Steady()));
  Stream(Opened());
  expect_invalid(session_->OnBatch(1, 1, "garbage", 0, clock_.Steady()));
}

TEST_F(IngestSessionTest, AFailedCommitEndsTheCallWithoutAnAck) {
  for (const auto& [store, call] :
       {std::pair{absl::StatusCode::kResourceExhausted,
                  absl::StatusCode::kUnavailable},
        {absl::StatusCode::kUnavailable, absl::StatusCode::kUnavailable},
        {absl::StatusCode::kFailedPrecondition, absl::StatusCode::kUnavailable},
        {absl::StatusCode::kNotFound, absl::StatusCode::kAborted}}) {
    Restart();
    Stream(Opened());
    const auto first = Send(MakeBatch(1, {SchemaRecord()}));
    const auto second = Send(MakeBatch(2, {StepRecord(0)}));
    const auto failed = Committed(*first.commit, absl::Status(store, "why"));
    EXPECT_THAT(failed.send, IsEmpty());
    ASSERT_TRUE(failed.finish.has_value());
    EXPECT_EQ(failed.finish->code(), call);
    // What was in the queue behind it comes back, and is not heard.
    EXPECT_THAT(Committed(*second.commit).send, IsEmpty());
  }
}

TEST_F(IngestSessionTest, StopsReadingAtItsCredit) {
  limits_.credit_bytes = 4'000;
  Restart();
  Stream(Opened());
  std::vector<std::unique_ptr<ValidatedBatch>> pending;
  std::uint64_t seq = 1;
  while (session_->wants_read()) {
    ASSERT_LT(seq, 100U);
    pending.push_back(
        Send(MakeBatch(seq, {SchemaRecord(static_cast<std::uint32_t>(seq))}))
            .commit);
    ++seq;
  }
  EXPECT_GE(session_->pending_bytes(), 4'000U);
  EXPECT_GT(pending.size(), 2U);
  // Waiting for the disk is no silence of the peer's.
  clock_.Advance(seconds(300));
  EXPECT_FALSE(session_->OnTick(clock_.Steady()).finish.has_value());
  for (const auto& batch : pending) Committed(*batch);
  EXPECT_TRUE(session_->wants_read());
}

TEST_F(IngestSessionTest, WhatABatchIsOnceDecodedCountsAgainstItsCredit) {
  limits_.credit_bytes = 1 << 20;
  Restart();
  Stream(Opened());
  constexpr std::size_t kGaps = 10'000;
  const auto batch =
      MakeBatch(1, std::vector<std::string>(kGaps, GapRecord(1, 1)));
  ASSERT_LT(batch.frame.size(), 1'000U);
  const auto sent = Send(batch);
  ASSERT_NE(sent.commit, nullptr);
  ASSERT_LT(sent.commit->content->size(), limits_.credit_bytes);
  EXPECT_GE(session_->pending_bytes(), kGaps * sizeof(StreamCommit::Gap) +
                                           WriteBytes(sent.commit->commit));
  EXPECT_FALSE(session_->wants_read());
  Committed(*sent.commit);
  EXPECT_EQ(session_->pending_bytes(), 0U);
  EXPECT_TRUE(session_->wants_read());
}

TEST_F(IngestSessionTest, AHalfCloseWaitsForWhatWasReceived) {
  Stream(Opened());
  const auto first = Send(MakeBatch(1, {SchemaRecord()}));
  const auto second = Send(MakeBatch(2, {StepRecord(0)}));
  session_->OnBye(clock_.Steady());
  EXPECT_FALSE(session_->OnHalfClose().finish.has_value());
  EXPECT_FALSE(Committed(*first.commit).finish.has_value());
  const auto last = Committed(*second.commit);
  EXPECT_EQ(AckedSeq(last), 2U);
  ASSERT_TRUE(last.finish.has_value());
  EXPECT_THAT(*last.finish, ::gradtap::testing::IsOk());
}

TEST_F(IngestSessionTest, AHalfCloseWithNothingPendingEndsAtOnce) {
  Stream(Opened());
  const auto actions = session_->OnHalfClose();
  ASSERT_TRUE(actions.finish.has_value());
  EXPECT_THAT(*actions.finish, ::gradtap::testing::IsOk());
}

TEST_F(IngestSessionTest, DrainingCommitsWhatWasReceivedAndTakesNoMore) {
  Stream(Opened());
  const auto first = Send(MakeBatch(1, {SchemaRecord()}));
  EXPECT_FALSE(session_->OnDrain().finish.has_value());
  EXPECT_FALSE(session_->wants_read());
  EXPECT_EQ(Send(MakeBatch(2, {StepRecord(0)})).commit, nullptr);
  const auto last = Committed(*first.commit);
  EXPECT_EQ(AckedSeq(last), 1U);
  ASSERT_TRUE(last.finish.has_value());
  EXPECT_EQ(last.finish->code(), absl::StatusCode::kUnavailable);
}

TEST_F(IngestSessionTest, DrainingRefusesWhoIsNotInYet) {
  auto actions = session_->OnDrain();
  EXPECT_EQ(std::get<RejectOut>(actions.send[0]).code,
            RejectCode::kUnavailable);
  Restart();
  session_->OnHello(GoodHello(), clock_.Steady());
  actions = session_->OnDrain();
  EXPECT_EQ(std::get<RejectOut>(actions.send[0]).code,
            RejectCode::kUnavailable);
  EXPECT_TRUE(std::get<RejectOut>(actions.send[0]).retry);
  EXPECT_THAT(session_->OnOpened(Opened(), clock_.Steady()).send, IsEmpty());
}

TEST_F(IngestSessionTest, WhoSaysNothingIsSentAway) {
  clock_.Advance(seconds(9));
  EXPECT_FALSE(session_->OnTick(clock_.Steady()).finish.has_value());
  clock_.Advance(seconds(1));
  EXPECT_EQ(session_->OnTick(clock_.Steady()).finish->code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(session_->OnTick(clock_.Steady()).finish.has_value());

  Restart();
  Stream(Opened());
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(seconds(29));
    EXPECT_FALSE(session_->OnTick(clock_.Steady()).finish.has_value());
    session_->OnHeartbeat(clock_.Steady());
  }
  clock_.Advance(seconds(30));
  EXPECT_EQ(session_->OnTick(clock_.Steady()).finish->code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(IngestSessionTest, HowLongSilenceMayBeIsALimitThatIsCounted) {
  LimitCounters refused;
  limits_.guards.refused = &refused;
  limits_.hello_time = seconds(3);
  limits_.idle_time = seconds(5);
  Restart();
  clock_.Advance(seconds(3));
  EXPECT_THAT(*session_->OnTick(clock_.Steady()).finish,
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("no Hello within 3 s")));
  EXPECT_EQ(refused.refused(Limit::kHelloTime), 1u);
  Restart();
  Stream(Opened());
  clock_.Advance(seconds(5));
  EXPECT_THAT(*session_->OnTick(clock_.Steady()).finish,
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("no message for 5 s")));
  session_->OnTick(clock_.Steady());
  EXPECT_EQ(refused.refused(Limit::kIdleTime), 1u);
}

TEST_F(IngestSessionTest, AWallClockThatJumpsEndsNoSession) {
  Stream(Opened());
  clock_.JumpWall(std::chrono::hours(24 * 365));
  EXPECT_FALSE(session_->OnTick(clock_.Steady()).finish.has_value());
}

TEST_F(IngestSessionTest, AfterThePeerHasGoneNothingIsAsked) {
  Stream(Opened());
  const auto first = Send(MakeBatch(1, {SchemaRecord()}));
  EXPECT_TRUE(session_->OnGone().finish.has_value());
  EXPECT_FALSE(session_->OnGone().finish.has_value());
  const auto late = Committed(*first.commit);
  EXPECT_THAT(late.send, IsEmpty());
  EXPECT_FALSE(late.finish.has_value());
  EXPECT_FALSE(session_->wants_read());
}

// An agent that resends, overlaps, loses its connection and comes back, against
// a store that sometimes fails: each record is committed once, in order.
TEST_F(IngestSessionTest, WhateverHappensEachRecordIsCommittedOnce) {
  constexpr std::uint64_t kRecords = 120;
  std::vector<std::string> records = {SchemaRecord()};
  for (std::uint64_t i = 1; i < kRecords; ++i) {
    records.push_back(StepRecord(static_cast<std::int64_t>(i)));
  }
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    OpenedStream store = Opened();
    std::vector<std::int64_t> steps;
    while (store.entry.durable_seq < kRecords) {
      Restart();
      Stream(store);
      std::deque<std::unique_ptr<ValidatedBatch>> queue;
      std::uint64_t next = store.entry.durable_seq + 1;
      while (!session_->finished()) {
        const std::uint32_t dice = random() % 20;
        if (dice == 0) {
          session_->OnGone();
        } else if (dice < 10 && next <= kRecords) {
          const std::uint64_t first =
              next - std::min<std::uint64_t>(next - 1, random() % 4);
          const std::uint64_t last = std::min(kRecords, first + random() % 8);
          auto actions = Send(MakeBatch(
              first, {records.begin() + static_cast<std::ptrdiff_t>(first - 1),
                      records.begin() + static_cast<std::ptrdiff_t>(last)}));
          if (actions.commit != nullptr) {
            queue.push_back(std::move(actions.commit));
          }
          next = std::max(next, last + 1);
        } else if (!queue.empty()) {
          const auto batch = std::move(queue.front());
          queue.pop_front();
          ASSERT_EQ(batch->commit.first_seq, store.entry.durable_seq + 1);
          if (random() % 10 == 0) {
            Committed(*batch, absl::UnavailableError("disk"));
            continue;
          }
          store.entry.durable_seq = batch->commit.last_seq;
          for (const auto& schema : batch->commit.schemas) {
            store.entry.schema_id = schema.schema_id;
            store.schema =
                std::make_shared<const Schema>(*DecodeSchema(schema.body));
          }
          for (const auto& step : batch->commit.steps) {
            steps.push_back(step.step);
            store.entry.branches[0].last_step = step.step;
          }
          EXPECT_THAT(batch->rejected, IsEmpty());
          Committed(*batch);
          if (store.entry.durable_seq == kRecords) break;
        }
      }
    }
    ASSERT_EQ(steps.size(), kRecords - 1);
    for (std::uint64_t i = 0; i < steps.size(); ++i) {
      EXPECT_EQ(steps[i], static_cast<std::int64_t>(i + 1));
    }
  }
}

}  // namespace
}  // namespace gradtap::server
