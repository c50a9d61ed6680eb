#include "agent/delivery/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/model_collector.h"
#include "agent/delivery/recorder.h"
#include "support/manual_clock.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::ModelCollector;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = Session::Action::Kind;

v1::CollectorMessage Welcome(std::uint64_t next_seq,
                             std::uint64_t credit = 1 << 20,
                             std::uint32_t max_batch = 2 << 20) {
  v1::CollectorMessage message;
  message.mutable_welcome()->set_next_seq(next_seq);
  message.mutable_welcome()->set_credit_bytes(credit);
  message.mutable_welcome()->set_max_batch_bytes(max_batch);
  return message;
}

v1::CollectorMessage Ack(std::uint64_t durable,
                         std::uint64_t credit = 1 << 20) {
  v1::CollectorMessage message;
  message.mutable_ack()->set_durable_seq(durable);
  message.mutable_ack()->set_credit_bytes(credit);
  return message;
}

v1::CollectorMessage Reject(v1::Reject::Code code, bool retry) {
  v1::CollectorMessage message;
  message.mutable_reject()->set_code(code);
  message.mutable_reject()->set_retry(retry);
  message.mutable_reject()->set_detail("because \x1b[31m");
  return message;
}

// A peer that the test plays itself.
class SessionTest : public ::testing::Test {
 protected:
  SessionTest()
      : ring_(MakeRing(4 << 20, 64 * 1024)),
        recorder_(ring_.get(), &books_, &clock_),
        log_([this](const std::string& line) { lines_.push_back(line); }),
        session_(Options(), ring_.get(), &books_, &clock_, &log_,
                 [this] { return uniform_; }) {}

  static SessionOptions Options() {
    SessionOptions options;
    options.collector = "peer:1";
    options.run = "run";
    options.launch = "launch";
    options.rank = 2;
    options.world_size = 4;
    options.process_nonce = "0123456789abcdef";
    options.tags = {{"team", "vision"}};
    return options;
  }

  void TearDown() override {
    const DeliveryCounters c = books_.Snapshot();
    EXPECT_EQ(c.steps_seen, c.steps_recorded + c.steps_skipped + c.steps_lost);
    EXPECT_LE(c.steps_acknowledged, c.steps_recorded);
  }

  void PutSteps(int count, std::size_t places = 2) {
    if (next_step_ == 0) recorder_.PutSchema(MakeSchema(1, places));
    for (int i = 0; i < count; ++i) {
      recorder_.PutStep(MakeStep(next_step_++, 1, places));
    }
  }

  Session::Action MustDo(Kind kind) {
    auto action = session_.Next();
    EXPECT_TRUE(action.has_value());
    if (!action) return {};
    EXPECT_EQ(action->kind, kind) << action->reason;
    return *std::move(action);
  }
  void MustIdle() { EXPECT_FALSE(session_.Next().has_value()); }

  v1::Hello Greet() {
    MustDo(Kind::kConnect);
    MustIdle();
    session_.OnConnected();
    const Session::Action hello = MustDo(Kind::kSend);
    EXPECT_TRUE(hello.message.has_hello());
    session_.OnSent();
    MustIdle();
    return hello.message.hello();
  }
  void Connect(std::uint64_t next_seq = 1, std::uint64_t credit = 1 << 20,
               std::uint32_t max_batch = 2 << 20) {
    Greet();
    session_.OnMessage(Welcome(next_seq, credit, max_batch));
    EXPECT_EQ(session_.state(), SessionState::kStreaming);
  }
  v1::Batch SendBatch() {
    const Session::Action action = MustDo(Kind::kSend);
    EXPECT_TRUE(action.message.has_batch());
    session_.OnSent();
    return action.message.batch();
  }
  void Drop(absl::StatusCode code = absl::StatusCode::kUnavailable) {
    session_.OnClosed(absl::Status(code, "gone"));
  }
  void PassBackoff() {
    while (session_.state() == SessionState::kBackoff &&
           clock_.Steady() < session_.NextDeadline()) {
      clock_.Advance(session_.NextDeadline() - clock_.Steady());
    }
  }

