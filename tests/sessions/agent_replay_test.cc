// What collectors of each release have answered, said again to this agent: it
// frees what they have, sends what they lack, and its books balance. And the
// same as collectors of the next minor version may say it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/session_fixture.h"
#include "sessions/next_minor.h"
#include "sessions/session_file.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeOfNextMinor;
using ::gradtap::testing::OfUnknownKind;
using ::gradtap::testing::ReadSession;
using ::gradtap::testing::RecordedSession;
using ::gradtap::testing::RecordedSessions;
using ::gradtap::testing::SessionEntry;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ActionKind = Session::Action::Kind;
using Word = SessionEntry::Kind;

// The records are of this version, as many as the recorded agent had.
class AgentReplayTest : public SessionTest,
                        public ::testing::WithParamInterface<RecordedSession> {
 protected:
  static std::vector<SessionEntry> Recorded() {
    return ReadSession(GetParam().path + ".session");
  }
  static v1::CollectorMessage Parsed(const SessionEntry& entry) {
    v1::CollectorMessage message;
    EXPECT_TRUE(message.ParseFromString(entry.bytes));
    return message;
  }

  void PutAsMany(const std::vector<SessionEntry>& entries) {
    std::uint64_t last = 3;  // Two at least, or nobody is dialled.
    for (const SessionEntry& entry : entries) {
      if (entry.kind != Word::kAgent && entry.kind != Word::kAgentLost) {
        continue;
      }
      v1::AgentMessage message;
      ASSERT_TRUE(message.ParseFromString(entry.bytes));
      last = std::max(
          last, message.batch().first_seq() + message.batch().record_count());
    }
    PutSteps(static_cast<int>(last) - 2);
    ASSERT_EQ(ring_->last_seq(), last - 1);
  }

  // Does what the session asks for, until it asks for nothing.
  void Pump() {
    while (const auto action = session_.Next()) {
      if (action->kind == ActionKind::kConnect) session_.OnConnected();
      if (action->message.has_batch()) {
        const v1::Batch& batch = action->message.batch();
        sent_seq_ = batch.first_seq() + batch.record_count() - 1;
      }
      said_bye_ |= action->message.has_bye();
      cancelled_ |= action->kind == ActionKind::kCancel;
      if (action->kind != ActionKind::kCancel) session_.OnSent();
    }
  }

  void Hear(const v1::CollectorMessage& message) {
    Pump();
    const std::uint64_t durable = message.ack().durable_seq();
    ASSERT_GE(sent_seq_, durable) << "it has not sent what is acknowledged";
    const std::uint64_t before = ring_->first_seq();
    session_.OnMessage(message);
    if (message.has_welcome()) {
      EXPECT_EQ(session_.state(), SessionState::kStreaming);
      EXPECT_EQ(ring_->first_seq(),
                std::max(before, message.welcome().next_seq()));
    }
    for (const auto& rejection : message.ack().rejected()) {
      rejected_.insert(rejection.seq());
    }
    if (message.has_ack()) {
      EXPECT_EQ(ring_->first_seq(), std::max(before, durable + 1));
    }
    if (message.has_reject()) {
      EXPECT_EQ(session_.state(), SessionState::kRefused);
    }
    Pump();
  }

  void Replay(bool of_next_minor) {
    const std::vector<SessionEntry> entries = Recorded();
    ASSERT_NO_FATAL_FAILURE(PutAsMany(entries));
    for (const SessionEntry& entry : entries) {
      if (entry.kind == Word::kCollector) {
        v1::CollectorMessage message = Parsed(entry);
        if (of_next_minor) {
          MakeOfNextMinor(&message);
          ASSERT_NO_FATAL_FAILURE(Hear(OfUnknownKind<v1::CollectorMessage>()));
        }
        ASSERT_NO_FATAL_FAILURE(Hear(message));
      } else if (entry.kind == Word::kHalfClose) {
        session_.BeginDrain();
        Pump();
        EXPECT_TRUE(said_bye_);
      } else if (entry.kind == Word::kEnd) {
        session_.OnClosed(absl::OkStatus());
      } else if (entry.kind == Word::kCut) {
        Drop();
        EXPECT_EQ(session_.state(), SessionState::kBackoff);
        PassBackoff();
      }
    }
  }

  // Refused for good, or all of it delivered.
  void CheckTheEnd() {
    const DeliveryCounters c = books_.Snapshot();
    if (session_.state() == SessionState::kRefused) {
      EXPECT_TRUE(cancelled_);
      EXPECT_EQ(c.steps_acknowledged, 0U);
      EXPECT_THAT(lines_, ::testing::Contains(HasSubstr("refuses")));
      return;
    }
    EXPECT_FALSE(cancelled_) << "it broke off";
    EXPECT_TRUE(session_.finished());
    EXPECT_TRUE(session_.drained());
    EXPECT_EQ(c.steps_acknowledged, c.steps_recorded);
    EXPECT_EQ(c.steps_lost, rejected_.size());
  }

  std::uint64_t sent_seq_ = 0;
  bool said_bye_ = false;
  bool cancelled_ = false;
  std::set<std::uint64_t> rejected_;
};

TEST_P(AgentReplayTest, GoesOnAsTheReleaseDid) {
  Replay(false);
  CheckTheEnd();
}

TEST_P(AgentReplayTest, FieldsAndMessagesOfALaterVersionChangeNothing) {
  Replay(true);
  CheckTheEnd();
}

INSTANTIATE_TEST_SUITE_P(
    EachRelease, AgentReplayTest, ::testing::ValuesIn(RecordedSessions()),
    [](const ::testing::TestParamInfo<RecordedSession>& info) {
      std::string name = info.param.release + "_" + info.param.name;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return !std::isalnum(c); },
          '_');
      return name;
    });

class LaterCollectorTest : public SessionTest {};

v1::CollectorMessage RejectOfALaterVersion(bool retry) {
  v1::CollectorMessage message =
      Reject(static_cast<v1::Reject::Code>(99), retry);
  MakeOfNextMinor(&message);
  return message;
}

TEST_F(LaterCollectorTest, ACodeThatIsNotKnownIsTriedAgainIfItSaysSo) {
  PutSteps(1);
  Greet();
  session_.OnMessage(RejectOfALaterVersion(true));
  MustDo(ActionKind::kCancel);
  Drop(absl::StatusCode::kCancelled);
  EXPECT_EQ(session_.state(), SessionState::kBackoff);
  PassBackoff();
  Connect();
  EXPECT_EQ(SendBatch().record_count(), 2u);
  EXPECT_THAT(lines_, ::testing::Contains(HasSubstr("code 99")));
}

TEST_F(LaterCollectorTest, ACodeThatIsNotKnownIsFinalIfItSaysSo) {
  PutSteps(1);
  Greet();
  session_.OnMessage(RejectOfALaterVersion(false));
  EXPECT_EQ(session_.state(), SessionState::kRefused);
  EXPECT_THAT(lines_, ::testing::Contains(HasSubstr("code 99")));
}

TEST_F(LaterCollectorTest, AMessageOfAnotherKindBeforeTheWelcomeIsPassedOver) {
  PutSteps(1);
  Greet();
  session_.OnMessage(OfUnknownKind<v1::CollectorMessage>());
  EXPECT_EQ(session_.state(), SessionState::kConnecting);
  session_.OnMessage(Welcome(1));
  EXPECT_EQ(session_.state(), SessionState::kStreaming);
  EXPECT_THAT(lines_, IsEmpty());
}

}  // namespace
}  // namespace gradtap::agent
