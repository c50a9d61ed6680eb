// What agents of each release have sent, said again to this collector: its
// answers, and what it stores. And the same as agents of the next minor version
// may say it.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/ingest/ingest.h"
#include "sessions/next_minor.h"
#include "sessions/session_file.h"
#include "sessions/stored_text.h"
#include "support/manual_clock.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::MakeOfNextMinor;
using ::gradtap::testing::ManualClock;
using ::gradtap::testing::OfUnknownKind;
using ::gradtap::testing::ReadSession;
using ::gradtap::testing::ReadWholeFile;
using ::gradtap::testing::RecordedSession;
using ::gradtap::testing::RecordedSessions;
using ::gradtap::testing::SessionEntry;
using ::gradtap::testing::TempDir;
using std::chrono::seconds;
using testing::StoredText;
using Kind = SessionEntry::Kind;

// One call, as an agent makes it. Its deadline makes a hang a failure.
class Call {
 public:
  explicit Call(v1::Telemetry::Stub* stub) {
    context_.set_deadline(std::chrono::system_clock::now() + seconds(120));
    stream_ = stub->Session(&context_);
  }

  bool Send(const v1::AgentMessage& message) { return stream_->Write(message); }
  // A message of no kind: the call has ended.
  v1::CollectorMessage Read() {
    v1::CollectorMessage message;
    if (!stream_->Read(&message)) message.Clear();
    return message;
  }
  void HalfClose() { stream_->WritesDone(); }
  void Cut() { context_.TryCancel(); }
  grpc::Status Finish() {
    while (Read().kind_case() != v1::CollectorMessage::KIND_NOT_SET) {
    }
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AgentMessage, v1::CollectorMessage>>
      stream_;
};

// What a collector has said in one call, in which acks may have been joined.
struct Answers {
  v1::Welcome welcome;
  v1::Reject reject;
  std::uint64_t durable_seq = 0;
  std::set<std::uint64_t> rejected;

  void Add(const v1::CollectorMessage& message) {
    if (message.has_welcome()) welcome = message.welcome();
    if (message.has_reject()) reject = message.reject();
    if (!message.has_ack()) return;
    durable_seq = std::max(durable_seq, message.ack().durable_seq());
    for (const auto& rejection : message.ack().rejected()) {
      EXPECT_NE(rejection.reason(), "");
      rejected.insert(rejection.seq());
    }
  }
};

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

class CollectorReplayTest : public ::testing::TestWithParam<RecordedSession> {
 protected:
  void SetUp() override {
    auto store = OpenRocksdbStore({temp_.path()});
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    ingest_ = Ingest::Create(store_.get(), &clock_);
    grpc::ServerBuilder builder;
    builder.RegisterService(ingest_->service());
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    stub_ = v1::Telemetry::NewStub(server_->InProcessChannel({}));
  }
  void TearDown() override {
    ingest_->Drain(std::chrono::steady_clock::now() + seconds(60));
    EXPECT_EQ(ingest_->open_sessions(), 0U);
    server_->Shutdown(std::chrono::system_clock::now() + seconds(60));
  }

  static std::vector<SessionEntry> Recorded() {
    return ReadSession(GetParam().path + ".session");
  }
  static std::string RecordedText() {
    return ReadWholeFile(GetParam().path + ".stored");
  }

  // Says all that arrived then; `of_next_minor`: in its words.
  void Replay(bool of_next_minor) {
    Answers now, then;
    for (const SessionEntry& entry : Recorded()) {
      switch (entry.kind) {
        case Kind::kAgent:
          Say(entry.bytes, of_next_minor, &now);
          break;
        case Kind::kCollector:
        case Kind::kCollectorLost: {
          v1::CollectorMessage message;
          ASSERT_TRUE(message.ParseFromString(entry.bytes));
          then.Add(message);
          break;
        }
        case Kind::kAgentLost:
          break;
        case Kind::kHalfClose:
          ASSERT_NE(call_, nullptr);
          call_->HalfClose();
          break;
        case Kind::kEnd:
        case Kind::kCut:
          End(entry.kind == Kind::kCut);
          ExpectSame(now, then);
          now = then = {};
      }
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(call_, nullptr) << "the last call of the file does not end";
  }

  void Say(const std::string& bytes, bool of_next_minor, Answers* answers) {
    v1::AgentMessage message;
    ASSERT_TRUE(message.ParseFromString(bytes));
    run_ = message.has_hello() ? message.hello().run() : run_;
    if (of_next_minor) MakeOfNextMinor(&message);
    if (call_ == nullptr) call_ = std::make_unique<Call>(stub_.get());
    ASSERT_TRUE(call_->Send(message));
    if (message.has_hello()) answers->Add(call_->Read());
    if (of_next_minor && answers->welcome.next_seq() > 0) {
      call_->Send(OfUnknownKind<v1::AgentMessage>());
    }
    if (!message.has_batch()) return;
    const std::uint64_t last =
        message.batch().first_seq() + message.batch().record_count() - 1;
    while (answers->durable_seq < last) {
      const v1::CollectorMessage answer = call_->Read();
      ASSERT_TRUE(answer.has_ack()) << answer.DebugString();
      answers->Add(answer);
    }
  }

  void End(bool cut) {
    ASSERT_NE(call_, nullptr);
    if (cut) call_->Cut();
    const grpc::Status status = call_->Finish();
    EXPECT_EQ(status.error_code(),
              cut ? grpc::StatusCode::CANCELLED : grpc::StatusCode::OK)
        << status.error_message();
    call_.reset();
    // It notices in its own time that a call is lost.
    const auto give_up = std::chrono::steady_clock::now() + seconds(120);
    while (ingest_->open_sessions() > 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  TempDir temp_;
  ManualClock clock_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Ingest> ingest_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Telemetry::Stub> stub_;
  std::unique_ptr<Call> call_;
  std::string run_;
};

TEST_P(CollectorReplayTest, AnswersAndStoresAsTheReleaseDid) {
  Replay(false);
  EXPECT_EQ(StoredText(store_.get(), run_), RecordedText());
}

TEST_P(CollectorReplayTest, FieldsAndMessagesOfALaterVersionChangeNothing) {
  Replay(true);
  EXPECT_EQ(StoredText(store_.get(), run_), RecordedText());
}

TEST_P(CollectorReplayTest, SaidTwiceItIsStoredOnce) {
  std::uint64_t durable = 0;
  Replay(false);
  if (const auto run = store_->FindRun(run_); run != nullptr) {
    durable = run->streams.at(0).durable_seq;
  }
  for (const SessionEntry& entry : Recorded()) {
    v1::AgentMessage message;
    if (entry.kind != Kind::kAgent) continue;
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

}  // namespace
}  // namespace gradtap::server
