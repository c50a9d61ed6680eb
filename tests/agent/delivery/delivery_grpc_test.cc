// The whole of delivery against real gRPC servers, in this process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "agent/delivery/delivery_grpc_fixture.h"
#include "support/endless_message.h"
#include "support/free_port.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace {
// A forked child keeps what it may not touch: no leak there is one.
bool in_child = false;
}  // namespace
// Asked by LeakSanitizer, where there is one.
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() {
  return in_child ? 1 : 0;
}

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EndlessMessage;
using ::gradtap::testing::FreePort;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeSkippedStep;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::RawListener;
using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::gradtap::testing::TestServer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST_F(DeliveryGrpcTest, StreamsEveryStepAndSaysGoodbye) {
  TestServer server;
  server.Start();
  Create(Options(server.address()));
  EXPECT_EQ(delivery_->state(), DeliveryState::kIdle);
  PutSteps(100);
  const FlushOutcome flushed = delivery_->Flush(kPatience);
  EXPECT_TRUE(flushed.delivered);
  EXPECT_EQ(flushed.undelivered_steps, 0u);
  EXPECT_EQ(delivery_->state(), DeliveryState::kStreaming);
  PutSteps(100);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  AwaitBye(&server);
  server.Stop();
  ExpectAllStored(server, 200);
  EXPECT_EQ(server.collector().Contents().end->reason, EndReason::kFinished);
  EXPECT_EQ(server.collector().byes, 1);
  EXPECT_EQ(server.collector().last_hello.run(), "grpc-test");
  EXPECT_EQ(server.collector().last_hello.launch().size(), 32u);
  // On this machine nothing is gained by compressing.
  EXPECT_GT(server.collector().frame_bytes, server.collector().content_bytes);
  EXPECT_EQ(delivery_->counters().steps_acknowledged, 200u);
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(DeliveryGrpcTest, LargeStepsTravelInParts) {
  TestServer server;
  server.Start();
  DeliveryOptions options = Options(server.address());
  options.ring_bytes = DeliveryOptions().ring_bytes;
  Create(options);
  delivery_->ReserveForSteps(8 << 20);
  EXPECT_GE(delivery_->ring_bytes(), 16u * (8u << 20));
  PutSteps(10, 60'000);  // 1.2 MB each.
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 10);
  EXPECT_EQ(server.collector().Contents().incomplete, 0u);
}

TEST_F(DeliveryGrpcTest, AnUnusedOneStartsNothing) {
  Create(Options("127.0.0.1:1"));
  delivery_->PutSchema(MakeSchema(1, 3));
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_EQ(delivery_->state(), DeliveryState::kIdle);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  EXPECT_THAT(Lines(), IsEmpty());
}

TEST_F(DeliveryGrpcTest, GoesOnAfterTheServerRestarts) {
  TestServer server;
  const int port = FreePort();
  server.Start(port);
  Create(Options(server.address()));
  for (int i = 0; i < 3; ++i) {
    PutSteps(50);
    EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
    PutSteps(50);  // On their way when the server goes.
    server.Stop();
    PutSteps(50);
    server.Start(port);
  }
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 450);
  EXPECT_GE(server.collector().hellos, 4);
}

TEST_F(DeliveryGrpcTest, AnUnreachableCollectorOnlyDelays) {
  const int port = FreePort();
  Create(Options("127.0.0.1:" + std::to_string(port)));
  PutSteps(20);
  EXPECT_FALSE(delivery_->Flush(milliseconds(50)).delivered);
  AwaitLine("is away (UNAVAILABLE");
  EXPECT_EQ(delivery_->state(), DeliveryState::kConnecting);
  TestServer server;
  server.Start(port);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 20);
}

TEST_F(DeliveryGrpcTest, ARejectForGoodStopsTryingAndKeepsRecording) {
  TestServer server(TestServer::Mode::kReject);
  server.Start();
  Create(Options(server.address()));
  PutSteps(5);
  AwaitState(DeliveryState::kRefused);
  PutSteps(5);
  const FlushOutcome outcome = delivery_->Flush(std::chrono::hours(1));
  EXPECT_FALSE(outcome.delivered);  // And at once.
  EXPECT_EQ(outcome.undelivered_steps, 10u);
  ASSERT_EQ(Lines().size(), 1u);
  EXPECT_THAT(Lines()[0], HasSubstr("too old"));
  EXPECT_FALSE(ShutdownTimed(std::chrono::hours(1)).delivered);
}

TEST_F(DeliveryGrpcTest, APeerThatNeverAnswersDoesNotHoldUpShutdown) {
  RawListener black_hole;
  Create(Options(black_hole.address()));
  PutSteps(5);
  EXPECT_FALSE(delivery_->Flush(milliseconds(50)).delivered);
  const FlushOutcome outcome = ShutdownTimed(milliseconds(300));
  EXPECT_FALSE(outcome.delivered);
  EXPECT_EQ(outcome.undelivered_steps, 5u);
}

