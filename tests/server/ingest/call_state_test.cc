// One call without its gRPC: what is read, what is written, and when it ends.

#include "server/ingest/call_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "server/ingest/batch_builder.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::ManualClock;
using ::gradtap::testing::StatusIs;
using std::chrono::seconds;
using testing::GapRecord;
using ::testing::HasSubstr;
using testing::MakeBatch;

// A call of one stream, whose commits wait for the test.
class OneCall {
 public:
  OneCall(const IngestLimits& limits, LiveSessions* live, const Clock* clock,
          std::uint32_t rank = 0)
      : rank_(rank),
        state_(
            limits, live, clock, [](StreamHello) {},
            [this](std::unique_ptr<ValidatedBatch> batch) {
              pending_.push_back(std::move(batch));
            }) {}

  void SayHello() {
    HelloUntrusted hello;
    hello.protocol_version = kProtocolVersion;
    hello.run = "run";
    hello.launch = "launch";
    hello.rank = rank_;
    hello.world_size = rank_ + 1;
    hello.process_nonce = std::string(16, 'n');
    state_.OnHello(hello);
  }
  // Up to the Welcome, which is being written.
  void Begin() {
    EXPECT_TRUE(state_.Next().read);
    SayHello();
    OpenedStream opened;
    opened.entry.id = rank_ + 1;
    opened.entry.branches.push_back({});
    opened.scan_parts = [this](std::uint64_t, std::uint64_t,
                               const auto& visit) {
      for (const std::string& part : stored_) visit(part);
      return absl::OkStatus();
    };
    state_.OnOpened(opened);
    const CallState::Operations next = state_.Next();
    ASSERT_TRUE(next.write.has_value());
    EXPECT_TRUE(std::holds_alternative<WelcomeOut>(*next.write));
    EXPECT_TRUE(next.read);
  }
  void SendGaps(std::size_t count) {
    const auto batch =
        MakeBatch(next_seq_, std::vector<std::string>(count, GapRecord(1, 1)));
    next_seq_ += count;
    state_.OnBatch(batch.first_seq, batch.record_count, batch.frame);
  }
  // Of a record that is rejected once it is whole.
  void SendPart(std::uint32_t index, std::uint32_t count) {
    const auto batch = MakeBatch(
        next_seq_++,
        {EncodePartHead(index, count, 1'000) + std::string(1'000, '\x12')});
    state_.OnBatch(batch.first_seq, batch.record_count, batch.frame);
  }
  std::size_t pending() const { return pending_.size(); }
  void CommitOne() {
    ASSERT_FALSE(pending_.empty());
    const ValidatedBatch& done = *pending_.front();
    for (const auto& part : done.commit.parts) stored_.emplace_back(part.data);
    state_.OnCommitted(done.commit.last_seq, BytesHeld(done), {},
                       absl::OkStatus());
    pending_.pop_front();
  }

  CallState& state() { return state_; }

 private:
  const std::uint32_t rank_;
  std::uint64_t next_seq_ = 1;
  std::vector<std::string> stored_;  // Parts.
  std::deque<std::unique_ptr<ValidatedBatch>> pending_;
  CallState state_;
};

class CallStateTest : public ::testing::Test {
 protected:
  // What ends it, once its write has been made to fail.
  absl::Status Ended(OneCall* call) {
    call->state().OnWritten(false);
    const CallState::Operations last = call->state().Next();
    EXPECT_FALSE(last.cancel);
    EXPECT_FALSE(last.ends);
    EXPECT_FALSE(last.write.has_value());
    return last.finish.value_or(absl::UnknownError("it goes on"));
  }

  ManualClock clock_;
  LimitCounters refused_;
  IngestLimits limits_ = [this] {
    IngestLimits limits;
    limits.guards.refused = &refused_;
    return limits;
  }();
  LiveSessions live_{10};
};

TEST_F(CallStateTest, WhoIsSilentAndTakesNothingIsCutOff) {
  OneCall call(limits_, &live_, &clock_);
  call.Begin();
  clock_.Advance(limits_.idle_time);
  call.state().OnTick();
  const CallState::Operations next = call.state().Next();
  EXPECT_TRUE(next.ends);
  EXPECT_TRUE(next.cancel);
  EXPECT_FALSE(next.finish.has_value());
  EXPECT_EQ(live_.size(), 0U);
  EXPECT_THAT(Ended(&call), StatusIs(absl::StatusCode::kDeadlineExceeded,
                                     HasSubstr("no message")));
}

