// Calls that are open at one time: how many, and whose.

#include <gmock/gmock.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/wire.h"
#include "server/service/bytes_call.h"
#include "server/service/doors_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kListRuns[] = "/gradtap.v1.Query/ListRuns";

class OpenCallsTest : public DoorsTest {
 protected:
  using Calls = std::vector<std::unique_ptr<BytesCall>>;

  // The heads of so many calls.
  Calls Heads(const std::string& token, int calls) {
    const auto channel = NewChannel();
    Calls heads;
    for (int i = 0; i < calls; ++i) {
      heads.push_back(
          std::make_unique<BytesCall>(channel, kListRuns, Bearer(token)));
    }
    return heads;
  }

  static grpc::Status ListRuns(const std::shared_ptr<grpc::Channel>& channel,
                               const std::string& token) {
    const auto stub = v1::Query::NewStub(channel);
    grpc::ClientContext context;
    Prepare(&context, token);
    v1::ListRunsResponse answer;
    return stub->ListRuns(&context, v1::ListRunsRequest(), &answer);
  }

  // Until that client's calls are refused, as the heads have come.
  static grpc::Status AwaitRefusal(
      const std::shared_ptr<grpc::Channel>& channel, const std::string& token) {
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(60);
    grpc::Status status;
    do {
      status = ListRuns(channel, token);
    } while (status.ok() && std::chrono::steady_clock::now() < end);
    return status;
  }
};

TEST_F(OpenCallsTest, OneClientHasThreeQuartersAndOthersTheRest) {
  const std::string one = tokens_.Add("read");
  const std::string other = tokens_.Add("read");
  CollectorOptions options;
  options.max_calls = 4;
  Start(Way::kLoopback, options);
  ASSERT_NE(collector_, nullptr);
  Calls held = Heads(one, 3);
  const grpc::Status refused = AwaitRefusal(NewChannel(), one);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("3 of 4 calls are yours"));
  EXPECT_TRUE(ListRuns(NewChannel(), other).ok());
  // Places come back, whether there was a request or not.
  held.clear();
  grpc::Status status;
  do {
    status = ListRuns(NewChannel(), one);
  } while (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(OpenCallsTest, ATokenThatIsRevokedBeforeTheRequestComesIsOneNoMore) {
  for (const char* path : {kListRuns, "/gradtap.v1.Upkeep/Compact"}) {
    const std::string token = tokens_.Add("admin");
    Start(Way::kLoopback);
    ASSERT_NE(collector_, nullptr);
    const auto channel = NewChannel();
    ASSERT_TRUE(ListRuns(channel, token).ok());
    BytesCall call(channel, path, Bearer(token));
    tokens_.Revoke(token);
    EXPECT_EQ(AwaitRefusal(NewChannel(), token).error_code(),
              grpc::StatusCode::UNAUTHENTICATED);
    call.Write("");
    std::string answer;
    EXPECT_FALSE(call.Read(&answer)) << path;
    EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
    collector_ = nullptr;
  }
}

TEST_F(OpenCallsTest, AReflectionThatIsOpenEndsWithItsToken) {
  const std::string token = tokens_.Add("read");
  Start(Way::kLoopback);
  ASSERT_NE(collector_, nullptr);
  BytesCall call(
      NewChannel(),
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
      Bearer(token));
  std::string list, answer;
  wire::AppendBytesField(7, "", &list);
  ASSERT_TRUE(call.Write(list));
  ASSERT_TRUE(call.Read(&answer));
  EXPECT_THAT(answer, HasSubstr("gradtap.v1.Query"));
  tokens_.Revoke(token);
  EXPECT_EQ(AwaitRefusal(NewChannel(), token).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  call.Write(list);
  ASSERT_FALSE(call.Read(&answer));
  EXPECT_EQ(call.Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(OpenCallsTest, WhoFindsNoPlaceThatOthersHaveKeepsItsConnection) {
  const std::string one = tokens_.Add("read");
  const std::string other = tokens_.Add("read");
  const std::string third = tokens_.Add("read");
  CollectorOptions options;
  options.max_calls = 4;
  Start(Way::kLoopback, options);
  ASSERT_NE(collector_, nullptr);
  const auto channel = NewChannel();
  const auto stub = v1::Query::NewStub(channel);
  grpc::ClientContext context;
  Prepare(&context, third);
  v1::WatchAlertsResponse first;
  const auto watch = stub->WatchAlerts(&context, v1::WatchAlertsRequest());
  EXPECT_TRUE(watch->Read(&first));  // It has a place of its own by now.
  const Calls held = Heads(one, 3), last = Heads(other, 1);
  for (int i = 0; i < 10; ++i) {
    const grpc::Status refused = AwaitRefusal(channel, third);
    EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
    EXPECT_THAT(refused.error_message(),
                HasSubstr("4 calls are open, the limit of this collector"));
  }
  // Who watches is still there, and hears that the collector goes.
  collector_->Shutdown();
  while (watch->Read(&first)) {
  }
  EXPECT_EQ(watch->Finish().error_message(), "the collector is shutting down");
}

}  // namespace
}  // namespace gradtap::server::testing