  ManualClock clock_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
  std::vector<std::string> lines_;
  double uniform_ = 0.5;
  OnceLog log_;
  Session session_;
  std::int64_t next_step_ = 0;
};

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
    ++batches;
  }
  EXPECT_GT(batches, 2);
  Drop();
  PassBackoff();
  Connect(1, 64 << 20, 100'000);
  EXPECT_LE(SendBatch().frame().size(), 100'000u);
}

TEST_F(SessionTest, AWelcomeWithAbsurdLimitsStillGetsOneRecordAtATime) {
  PutSteps(3);
  Connect(1, 1, 1);
  EXPECT_EQ(SendBatch().record_count(), 1u);
  MustIdle();  // Its credit is used up.
  session_.OnMessage(Ack(1, 1));
  EXPECT_EQ(SendBatch().record_count(), 1u);
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

TEST_F(SessionTest, AWelcomeAloneIsNotProgress) {
  PutSteps(1);
  uniform_ = 1.0;
  for (int i = 0; i < 8; ++i) {
    Connect();
    SendBatch();
    Drop();
    PassBackoff();
  }
  Connect();
  Drop();
  EXPECT_EQ(session_.NextDeadline() - clock_.Steady(), seconds(30));
}

TEST_F(SessionTest, ItGoesOnFromWhereTheCollectorIs) {
  PutSteps(9);
  Connect();
  SendBatch();
  session_.OnMessage(Ack(3));
  Drop();
  PassBackoff();
  // More had become durable than was acknowledged.
  Connect(8);
  EXPECT_EQ(ring_->first_seq(), 8u);
  EXPECT_EQ(books_.Snapshot().steps_acknowledged, 6u);
  EXPECT_EQ(SendBatch().first_seq(), 8u);
}

TEST_F(SessionTest, ACursorBeyondWhatWasSentIsRefusedForGood) {
  PutSteps(3);
  Greet();
  session_.OnMessage(Welcome(2));  // Nothing was ever sent.
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  MustDo(Kind::kCancel);
  Drop(absl::StatusCode::kCancelled);
  clock_.Advance(std::chrono::hours(10));
  MustIdle();
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  EXPECT_EQ(ring_->first_seq(), 1u);
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("run name")));
}

TEST_F(SessionTest, ACollectorThatHasLostDataIsToldWhichSteps) {
  PutSteps(6);
  Connect();
  SendBatch();
  session_.OnMessage(Ack(6));
  Drop();
  PassBackoff();
  PutSteps(2);
  Connect(3);  // It still has the schema and step 0.
  const v1::Batch batch = SendBatch();
  EXPECT_EQ(batch.first_seq(), 3u);
  EXPECT_EQ(batch.record_count(), 7u);
  const auto content = DecompressFrame(batch.frame(), 1 << 20);
  ASSERT_TRUE(content.ok());
  const auto list = SplitRecordList(*content);
  ASSERT_TRUE(list.ok());
  for (std::size_t i = 0; i < 4; ++i) {
    const auto record = ParseRecord((*list)[i]);
    ASSERT_TRUE(record.ok());
    ASSERT_EQ(record->kind, RecordKind::kGap);
    const auto gap = DecodeGap(record->body);
    ASSERT_TRUE(gap.ok());
    EXPECT_EQ(gap->cause, GapCause::kIoError);
    EXPECT_EQ(gap->first_step, static_cast<std::int64_t>(i + 1));
  }
  const auto step = ParseRecord((*list)[4]);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, RecordKind::kStep);
  EXPECT_THAT(lines_.back(), HasSubstr("has lost records 3 to 6"));
  session_.OnMessage(Ack(9));
  EXPECT_TRUE(session_.drained());
}

TEST_F(SessionTest, ARejectWithRetryIsTriedAgain) {
  PutSteps(1);
  for (int i = 0; i < 3; ++i) {
    Greet();
    session_.OnMessage(Reject(v1::Reject::CODE_DUPLICATE, true));
    MustDo(Kind::kCancel);
    Drop(absl::StatusCode::kOk);
    EXPECT_EQ(session_.state(), SessionState::kBackoff);
    PassBackoff();
  }
  EXPECT_EQ(lines_.size(), 1u);
  EXPECT_THAT(lines_[0], Not(HasSubstr("\x1b")));
}

TEST_F(SessionTest, ARejectWithoutRetryIsFinalAndRecordingGoesOn) {
  PutSteps(1);
  Greet();
  session_.OnMessage(Reject(v1::Reject::CODE_VERSION, false));
  MustDo(Kind::kCancel);
  Drop();
  PutSteps(100);
  clock_.Advance(std::chrono::hours(1));
  MustIdle();
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  EXPECT_EQ(books_.Snapshot().steps_recorded, 101u);
  EXPECT_EQ(lines_.size(), 1u);
  session_.BeginDrain();
  EXPECT_TRUE(session_.finished());
}