TEST_F(CallStateTest, WhoTakesNothingIsCutOffHoweverOftenItSpeaks) {
  OneCall call(limits_, &live_, &clock_);
  call.Begin();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(live_.size(), 1U);
    clock_.Advance(limits_.idle_time / 4);
    call.state().OnHeartbeat();
    EXPECT_FALSE(call.state().Next().cancel);
  }
  call.state().OnTick();
  const CallState::Operations next = call.state().Next();
  EXPECT_TRUE(next.ends);
  EXPECT_TRUE(next.cancel);
  EXPECT_EQ(live_.size(), 0U);
  EXPECT_EQ(refused_.refused(Limit::kIdleTime), 1U);
  EXPECT_THAT(Ended(&call),
              StatusIs(absl::StatusCode::kDeadlineExceeded,
                       HasSubstr("does not take what the collector sends")));
}

TEST_F(CallStateTest, WhoMayNoMoreIsCutOffAtOnceIfItTakesNothing) {
  OneCall call(limits_, &live_, &clock_);
  call.Begin();
  call.state().OnForbidden(absl::PermissionDeniedError("revoked"));
  const CallState::Operations next = call.state().Next();
  EXPECT_TRUE(next.ends);
  EXPECT_TRUE(next.cancel);
  EXPECT_EQ(live_.size(), 0U);
  EXPECT_THAT(Ended(&call), StatusIs(absl::StatusCode::kPermissionDenied,
                                     HasSubstr("revoked")));
}

TEST_F(CallStateTest, WhoMayNoMoreAndReadsIsToldWhy) {
  OneCall call(limits_, &live_, &clock_);
  call.Begin();
  call.state().OnWritten(true);
  call.state().OnForbidden(absl::PermissionDeniedError("revoked"));
  const CallState::Operations next = call.state().Next();
  EXPECT_TRUE(next.ends);
  EXPECT_FALSE(next.cancel);
  EXPECT_EQ(next.finish, absl::PermissionDeniedError("revoked"));
}

TEST_F(CallStateTest, WhoDoesNotTakeItsRejectionIsInNobodysWayAndThenCutOff) {
  LiveSessions none(0);
  OneCall call(limits_, &none, &clock_);
  EXPECT_TRUE(call.state().Next().read);
  call.SayHello();
  CallState::Operations next = call.state().Next();
  ASSERT_TRUE(next.write.has_value());
  EXPECT_TRUE(std::holds_alternative<RejectOut>(*next.write));
  EXPECT_TRUE(next.ends);  // Before it has left.
  EXPECT_FALSE(next.cancel);
  EXPECT_FALSE(next.finish.has_value());
  clock_.Advance(limits_.hello_time - std::chrono::milliseconds(1));
  call.state().OnTick();
  EXPECT_FALSE(call.state().Next().cancel);
  clock_.Advance(std::chrono::milliseconds(1));
  // Nor may it any more: the same.
  call.state().OnForbidden(absl::PermissionDeniedError("revoked"));
  next = call.state().Next();
  EXPECT_FALSE(next.ends);
  EXPECT_TRUE(next.cancel);
  EXPECT_THAT(Ended(&call), ::gradtap::testing::IsOk());
}

TEST_F(CallStateTest, AWriteThatLeavesInTimeEndsNothing) {
  OneCall call(limits_, &live_, &clock_);
  call.Begin();
  clock_.Advance(limits_.idle_time - seconds(1));
  call.state().OnHeartbeat();
  call.state().OnWritten(true);
  clock_.Advance(seconds(2));
  call.state().OnTick();
  const CallState::Operations next = call.state().Next();
  EXPECT_FALSE(next.cancel);
  EXPECT_FALSE(next.ends);
  EXPECT_EQ(live_.size(), 1U);
}

