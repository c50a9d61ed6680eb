// Who needs no token where others do: calls of the collector's health.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "server/service/bytes_call.h"
#include "server/service/doors_testing.h"

namespace gradtap::server::testing {
namespace {

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
using Channel = std::shared_ptr<grpc::Channel>;

class StrangersTest : public DoorsTest {
 protected:
  // Null: it was refused.
  static std::unique_ptr<BytesCall> Watch(const Channel& channel) {
    auto call = std::make_unique<BytesCall>(channel, kWatch);
    call->Write("");
    std::string answer;
    return call->Read(&answer) ? std::move(call) : nullptr;
  }

  static grpc::Status Check(const Channel& channel) {
    BytesCall call(channel, kCheck);
    call.Write("");
    std::string answer;
    call.Read(&answer);
    return call.Finish();
  }

  // Whoever has a token, from the same address, at once.
  grpc::Status Ask(const std::string& token) {
    grpc::ClientContext context;
    Prepare(&context, token);
    v1::GetStatusResponse answer;
    return v1::Query::NewStub(NewChannel())
        ->GetStatus(&context, v1::GetStatusRequest(), &answer);
  }

  // The call ends with its connection, and not at its deadline.
  static void ExpectCutOff(BytesCall* watch) {
    std::string answer;
    EXPECT_FALSE(watch->Read(&answer));
    EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  }
};

TEST_F(StrangersTest, WhoGoesOnAskingTooOftenLosesTheConnectionAlone) {
  const std::string token = tokens_.Add("read");
  CollectorOptions options;
  options.requests.per_second = 1;
  options.requests.burst_seconds = 3;
  Start(Way::kLoopback, options);
  const Channel channel = NewChannel();
  const auto watch = Watch(channel);
  ASSERT_NE(watch, nullptr);
  // Some are let in, one a second.
  for (int i = 0; i < 20; ++i) Check(channel);
  ExpectCutOff(watch.get());
  const grpc::Status status = Ask(token);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(StrangersTest, WhoGoesOnWatchingTooMuchLosesTheConnectionAlone) {
  const std::string token = tokens_.Add("read");
  Start(Way::kLoopback);
  const Channel channel = NewChannel();
  std::vector<std::unique_ptr<BytesCall>> open;
  for (;;) {
    auto watch = Watch(channel);
    if (watch == nullptr) break;
    open.push_back(std::move(watch));
    ASSERT_LE(open.size(), 64u);
  }
  ASSERT_FALSE(open.empty());
  for (int i = 0; i < 20; ++i) Check(channel);
  ExpectCutOff(open.front().get());
  const grpc::Status status = Ask(token);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace gradtap::server::testing
