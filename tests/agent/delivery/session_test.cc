#include "agent/delivery/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/session_fixture.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::ManualClock;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = Session::Action::Kind;

TEST_F(SessionTest, NothingIsDialledBeforeTheFirstRecord) {
  MustIdle();
  clock_.Advance(seconds(100));
  MustIdle();
  EXPECT_EQ(session_.state(), SessionState::kIdle);
  PutSteps(1);
  MustDo(Kind::kConnect);
}

TEST_F(SessionTest, TheHelloSaysWhoAndWhatIsAtHand) {
  PutSteps(3);
  const v1::Hello hello = Greet();
  EXPECT_EQ(hello.protocol_version(), 1u);
  EXPECT_EQ(hello.run(), "run");
  EXPECT_EQ(hello.launch(), "launch");
  EXPECT_EQ(hello.rank(), 2u);
  EXPECT_EQ(hello.world_size(), 4u);
  EXPECT_EQ(hello.process_nonce(), "0123456789abcdef");
  EXPECT_EQ(hello.schema_fingerprint(), MakeSchema(1, 2).fingerprint);
  EXPECT_EQ(hello.first_seq(), 1u);
  EXPECT_EQ(hello.last_seq(), 4u);
  ASSERT_EQ(hello.tags_size(), 1);
  EXPECT_EQ(hello.tags(0).value(), "vision");
}

TEST_F(SessionTest, TheWelcomeSaysHowFarTheRunHadCome) {
  PutSteps(1);
  Greet();
  EXPECT_FALSE(books_.last_step_of_run().has_value());
  v1::CollectorMessage welcome = Welcome(1);
  welcome.mutable_welcome()->set_last_step_of_run(4711);
  session_.OnMessage(welcome);
  EXPECT_EQ(books_.last_step_of_run(), 4711);
  Drop();
  PassBackoff();
  Greet();
  welcome.mutable_welcome()->set_last_step_of_run(-7);  // From anybody.
  session_.OnMessage(welcome);
  EXPECT_EQ(books_.last_step_of_run(), -1);
}