TEST_F(CallStateTest, WhenAllHoldTooMuchEachIsReadNoFurtherThanOneBatch) {
  limits_.pending_bytes = 1'000'000;
  OneCall greedy(limits_, &live_, &clock_);
  greedy.Begin();
  greedy.SendGaps(2'000);
  EXPECT_TRUE(greedy.state().Next().read);
  greedy.SendGaps(2'000);
  ASSERT_GT(live_.pending_bytes(), limits_.pending_bytes);
  EXPECT_FALSE(greedy.state().Next().read);  // It has credit left.
  OneCall other(limits_, &live_, &clock_, 1);
  other.Begin();
  other.SendGaps(1);
  EXPECT_FALSE(other.state().Next().read);
  other.CommitOne();
  EXPECT_TRUE(other.state().Next().read);
  greedy.CommitOne();
  EXPECT_TRUE(greedy.state().Next().read);
  // With twice as much nobody is read, and nobody is silent meanwhile.
  greedy.SendGaps(5'000);
  ASSERT_GT(live_.pending_bytes(), 2 * limits_.pending_bytes);
  OneCall third(limits_, &live_, &clock_, 2);
  EXPECT_TRUE(third.state().Next().read);  // Its Hello.
  other.state().OnHeartbeat();
  EXPECT_FALSE(other.state().Next().read);
  clock_.Advance(limits_.idle_time - seconds(1));
  other.state().OnWritten(true);  // The Welcome.
  other.state().OnTick();
  clock_.Advance(seconds(2));
  greedy.CommitOne();
  other.state().OnTick();
  const CallState::Operations next = other.state().Next();
  EXPECT_FALSE(next.ends);
  EXPECT_TRUE(next.read);
  greedy.state().OnGone();
  EXPECT_GT(live_.pending_bytes(), 0U);  // What waits is held all the same.
  greedy.CommitOne();
  EXPECT_EQ(live_.pending_bytes(), 0U);
}

// Two of one client that are as large as it may have are joined in turns.
class JoiningTest : public CallStateTest {
 protected:
  JoiningTest() { busy_ = room_.join_room().Ask("", 1, 0); }

  // Up to the last part, which waits for the room.
  void BeginAndWait(OneCall* call) {
    call->Begin();
    for (std::uint32_t i = 0; i < 2; ++i) {
      call->SendPart(i, 3);
      call->CommitOne();
      EXPECT_TRUE(call->state().Next().read);
    }
    call->SendPart(2, 3);
    EXPECT_EQ(call->pending(), 0U);
    EXPECT_FALSE(call->state().Next().read);
  }

  LiveSessions room_{10, 3'000};
  std::unique_ptr<JoinRoom::Place> busy_;
};

TEST_F(JoiningTest, ARecordWaitsUntilThereIsRoomToJoinIt) {
  OneCall call(limits_, &room_, &clock_);
  BeginAndWait(&call);
  // It is not silent, however long that takes.
  for (int i = 0; i < 4; ++i) {
    clock_.Advance(limits_.idle_time / 2);
    call.state().OnWritten(true);
    call.state().OnTick();
    const CallState::Operations next = call.state().Next();
    EXPECT_FALSE(next.read);
    EXPECT_FALSE(next.finish.has_value());
  }
  EXPECT_EQ(room_.pending_bytes(), 0U);  // Others are read all the same.
  busy_.reset();
  call.state().OnTick();
  EXPECT_EQ(call.pending(), 1U);
  EXPECT_TRUE(call.state().Next().read);
  call.CommitOne();
  EXPECT_EQ(room_.pending_bytes(), 0U);
  EXPECT_TRUE(room_.join_room().Ask("", 3'000, 0)->taken());
}

TEST_F(JoiningTest, WhoseRecordIsWholeInOneBatchWaitsForNobody) {
  OneCall call(limits_, &room_, &clock_);
  call.Begin();
  call.SendPart(0, 1);
  EXPECT_EQ(call.pending(), 1U);
  call.SendPart(0, 2);
  EXPECT_EQ(call.pending(), 2U);
}

TEST_F(JoiningTest, WhoGoesWhileItWaitsLeavesNothingBehind) {
  {
    OneCall call(limits_, &room_, &clock_);
    BeginAndWait(&call);
    call.state().OnGone();
    call.state().Next();
    EXPECT_EQ(room_.pending_bytes(), 0U);
    busy_.reset();
    EXPECT_TRUE(room_.join_room().Ask("", 3'000, 0)->taken());
    call.state().OnTick();
    EXPECT_EQ(call.pending(), 0U);
  }
  EXPECT_TRUE(room_.join_room().Ask("", 3'000, 0)->taken());
}

TEST_F(JoiningTest, WhereTooMuchWaitsTheCallEndsAndNothingOfItIsTaken) {
  const auto others = room_.join_room().Ask("", 3'000, 3'000);
  OneCall call(limits_, &room_, &clock_);
  call.Begin();
  for (std::uint32_t i = 0; i < 2; ++i) {
    call.SendPart(i, 3);
    call.CommitOne();
    call.state().OnWritten(true);
    call.state().Next();
  }
  call.state().OnWritten(true);
  call.SendPart(2, 3);
  EXPECT_EQ(call.pending(), 0U);
  const CallState::Operations next = call.state().Next();
  ASSERT_TRUE(next.finish.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*next.finish));
}

TEST_F(JoiningTest, ADrainDoesNotWaitForTheRoom) {
  OneCall call(limits_, &room_, &clock_);
  BeginAndWait(&call);
  call.state().OnDrain();
  call.state().OnWritten(true);
  call.state().Next();  // Acknowledges what is durable.
  call.state().OnWritten(true);
  const CallState::Operations next = call.state().Next();
  ASSERT_TRUE(next.finish.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*next.finish));
  EXPECT_EQ(room_.pending_bytes(), 0U);
}

}  // namespace
}  // namespace gradtap::server
