// A collector that hears again what agents have said: its gRPC service in this
// process, without a network, over a new data folder.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SESSIONS_COLLECTOR_REPLAY_H_
#define GRADTAP_TESTS_SESSIONS_COLLECTOR_REPLAY_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
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

namespace gradtap::server::testing {

using ::gradtap::testing::SessionEntry;

// One call, as an agent makes it. Its deadline makes a hang a failure.
class Call {
 public:
  explicit Call(v1::Telemetry::Stub* stub) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(120));
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

class CollectorReplay : public ::testing::Test {
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
    ingest_->Drain(std::chrono::steady_clock::now() + std::chrono::seconds(60));
    EXPECT_EQ(ingest_->open_sessions(), 0U);
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::seconds(60));
  }

  // What is made of a message before it is said.
  using Change = std::function<void(v1::AgentMessage*)>;

  // Says all that arrived then; the answers, each call's, are in calls_.
  void Replay(const std::vector<SessionEntry>& entries,
              const Change& change = nullptr) {
    Answers now, then;
    for (const SessionEntry& entry : entries) {
      switch (entry.kind) {
        case SessionEntry::Kind::kAgent:
          Say(entry.bytes, change, &now);
          break;
        case SessionEntry::Kind::kCollector:
        case SessionEntry::Kind::kCollectorLost: {
          v1::CollectorMessage message;
          ASSERT_TRUE(message.ParseFromString(entry.bytes));
          then.Add(message);
          break;
        }
        case SessionEntry::Kind::kAgentLost:
          break;
        case SessionEntry::Kind::kHalfClose:
          ASSERT_NE(call_, nullptr);
          call_->HalfClose();
          break;
        case SessionEntry::Kind::kEnd:
        case SessionEntry::Kind::kCut:
          End(entry.kind == SessionEntry::Kind::kCut);
          calls_.push_back({now, then});
          now = then = {};
      }
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(call_, nullptr) << "the last call of the file does not end";
  }

  void Say(const std::string& bytes, const Change& change, Answers* answers) {
    v1::AgentMessage message;
    ASSERT_TRUE(message.ParseFromString(bytes));
    run_ = message.has_hello() ? message.hello().run() : run_;
    if (change) change(&message);
    if (call_ == nullptr) call_ = std::make_unique<Call>(stub_.get());
    ASSERT_TRUE(call_->Send(message));
    if (message.has_hello()) answers->Add(call_->Read());
    if (unknown_kinds_ && answers->welcome.next_seq() > 0) {
      call_->Send(::gradtap::testing::OfUnknownKind<v1::AgentMessage>());
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
    const auto give_up =
        std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (ingest_->open_sessions() > 0) {
      ASSERT_LT(std::chrono::steady_clock::now(), give_up);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  ::gradtap::testing::TempDir temp_;
  ::gradtap::testing::ManualClock clock_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Ingest> ingest_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::Telemetry::Stub> stub_;
  std::unique_ptr<Call> call_;
  std::string run_;
  // Says a message of a kind that nobody knows after each one.
  bool unknown_kinds_ = false;
  struct Heard {
    Answers now, then;
  };
  std::vector<Heard> calls_;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SESSIONS_COLLECTOR_REPLAY_H_