TEST_F(SessionTest, ABatchIsOneFrameOfRecordsFromTheRing) {
  PutSteps(3);
  Connect();
  const v1::Batch batch = SendBatch();
  EXPECT_EQ(batch.first_seq(), 1u);
  EXPECT_EQ(batch.record_count(), 4u);
  const auto content = DecompressFrame(batch.frame(), 1 << 20);
  ASSERT_TRUE(content.ok());
  const auto list = SplitRecordList(*content);
  ASSERT_TRUE(list.ok());
  const auto entries = testing::EntriesOf(*ring_);
  ASSERT_EQ(list->size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ((*list)[i], entries[i].bytes);
  MustIdle();
}

TEST_F(SessionTest, OneWriteIsInFlight) {
  PutSteps(1);
  Connect();
  MustDo(Kind::kSend);
  PutSteps(1);
  MustIdle();
  session_.OnSent();
  EXPECT_EQ(SendBatch().first_seq(), 3u);
}

TEST_F(SessionTest, AnAckFreesAndCounts) {
  PutSteps(5);
  Connect();
  SendBatch();
  EXPECT_EQ(ring_->first_seq(), 1u);
  session_.OnMessage(Ack(3));
  EXPECT_EQ(ring_->first_seq(), 4u);
  EXPECT_EQ(books_.Snapshot().steps_acknowledged, 2u);
  session_.OnMessage(Ack(2));  // Old news.
  EXPECT_EQ(ring_->first_seq(), 4u);
  session_.OnMessage(Ack(6));
  EXPECT_TRUE(session_.drained());
  EXPECT_EQ(books_.Snapshot().steps_acknowledged, 5u);
  EXPECT_EQ(books_.Snapshot().bytes_acknowledged,
            books_.Snapshot().bytes_recorded);
}

TEST_F(SessionTest, BatchesKeepToAMebibyteAndToTheLimit) {
  PutSteps(200, 1'000);  // 20 KB each.
  Connect(1, 64 << 20);
  std::uint64_t next = 1;
  int batches = 0;
  while (next <= ring_->last_seq()) {
    const v1::Batch batch = SendBatch();
    EXPECT_EQ(batch.first_seq(), next);
    next += batch.record_count();
    const auto content = DecompressFrame(batch.frame(), 4 << 20);
    ASSERT_TRUE(content.ok());
    EXPECT_LE(content->size(), 1u << 20);
    EXPECT_LT(batch.frame().size(), content->size());
    ++batches;
  }
  EXPECT_GT(batches, 2);
  Drop();
  PassBackoff();
  Connect(1, 64 << 20, 100'000);
  EXPECT_LE(SendBatch().frame().size(), 100'000u);
}

TEST_F(SessionTest, ARecordLargerThanTheCreditLeftWaitsUntilNothingIsInFlight) {
  PutSteps(1, 10);
  Connect(1, 4'000);
  EXPECT_EQ(SendBatch().first_seq(), 1u);
  recorder_.PutSchema(testing::MakeSchema(2, 500));  // Beyond any credit here.
  recorder_.PutStep(testing::MakeStep(next_step_++, 2, 500));
  MustIdle();
  session_.OnMessage(Ack(2, 4'000));
  const v1::Batch batch = SendBatch();
  EXPECT_EQ(batch.first_seq(), 3u);
  EXPECT_EQ(batch.record_count(), 1u);
}

TEST_F(SessionTest, CreditHoldsBackWhatIsUnacknowledged) {
  PutSteps(150, 1'000);
  Connect(1, 300'000);
  std::size_t in_flight = 0;
  std::uint64_t sent = 0;
  while (auto action = session_.Next()) {
    ASSERT_TRUE(action->message.has_batch());
    in_flight += action->message.batch().frame().size();
    sent += action->message.batch().record_count();
    session_.OnSent();
  }
  EXPECT_GT(in_flight, 100'000u);
  EXPECT_LE(in_flight, 300'000u);
  EXPECT_LT(sent, ring_->last_seq());
  session_.OnMessage(Ack(sent, 0));
  MustIdle();  // Zero: wait.
  session_.OnMessage(Ack(sent, 300'000));
  EXPECT_EQ(SendBatch().first_seq(), sent + 1);
}

TEST_F(SessionTest, SilenceIsFilledWithHeartbeats) {
  PutSteps(2);
  Connect();
  SendBatch();
  session_.OnMessage(Ack(3));
  for (int i = 0; i < 5; ++i) {
    MustIdle();
    EXPECT_EQ(session_.NextDeadline() - clock_.Steady(), seconds(10));
    clock_.Advance(seconds(10));
    const Session::Action action = MustDo(Kind::kSend);
    ASSERT_TRUE(action.message.has_heartbeat());
    EXPECT_EQ(action.message.heartbeat().steps_recorded(), 2u);
    EXPECT_EQ(action.message.heartbeat().last_seq(), 3u);
    session_.OnSent();
  }
}

TEST_F(SessionTest, NoAckForThirtySecondsEndsTheCall) {
  PutSteps(1);
  Connect();
  MustDo(Kind::kSend);  // The write itself never ends.
  clock_.Advance(milliseconds(29'999));
  MustIdle();
  clock_.Advance(milliseconds(1));
  MustDo(Kind::kCancel);
  MustIdle();
  Drop(absl::StatusCode::kCancelled);
  EXPECT_EQ(session_.state(), SessionState::kBackoff);
  PassBackoff();
  Connect();
  EXPECT_EQ(SendBatch().first_seq(), 1u);
}

TEST_F(SessionTest, SlowButSteadyAcksKeepTheCall) {
  PutSteps(150, 1'000);
  Connect(1, 200'000);
  for (int i = 0; i < 6; ++i) {
    while (auto action = session_.Next()) {
      ASSERT_EQ(action->kind, Kind::kSend);
      session_.OnSent();
    }
    clock_.Advance(seconds(29));
    session_.OnMessage(Ack(ring_->first_seq(), 200'000));
  }
  EXPECT_EQ(session_.state(), SessionState::kStreaming);
}

TEST_F(SessionTest, NoWelcomeInTimeEndsTheCall) {
  PutSteps(1);
  MustDo(Kind::kConnect);
  clock_.Advance(seconds(20));
  MustDo(Kind::kCancel);
  session_.OnMessage(Welcome(1));  // Too late.
  MustIdle();
  Drop(absl::StatusCode::kCancelled);
  PassBackoff();
  Greet();
  clock_.Advance(seconds(20));
  MustDo(Kind::kCancel);
}

TEST_F(SessionTest, DelaysGrowWithFullJitterUpToThirtySecondsForEver) {
  PutSteps(1);
  uniform_ = 1.0;
  std::vector<std::int64_t> delays_ms;
  for (int i = 0; i < 1'000; ++i) {
    MustDo(Kind::kConnect);
    Drop();
    delays_ms.push_back(std::chrono::duration_cast<milliseconds>(
                            session_.NextDeadline() - clock_.Steady())
                            .count());
    MustIdle();
    PassBackoff();
  }
  EXPECT_EQ(delays_ms[0], 500);
  EXPECT_EQ(delays_ms[1], 1'000);
  EXPECT_EQ(delays_ms[5], 16'000);
  for (int i = 6; i < 1'000; ++i) EXPECT_EQ(delays_ms[i], 30'000);
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], HasSubstr("peer:1"));
  uniform_ = 0;
  MustDo(Kind::kConnect);
  Drop();
  EXPECT_EQ(session_.NextDeadline(), clock_.Steady());
}

TEST_F(SessionTest, ACollectorThatComesBackIsSaidToBeBack) {
  PutSteps(1);
  MustDo(Kind::kConnect);
  Drop();
  PassBackoff();
  ASSERT_EQ(lines_.size(), 1u);
  Connect();
  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_THAT(lines_[1], HasSubstr("peer:1 is back"));
}

TEST_F(SessionTest, AfterATlsHandshakeThatFailedDelaysGrowToTwoMinutes) {
  uniform_ = 1;
  PutSteps(1);
  const auto delay_after = [this](const std::string& why) {
    MustDo(Session::Action::Kind::kConnect);
    session_.OnClosed(absl::UnavailableError(why));
    const auto delay = session_.NextDeadline() - clock_.Steady();
    PassBackoff();
    return delay;
  };
  const std::string failed =
      "last error: UNKNOWN: Ssl handshake failed: SSL_ERROR_SSL";
  EXPECT_EQ(delay_after(failed), milliseconds(500));
  for (int i = 0; i < 10; ++i) delay_after(failed);
  EXPECT_EQ(delay_after(failed), std::chrono::minutes(2));
  // Once that is put right it is as before.
  EXPECT_EQ(delay_after("Connection refused"), seconds(30));
}

TEST_F(SessionTest, ProgressMakesTheNextDelayShortAgain) {
  PutSteps(1);
  uniform_ = 1.0;
  for (int i = 0; i < 8; ++i) {
    MustDo(Kind::kConnect);
    Drop();
    PassBackoff();
  }
  Connect();
  SendBatch();
  session_.OnMessage(Ack(2));
  Drop();
  EXPECT_EQ(session_.NextDeadline() - clock_.Steady(), milliseconds(500));
}

TEST_F(SessionTest, DrainingSaysByeOnceAllIsAcknowledged) {
  PutSteps(2);
  recorder_.PutEnd(EndReason::kFinished);
  session_.BeginDrain();
  Connect();
  SendBatch();
  MustIdle();
  session_.OnMessage(Ack(4));
  const Session::Action bye = MustDo(Kind::kSend);
  ASSERT_TRUE(bye.message.has_bye());
  EXPECT_EQ(bye.message.bye().last_seq(), 4u);
  session_.OnSent();
  MustDo(Kind::kHalfClose);
  session_.OnSent();
  MustIdle();
  EXPECT_FALSE(session_.finished());
  session_.OnClosed(absl::OkStatus());
  EXPECT_TRUE(session_.finished());
}

TEST_F(SessionTest, ACollectorThatDoesNotSayGoodbyeIsNotWaitedFor) {
  PutSteps(1);
  session_.BeginDrain();
  Connect();
  SendBatch();
  session_.OnMessage(Ack(2));
  MustDo(Kind::kSend);
  session_.OnSent();
  MustDo(Kind::kHalfClose);
  clock_.Advance(session_.NextDeadline() - clock_.Steady());
  MustIdle();
  EXPECT_TRUE(session_.finished());
}

TEST_F(SessionTest, DrainingWithNothingToDeliverIsFinishedAtOnce) {
  session_.BeginDrain();
  EXPECT_TRUE(session_.finished());
  MustIdle();
}

TEST_F(SessionTest, DrainingShortensTheDelay) {
  PutSteps(1);
  uniform_ = 1.0;
  for (int i = 0; i < 8; ++i) {
    MustDo(Kind::kConnect);
    Drop();
    if (i < 7) PassBackoff();
  }
  EXPECT_EQ(session_.NextDeadline() - clock_.Steady(), seconds(30));
  session_.BeginDrain();
  EXPECT_LE(session_.NextDeadline() - clock_.Steady(), milliseconds(500));
}

TEST_F(SessionTest, WallClockJumpsDoNotMatter) {
  PutSteps(1);
  Connect();
  SendBatch();
  clock_.JumpWall(-std::chrono::hours(1000));
  MustIdle();
  clock_.JumpWall(std::chrono::hours(100'000));
  MustIdle();
  EXPECT_EQ(session_.state(), SessionState::kStreaming);
}

// A loop that numbers its steps by samples; the run is deleted while it goes
// on, or its collector gets an empty data folder.
TEST_F(SessionTest, TheSchemaIsSentAgainHoweverManyRunsOfStepsCameSince) {
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 2'000; ++j) {
      PutSteps(1);
      next_step_ += 63;
    }
    if (i == 0) Connect();
    while (auto action = session_.Next()) {
      ASSERT_TRUE(action->message.has_batch());
      session_.OnSent();
      session_.OnMessage(Ack(action->message.batch().first_seq() +
                             action->message.batch().record_count() - 1));
    }
    ASSERT_TRUE(session_.drained());
  }
  PutSteps(1);
  Drop(absl::StatusCode::kAborted);
  PassBackoff();
  Connect(1);
  const v1::Batch batch = SendBatch();
  const auto content = DecompressFrame(batch.frame(), 4 << 20);
  ASSERT_TRUE(content.ok());
  const auto records = SplitRecordList(*content);
  ASSERT_TRUE(records.ok());
  EXPECT_EQ((*records)[0], EncodeSchema(testing::MakeSchema(1, 2)));
}

}  // namespace
}  // namespace gradtap::agent
