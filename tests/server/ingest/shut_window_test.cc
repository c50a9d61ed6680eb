// Peers that take nothing of what the collector sends them: the window of their
// calls is shut from the beginning.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gradtap/v1/telemetry.pb.h"
#include "server/ingest/service_fixture.h"
#include "server/ingest/session_client.h"
#include "server/service/raw_peer.h"

namespace gradtap::server {
namespace {

using testing::Client;
using testing::RawPeer;

class ShutWindowTest : public IngestServiceTest {
 protected:
  static constexpr std::uint32_t kSessions = 2;

  void SetUp() override {
    limits_.guards.refused = &refused_;
    limits_.max_sessions = kSessions;
    Start();
  }

  void TearDown() override {
    peers_.clear();  // A server that stops waits for its connections.
    Stop();
  }

  // One that says Hello, and takes no answer.
  void AddPeer() {
    peers_.push_back(std::make_unique<RawPeer>(
        address_, "/gradtap.v1.Telemetry/Session", 0));
    v1::AgentMessage message;
    *message.mutable_hello() =
        Client::MakeHello(static_cast<std::uint32_t>(peers_.size()));
    peers_.back()->SendMessage(message.SerializeAsString());
  }

  // False: not within a minute.
  template <typename Condition>
  static bool Await(Condition is_so) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (!is_so()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }

  // As time goes on: what is written to them may be so a moment later.
  void ExpectAllCutOff() {
    std::atomic<bool> done = false;
    std::thread time([&] {
      while (!done) {
        clock_.Advance(std::chrono::milliseconds(100));
        std::this_thread::yield();
      }
    });
    for (const auto& peer : peers_) EXPECT_TRUE(peer->AwaitEnd());
    done = true;
    time.join();
  }

  LimitCounters refused_;
  std::vector<std::unique_ptr<RawPeer>> peers_;
};

TEST_F(ShutWindowTest, WhoDoesNotTakeItsRejectionIsInNobodysWay) {
  Client first(channel_), second(channel_);
  first.Greet(Client::MakeHello(100));
  second.Greet(Client::MakeHello(101));
  // As many as there may be calls, and more.
  for (std::uint32_t i = 1; i <= 3 * kSessions; ++i) {
    AddPeer();
    ASSERT_TRUE(Await([&] { return refused_.refused(Limit::kSessions) == i; }))
        << i;
  }
  EXPECT_EQ(refused_.refused(Limit::kCalls), 0U);
  EXPECT_TRUE(first.Leave().ok());
  Client third(channel_);
  third.Greet(Client::MakeHello(102));
  ExpectAllCutOff();
}

TEST_F(ShutWindowTest, WhoDoesNotTakeItsWelcomeHasItsPlaceForSoLongOnly) {
  for (std::uint32_t i = 1; i <= kSessions; ++i) {
    AddPeer();
    ASSERT_TRUE(Await([&] { return ingest_->open_sessions() == i; })) << i;
  }
  {
    Client client(channel_);
    client.SendHello(Client::MakeHello());
    EXPECT_EQ(client.Read().reject().code(), v1::Reject::CODE_LIMIT);
    client.Finish();
  }
  ExpectAllCutOff();
  EXPECT_EQ(ingest_->open_sessions(), 0U);
  EXPECT_EQ(refused_.refused(Limit::kIdleTime), kSessions);
  Client client(channel_);
  client.Greet();
}

}  // namespace
}  // namespace gradtap::server
