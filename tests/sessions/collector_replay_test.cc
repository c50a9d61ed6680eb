// What agents of each release have sent, said again to this collector: its
// answers, and what it stores. And the same as agents of the next minor version
// may say it.

#include "sessions/collector_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/codec.h"
#include "sessions/next_minor.h"
#include "sessions/session_file.h"
#include "sessions/stored_text.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::MakeOfNextMinor;
using ::gradtap::testing::ReadSession;
using ::gradtap::testing::ReadWholeFile;
using ::gradtap::testing::RecordedSession;
using ::gradtap::testing::RecordedSessions;
using ::gradtap::testing::SessionEntry;
using testing::Answers;
using testing::Call;
using testing::CollectorReplay;
using ::testing::HasSubstr;
using testing::StoredText;

void ExpectSame(const Answers& now, const Answers& then) {
  EXPECT_EQ(now.welcome.attempt(), then.welcome.attempt());
  EXPECT_EQ(now.welcome.next_seq(), then.welcome.next_seq());
  EXPECT_EQ(now.welcome.last_step_of_run(), then.welcome.last_step_of_run());
  EXPECT_EQ(now.welcome.protocol_version(), then.welcome.protocol_version());
  EXPECT_EQ(now.reject.code(), then.reject.code());
  EXPECT_EQ(now.reject.retry(), then.reject.retry());
  EXPECT_EQ(now.durable_seq, then.durable_seq);
  EXPECT_EQ(now.rejected, then.rejected);
}

class CollectorReplayTest
    : public CollectorReplay,
      public ::testing::WithParamInterface<RecordedSession> {
 protected:
  static std::vector<SessionEntry> Recorded() {
    return ReadSession(GetParam().path + ".session");
  }
  static std::string RecordedText() {
    return ReadWholeFile(GetParam().path + ".stored");
  }
  void ExpectSameAnswers() const {
    for (const Heard& call : calls_) ExpectSame(call.now, call.then);
  }
};

TEST_P(CollectorReplayTest, AnswersAndStoresAsTheReleaseDid) {
  Replay(Recorded());
  ExpectSameAnswers();
  EXPECT_EQ(StoredText(store_.get(), run_), RecordedText());
}

TEST_P(CollectorReplayTest, FieldsAndMessagesOfALaterVersionChangeNothing) {
  unknown_kinds_ = true;
  Replay(Recorded(),
         [](v1::AgentMessage* message) { MakeOfNextMinor(message); });
  ExpectSameAnswers();
  EXPECT_EQ(StoredText(store_.get(), run_), RecordedText());
}

TEST_P(CollectorReplayTest, SaidTwiceItIsStoredOnce) {
  std::uint64_t durable = 0;
  Replay(Recorded());
  if (const auto run = store_->FindRun(run_); run != nullptr) {
    durable = run->streams.at(0).durable_seq;
  }
  for (const SessionEntry& entry : Recorded()) {
    v1::AgentMessage message;
    if (entry.kind != SessionEntry::Kind::kAgent) continue;
    ASSERT_TRUE(message.ParseFromString(entry.bytes));
    if (message.has_hello() && call_ == nullptr) {
      call_ = std::make_unique<Call>(stub_.get());
      call_->Send(message);
      EXPECT_EQ(call_->Read().welcome().next_seq(),
                durable == 0 ? 0 : durable + 1);
    } else if (message.has_batch()) {
      call_->Send(message);
      EXPECT_EQ(call_->Read().ack().durable_seq(), durable);
    }
  }
  call_->HalfClose();
  ASSERT_NO_FATAL_FAILURE(End(false));
  EXPECT_EQ(StoredText(store_.get(), run_), RecordedText());
}

INSTANTIATE_TEST_SUITE_P(
    EachRelease, CollectorReplayTest, ::testing::ValuesIn(RecordedSessions()),
    [](const ::testing::TestParamInfo<RecordedSession>& info) {
      std::string name = info.param.release + "_" + info.param.name;
      std::replace_if(
          name.begin(), name.end(), [](char c) { return !std::isalnum(c); },
          '_');
      return name;
    });

// ---- A later version than any release. ----

// What a later version may have in place of a record.
template <typename ChangeRecord>
void ChangeRecords(v1::AgentMessage* message, ChangeRecord change) {
  if (!message->has_batch()) return;
  v1::Batch* const batch = message->mutable_batch();
  const auto content = DecompressFrame(batch->frame(), 4 << 20);
  v1::RecordList list;
  ASSERT_TRUE(content.ok() && list.ParseFromString(*content));
  for (auto& record : *list.mutable_records()) change(&record);
  batch->set_frame(CompressFrame(list.SerializeAsString()));
}

class LaterAgentTest : public CollectorReplay {
 protected:
  // Of some release.
  static std::vector<SessionEntry> Whole() {
    std::string path;
    for (const RecordedSession& session : RecordedSessions()) {
      if (session.name == "whole") path = session.path;
    }
    return ReadSession(path + ".session");
  }
};

TEST_F(LaterAgentTest, CausesThatAreNotKnownAreKeptAndCountByTheirNumber) {
  Replay(Whole(), [](v1::AgentMessage* message) {
    ChangeRecords(message, [](v1::Record* record) {
      if (record->has_gap()) {
        record->mutable_gap()->set_cause(static_cast<v1::GapCause>(31));
      }
      if (record->step().skipped() != v1::GAP_CAUSE_UNSPECIFIED) {
        record->mutable_step()->set_skipped(static_cast<v1::GapCause>(9));
      }
    });
  });
  const std::string text = StoredText(store_.get(), run_);
  EXPECT_THAT(text, HasSubstr("stored 8 skipped 1 lost 3 rejected 0"));
  EXPECT_THAT(text, HasSubstr("skipped 9 'the loss scaler found"));
  EXPECT_THAT(text, HasSubstr("cause 31 steps 5 to 5: 1"));
  EXPECT_THAT(text, HasSubstr("cause 31 steps 6 to 7: 2"));
}

// docs/upkeep.md: the collector first.
TEST_F(LaterAgentTest, StepsOfARoleThatIsNotKnownAreRefusedAndNoOthers) {
  constexpr auto kLater = static_cast<v1::Role>(6);
  Replay(Whole(), [](v1::AgentMessage* message) {
    ChangeRecords(message, [](v1::Record* record) {
      if (record->has_schema()) {
        record->mutable_schema()->mutable_parameters(0)->add_roles(kLater);
      }
      if (record->has_step() && record->step().step() == 1) {
        record->mutable_step()->mutable_roles(0)->set_role(kLater);
      }
    });
  });
  const std::string text = StoredText(store_.get(), run_);
  ASSERT_EQ(calls_.size(), 1u);
  EXPECT_THAT(calls_[0].now.rejected, ::testing::ElementsAre(3));
  EXPECT_THAT(text, HasSubstr("stored 7 skipped 2 lost 3 rejected 1"));
  EXPECT_THAT(text, HasSubstr("cause 23 steps 1 to 1: 1"));
}

}  // namespace
}  // namespace gradtap::server