TEST_F(SessionTest, RejectedRecordsAreLostAndDoNotBlock) {
  PutSteps(4);
  Connect();
  SendBatch();
  v1::CollectorMessage ack = Ack(4);
  ack.mutable_ack()->add_rejected()->set_seq(3);
  ack.mutable_ack()->add_rejected()->set_seq(3);
  ack.mutable_ack()->add_rejected()->set_seq(5);  // Above durable: a lie.
  ack.mutable_ack()->add_rejected()->set_seq(999);
  ack.mutable_ack()->add_rejected()->set_seq(0);
  session_.OnMessage(ack);
  const DeliveryCounters c = books_.Snapshot();
  EXPECT_EQ(c.steps_lost, 1u);
  EXPECT_EQ(c.by_cause.at(GapCause::kRejected), 1u);
  EXPECT_EQ(c.steps_recorded, 3u);
  EXPECT_EQ(c.steps_acknowledged, 2u);
  EXPECT_EQ(ring_->first_seq(), 5u);
  EXPECT_EQ(lines_.size(), 1u);
}

TEST_F(SessionTest, ARejectedPartRejectsItsStepOnceWhicheverPartItIs) {
  for (const std::uint64_t rejected_part : {0u, 1u, 2u}) {
    ManualClock clock;
    Books books;
    auto ring = MakeRing(8 << 20, 64 * 1024);
    Recorder recorder(ring.get(), &books, &clock);
    Session session(Options(), ring.get(), &books, &clock, &log_,
                    [] { return 0.5; });
    recorder.PutStep(MakeStep(0, 1, 60'000));  // 1.2 MB: three parts.
    recorder.PutStep(MakeStep(1, 1, 2));
    ASSERT_EQ(ring->last_seq(), 4u);
    ASSERT_TRUE(session.Next().has_value());
    session.OnConnected();
    ASSERT_TRUE(session.Next().has_value());
    session.OnSent();
    session.OnMessage(Welcome(1, 8 << 20));
    while (auto action = session.Next()) session.OnSent();
    session.OnMessage(Ack(1));  // The first part alone.
    v1::CollectorMessage ack = Ack(4);
    ack.mutable_ack()->add_rejected()->set_seq(1 + rejected_part);
    session.OnMessage(ack);
    EXPECT_EQ(books.Snapshot().by_cause[GapCause::kRejected], 1u);
    EXPECT_EQ(books.Snapshot().steps_acknowledged, 1u);
  }
}

TEST_F(SessionTest, ALyingAckFreesNothingAndEndsTheCall) {
  PutSteps(5);
  Connect(1, 1, 1);
  SendBatch();  // Record 1 alone.
  for (const std::uint64_t lie : {std::uint64_t{2}, std::uint64_t{6},
                                  std::uint64_t{7}, ~std::uint64_t{0}}) {
    session_.OnMessage(Ack(lie));
    EXPECT_EQ(ring_->first_seq(), 1u);
  }
  MustDo(Kind::kCancel);
  session_.OnMessage(Ack(1));  // Nothing is believed any more.
  EXPECT_EQ(ring_->first_seq(), 1u);
  Drop();
  PassBackoff();
  Connect();
}

TEST_F(SessionTest, MessagesOutOfPlaceEndTheCall) {
  PutSteps(2);
  const std::vector<v1::CollectorMessage> early = {Ack(1), Ack(0)};
  for (const auto& message : early) {
    Greet();
    session_.OnMessage(message);
    MustDo(Kind::kCancel);
    Drop();
    PassBackoff();
  }
  Connect();
  session_.OnMessage(Welcome(1));  // Twice.
  MustDo(Kind::kCancel);
  Drop();
  PassBackoff();
  Greet();
  session_.OnMessage(Welcome(0));
  EXPECT_EQ(session_.state(), SessionState::kRefused);
}

TEST_F(SessionTest, AnUnknownKindIsPassedOver) {
  PutSteps(1);
  Connect();
  session_.OnMessage(v1::CollectorMessage());
  EXPECT_EQ(SendBatch().first_seq(), 1u);
}

TEST_F(SessionTest, EventsWithoutACallAreIgnored) {
  session_.OnConnected();
  session_.OnSent();
  session_.OnMessage(Welcome(5));
  session_.OnMessage(Ack(5));
  session_.OnMessage(Reject(v1::Reject::CODE_INVALID, false));
  session_.OnClosed(absl::OkStatus());
  EXPECT_EQ(session_.state(), SessionState::kIdle);
  MustIdle();
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

}  // namespace
}  // namespace gradtap::agent
