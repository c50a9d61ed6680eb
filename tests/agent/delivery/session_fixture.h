// A peer of the session that the test plays itself.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_AGENT_DELIVERY_SESSION_FIXTURE_H_
#define GRADTAP_TESTS_AGENT_DELIVERY_SESSION_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/recorder.h"
#include "agent/delivery/session.h"
#include "support/manual_clock.h"

namespace gradtap::agent {

inline v1::CollectorMessage Welcome(std::uint64_t next_seq,
                                    std::uint64_t credit = 1 << 20,
                                    std::uint32_t max_batch = 2 << 20) {
  v1::CollectorMessage message;
  message.mutable_welcome()->set_next_seq(next_seq);
  message.mutable_welcome()->set_credit_bytes(credit);
  message.mutable_welcome()->set_max_batch_bytes(max_batch);
  return message;
}

inline v1::CollectorMessage Ack(std::uint64_t durable,
                                std::uint64_t credit = 1 << 20) {
  v1::CollectorMessage message;
  message.mutable_ack()->set_durable_seq(durable);
  message.mutable_ack()->set_credit_bytes(credit);
  return message;
}

inline v1::CollectorMessage Reject(v1::Reject::Code code, bool retry) {
  v1::CollectorMessage message;
  message.mutable_reject()->set_code(code);
  message.mutable_reject()->set_retry(retry);
  message.mutable_reject()->set_detail("because \x1b[31m");
  return message;
}

class SessionTest : public ::testing::Test {
 protected:
  explicit SessionTest(
      std::chrono::milliseconds linger = std::chrono::milliseconds(0))
      : ring_(testing::MakeRing(4 << 20, 64 * 1024)),
        recorder_(ring_.get(), &books_, &clock_),
        log_([this](const std::string& line) { lines_.push_back(line); }),
        session_(Options(linger), ring_.get(), &books_, &clock_, &log_,
                 [this] { return uniform_; }) {}

  static SessionOptions Options(std::chrono::milliseconds linger) {
    SessionOptions options;
    options.linger = linger;
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
    if (next_step_ == 0) recorder_.PutSchema(testing::MakeSchema(1, places));
    for (int i = 0; i < count; ++i) {
      recorder_.PutStep(testing::MakeStep(next_step_++, 1, places));
    }
  }

  Session::Action MustDo(Session::Action::Kind kind) {
    auto action = session_.Next();
    EXPECT_TRUE(action.has_value());
    if (!action) return {};
    EXPECT_EQ(action->kind, kind) << action->reason;
    return *std::move(action);
  }
  void MustIdle() { EXPECT_FALSE(session_.Next().has_value()); }

  v1::Hello Greet() {
    MustDo(Session::Action::Kind::kConnect);
    MustIdle();
    session_.OnConnected();
    const Session::Action hello = MustDo(Session::Action::Kind::kSend);
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
    const Session::Action action = MustDo(Session::Action::Kind::kSend);
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

  testing::ManualClock clock_;
  Books books_;
  std::unique_ptr<Ring> ring_;
  Recorder recorder_;
  std::vector<std::string> lines_;
  double uniform_ = 0.5;
  OnceLog log_;
  Session session_;
  std::int64_t next_step_ = 0;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_TESTS_AGENT_DELIVERY_SESSION_FIXTURE_H_
