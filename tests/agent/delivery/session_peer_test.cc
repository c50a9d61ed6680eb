#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/session.h"
#include "agent/delivery/session_fixture.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeRing;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::ManualClock;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = Session::Action::Kind;

// Peers that are confused, unwilling, forgetful or lying.
class SessionPeerTest : public SessionTest {};

TEST_F(SessionPeerTest, AWelcomeWithAbsurdLimitsStillGetsOneRecordAtATime) {
  PutSteps(3);
  Connect(1, 1, 1);
  EXPECT_EQ(SendBatch().record_count(), 1u);
  MustIdle();  // Its credit is used up.
  session_.OnMessage(Ack(1, 1));
  EXPECT_EQ(SendBatch().record_count(), 1u);
}

TEST_F(SessionPeerTest, AWelcomeAloneIsNotProgress) {
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

TEST_F(SessionPeerTest, ItGoesOnFromWhereTheCollectorIs) {
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

// Somebody has imported a copy of its spool.
TEST_F(SessionPeerTest, ACursorBeyondWhatThisSessionHasSentIsBelieved) {
  PutSteps(3);
  Connect(4);
  EXPECT_EQ(ring_->first_seq(), 4u);
  EXPECT_EQ(books_.Snapshot().steps_acknowledged, 2u);
  EXPECT_EQ(SendBatch().first_seq(), 4u);
}

TEST_F(SessionPeerTest, ACursorBeyondWhatWasMadeIsRefusedForGood) {
  PutSteps(3);
  Greet();
  session_.OnMessage(Welcome(6));  // The schema and three steps.
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  MustDo(Kind::kCancel);
  Drop(absl::StatusCode::kCancelled);
  clock_.Advance(std::chrono::hours(10));
  MustIdle();
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  EXPECT_EQ(ring_->first_seq(), 1u);
  EXPECT_THAT(lines_, ElementsAre(HasSubstr("run name")));
}

// The causes of the gaps that a batch begins with.
std::vector<GapCause> LeadingGaps(const v1::Batch& batch) {
  std::vector<GapCause> causes;
  const auto content = DecompressFrame(batch.frame(), 1 << 20);
  EXPECT_TRUE(content.ok());
  const auto list = SplitRecordList(*content);
  EXPECT_TRUE(list.ok());
  for (const auto& bytes : *list) {
    const auto record = ParseRecord(bytes);
    EXPECT_TRUE(record.ok());
    if (record->kind == RecordKind::kSchema) continue;
    if (record->kind != RecordKind::kGap) break;
    causes.push_back(DecodeGap(record->body)->cause);
  }
  return causes;
}

TEST_F(SessionPeerTest, ACollectorThatHasLostDataIsToldWhichSteps) {
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
    EXPECT_EQ(gap->cause, GapCause::kIoError);  // Nobody deleted anything.
    EXPECT_EQ(gap->first_step, static_cast<std::int64_t>(i + 1));
  }
  const auto step = ParseRecord((*list)[4]);
  ASSERT_TRUE(step.ok());
  EXPECT_EQ(step->kind, RecordKind::kStep);
  EXPECT_THAT(lines_.back(), HasSubstr("has lost records 3 to 6"));
  session_.OnMessage(Ack(9));
  EXPECT_TRUE(session_.drained());
}

// A copy of before is restored while what a dead process has left is delivered.
TEST_F(SessionPeerTest,
       AHoleBeforeAllThatIsKnownIsToldThoughSomeOfThatIsFreed) {
  PutSteps(9);
  testing::FreeOldest(ring_.get(), 4);  // The schema and steps 0 to 2.
  SessionOptions options = Options(milliseconds(0));
  options.leftovers = options.declare_holes = true;
  Session session(options, ring_.get(), &books_, &clock_, &log_,
                  [] { return 0.5; });
  const auto batch_after = [&](std::uint64_t next_seq) {
    EXPECT_TRUE(session.Next().has_value());
    session.OnConnected();
    EXPECT_TRUE(session.Next().has_value());
    session.OnSent();
    session.OnMessage(Welcome(next_seq));
    const auto action = session.Next();
    EXPECT_TRUE(action && action->message.has_batch());
    session.OnSent();
    return action->message.batch();
  };
  EXPECT_EQ(batch_after(5).record_count(), 6u);
  session.OnMessage(Ack(7));
  session.OnClosed(absl::UnavailableError("restored"));
  clock_.Advance(session.NextDeadline() - clock_.Steady());
  const v1::Batch batch = batch_after(2);
  EXPECT_EQ(batch.first_seq(), 2u);
  const auto content = DecompressFrame(batch.frame(), 1 << 20);
  ASSERT_TRUE(content.ok());
  const auto list = SplitRecordList(*content);
  ASSERT_TRUE(list.ok());
  std::vector<std::pair<std::int64_t, std::int64_t>> gaps;
  for (const auto& bytes : *list) {
    const auto record = ParseRecord(bytes);
    ASSERT_TRUE(record.ok());
    if (record->kind != RecordKind::kGap) continue;
    const auto gap = DecodeGap(record->body);
    ASSERT_TRUE(gap.ok());
    gaps.emplace_back(gap->first_step, gap->last_step);
  }
  using Steps = std::pair<std::int64_t, std::int64_t>;
  EXPECT_THAT(gaps,
              ElementsAre(Steps(0, 2), Steps(3, 3), Steps(4, 4), Steps(5, 5)));
}

TEST_F(SessionPeerTest, StepsOfADeletedRunAreSaidToBeDeleted) {
  PutSteps(3);
  Connect();
  SendBatch();
  session_.OnMessage(Ack(4));
  PutSteps(1);
  SendBatch();
  Drop(absl::StatusCode::kAborted);  // What was sent finds no run.
  const std::vector<GapCause> deleted(3, GapCause::kRunDeleted);
  for (int i = 0; i < 2; ++i) {
    // Also if the connection breaks before that is stored.
    PassBackoff();
    Connect(1);
    EXPECT_EQ(LeadingGaps(SendBatch()), deleted);
    Drop();
  }
  EXPECT_THAT(lines_, Contains(HasSubstr("has deleted records 1 to 4")));
  PassBackoff();
  Connect(1);
  SendBatch();
  session_.OnMessage(Ack(5));
  EXPECT_TRUE(session_.drained());
  // What goes after that is another matter.
  Drop();
  PassBackoff();
  Connect(1);
  EXPECT_EQ(LeadingGaps(SendBatch()),
            std::vector<GapCause>(4, GapCause::kIoError));
}

TEST_F(SessionPeerTest, ADeletedRunThatWasNotMissedIsForgotten) {
  PutSteps(3);
  Connect();
  SendBatch();
  session_.OnMessage(Ack(4));
  Drop(absl::StatusCode::kAborted);
  PassBackoff();
  Connect(5);  // All is there.
  Drop();
  PassBackoff();
  Connect(1);
  EXPECT_EQ(LeadingGaps(SendBatch()),
            std::vector<GapCause>(3, GapCause::kIoError));
}

TEST_F(SessionPeerTest, ARejectWithRetryIsTriedAgain) {
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

TEST_F(SessionPeerTest, ARejectWithoutRetryIsFinalAndRecordingGoesOn) {
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

TEST_F(SessionPeerTest, RejectedRecordsAreLostAndDoNotBlock) {
  PutSteps(4);
  Connect();
  SendBatch();
  v1::CollectorMessage ack = Ack(4);
  v1::Rejection* const rejection = ack.mutable_ack()->add_rejected();
  rejection->set_seq(3);
  rejection->set_reason("bad");
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

TEST_F(SessionPeerTest, ManyRecordsInARowAreRejectedInOneWord) {
  PutSteps(9);
  Connect();
  SendBatch();
  v1::CollectorMessage ack = Ack(7);
  v1::Rejection* rejection = ack.mutable_ack()->add_rejected();
  rejection->set_seq(2);
  rejection->set_count(3);
  rejection = ack.mutable_ack()->add_rejected();
  rejection->set_seq(6);
  rejection->set_count(~std::uint64_t{0});  // No more than are durable.
  session_.OnMessage(ack);
  const DeliveryCounters c = books_.Snapshot();
  EXPECT_EQ(c.by_cause.at(GapCause::kRejected), 5u);
  EXPECT_EQ(c.steps_acknowledged, 1u);
  EXPECT_EQ(ring_->first_seq(), 8u);
}

TEST_F(SessionPeerTest, RangesThatOverlapRejectEachRecordOnce) {
  PutSteps(50);
  Connect();
  SendBatch();
  v1::CollectorMessage ack = Ack(51);
  for (std::uint64_t i = 0; i < 10'000; ++i) {
    v1::Rejection* const rejection = ack.mutable_ack()->add_rejected();
    rejection->set_seq(2 + i * 7 % 20);
    rejection->set_count(5);
  }
  session_.OnMessage(ack);
  const DeliveryCounters c = books_.Snapshot();
  EXPECT_EQ(c.by_cause.at(GapCause::kRejected), 24u);  // Records 2 to 25.
  EXPECT_EQ(c.steps_acknowledged, 26u);
}

TEST_F(SessionPeerTest, ARejectedPartRejectsItsStepOnceWhicheverPartItIs) {
  for (const std::uint64_t rejected_part : {0u, 1u, 2u}) {
    ManualClock clock;
    Books books;
    auto ring = MakeRing(8 << 20, 64 * 1024);
    Recorder recorder(ring.get(), &books, &clock);
    Session session(Options(milliseconds(0)), ring.get(), &books, &clock, &log_,
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

TEST_F(SessionPeerTest, ALyingAckFreesNothingAndEndsTheCall) {
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

TEST_F(SessionPeerTest, MessagesOutOfPlaceEndTheCall) {
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

TEST_F(SessionPeerTest, AnUnknownKindIsPassedOver) {
  PutSteps(1);
  Connect();
  session_.OnMessage(v1::CollectorMessage());
  EXPECT_EQ(SendBatch().first_seq(), 1u);
}

TEST_F(SessionPeerTest, EventsWithoutACallAreIgnored) {
  session_.OnConnected();
  session_.OnSent();
  session_.OnMessage(Welcome(5));
  session_.OnMessage(Ack(5));
  session_.OnMessage(Reject(v1::Reject::CODE_INVALID, false));
  session_.OnClosed(absl::OkStatus());
  EXPECT_EQ(session_.state(), SessionState::kIdle);
  MustIdle();
}

}  // namespace
}  // namespace gradtap::agent