TEST_F(DeliveryGrpcTest, ACollectorThatNeverAcknowledgesDoesNotEither) {
  for (const auto mode :
       {TestServer::Mode::kNeverAck, TestServer::Mode::kNeverRead}) {
    TestServer server(mode);
    server.Start();
    next_step_ = 0;
    Create(Options(server.address()));
    PutSteps(200, 200);
    AwaitState(DeliveryState::kStreaming);
    EXPECT_FALSE(ShutdownTimed(milliseconds(200)).delivered);
    EXPECT_EQ(delivery_->counters().steps_acknowledged, 0u);
  }
}

TEST_F(DeliveryGrpcTest, ShutdownWithoutTimeReturnsAndLosesNothingSilently) {
  TestServer server;
  server.Start();
  Create(Options(server.address()));
  PutSteps(100);
  const FlushOutcome outcome = ShutdownTimed(milliseconds(0));
  const DeliveryCounters c = delivery_->counters();
  EXPECT_EQ(outcome.undelivered_steps, c.steps_recorded - c.steps_acknowledged);
  PutSteps(3);
  EXPECT_EQ(delivery_->counters().by_cause.at(GapCause::kShutdown), 3u);
}

TEST_F(DeliveryGrpcTest, APeerThatTalksNonsenseIsSurvived) {
  RawListener listener;
  std::thread noise([&] {
    std::string bytes(10'000, '\0');
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      bytes[i] = static_cast<char>(i * 131);
    }
    listener.AnswerWith(bytes);
  });
  Create(Options(listener.address()));
  PutSteps(5);
  AwaitLine("is away");
  EXPECT_FALSE(ShutdownTimed(milliseconds(100)).delivered);
  listener.Close();
  noise.join();
}

TEST_F(DeliveryGrpcTest, APeerThatAnnouncesFourGibibytesIsNotHeardToTheEnd) {
  constexpr std::uint64_t kMuch = 256u << 20;
  EndlessMessage liar(kMuch);
  Create(Options(liar.address()));
  PutSteps(5);
  const std::uint64_t taken = liar.AwaitFirst(kPatience * 5);
  std::cout << "taken of the message: " << (taken >> 20) << " MiB\n";
  EXPECT_LT(taken, kMuch / 2);
  AwaitLine("is away");
  EXPECT_FALSE(ShutdownTimed(milliseconds(100)).delivered);
}

TEST_F(DeliveryGrpcTest, WhatStaysOnThisMachineGoesThroughNoProxy) {
  ASSERT_EQ(::setenv("grpc_proxy", "http://127.0.0.1:1", 1), 0);
  TestServer server;
  server.Start();
  DeliveryOptions options =
      Options("localhost:" + std::to_string(server.port()));
  options.use_proxy = true;
  options.token = "s3cret";
  Create(options);
  PutSteps(5);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  EXPECT_EQ(server.authorization(), "Bearer s3cret");
  ::unsetenv("grpc_proxy");
}

TEST_F(DeliveryGrpcTest, ASocketThatAnybodyCouldHaveMadeGetsNoToken) {
  TempDir dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  DeliveryOptions options = Options("unix:" + dir.path() + "/grpc");
  options.token = "s3cret";
  Create(options);
  PutSteps(5);
  AwaitLine("a token is not sent to unix:");
  EXPECT_FALSE(ShutdownTimed(milliseconds(100)).delivered);
  for (const std::string& line : Lines()) {
    EXPECT_THAT(line, Not(HasSubstr("s3cret")));
  }
}

TEST_F(DeliveryGrpcTest, AForkedChildIsInertAndTheParentGoesOn) {
  TestServer server;
  server.Start();
  Create(Options(server.address()));
  PutSteps(20);
  AwaitState(DeliveryState::kStreaming);
  for (const bool orderly_exit : {false, true}) {
    PutSteps(20);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      in_child = true;
      const DeliveryCounters before = delivery_->counters();
      delivery_->PutSchema(MakeSchema(9, 3));
      delivery_->PutStep(MakeStep(1'000, 1, 10));
      delivery_->PutGap(GapCause::kLoop, 1'001, "");
      delivery_->Rollback(3);
      const bool inert =
          !delivery_->Flush(std::chrono::hours(1)).delivered &&
          !delivery_->Shutdown(EndReason::kStopped, std::chrono::hours(1))
               .delivered &&
          delivery_->state() == DeliveryState::kStopped &&
          delivery_->counters().steps_seen == before.steps_seen;
      delivery_.reset();
      // With exit(), the handlers that the parent had registered run too.
      if (orderly_exit) std::exit(inert ? 0 : 1);
      ::_exit(inert ? 0 : 1);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_TRUE(ShutdownTimed(kPatience).delivered);
  server.Stop();
  ExpectAllStored(server, 60);
}

TEST_F(DeliveryGrpcTest, WrongOptionsAreRefusedBeforeAnythingStarts) {
  DeliveryOptions options = Options("nowhere");
  EXPECT_THAT(
      Delivery::Create(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nowhere")));
  options = Options("192.0.2.1:1");
  options.token = "secret";
  EXPECT_THAT(Delivery::Create(options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("token"), Not(HasSubstr("secret")))));
  options.token.clear();
  options.token_file = "/nowhere";
  EXPECT_THAT(
      Delivery::Create(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unencrypted")));
}

}  // namespace
}  // namespace gradtap::agent
