// Messages and requests that are small on the wire and would be large in
// memory.

#include <gmock/gmock.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/wire.h"
#include "gradtap/v1/telemetry.pb.h"
#include "server/service/bytes_call.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSession[] = "/gradtap.v1.Telemetry/Session";
// What a connection may send in one message.
constexpr std::size_t kMessage = (std::size_t{4} << 20) - 1024;

// Fields of two bytes that nobody knows: 64 and more each once protobuf has
// read them.
std::string Unknown(std::size_t bytes) {
  std::string fields;
  while (fields.size() + 2 <= bytes) fields += std::string("\x7a\0", 2);
  return fields;
}

v1::AgentMessage Hello(const std::string& run, std::uint32_t rank) {
  v1::AgentMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(1);
  hello.set_run(run);
  hello.set_launch("launch");
  hello.set_rank(rank);
  hello.set_world_size(rank + 1);
  hello.set_process_nonce(std::string(16, 'n'));
  hello.set_start_time_unix_ns(kStart);
  return message;
}

class RequestBytesTest : public ServiceTest {
 protected:
  v1::GetStatusResponse Status() {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::GetStatusResponse answer;
    const grpc::Status status =
        stub_->GetStatus(&context, v1::GetStatusRequest(), &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return answer;
  }

  std::uint64_t Refused() {
    const v1::GetStatusResponse answer = Status();
    for (const v1::LimitFigures& limit : answer.figures().limits()) {
      if (limit.limit() == "request_bytes") return limit.refused();
    }
    ADD_FAILURE() << "no such limit";
    return 0;
  }

  std::unique_ptr<BytesCall> Welcomed(const std::string& run,
                                      std::uint32_t rank) {
    auto call = std::make_unique<BytesCall>(channel_, kSession);
    EXPECT_TRUE(call->Write(Hello(run, rank).SerializeAsString()));
    std::string answer;
    v1::CollectorMessage message;
    EXPECT_TRUE(call->Read(&answer) && message.ParseFromString(answer));
    EXPECT_TRUE(message.has_welcome()) << message.DebugString();
    return call;
  }

  grpc::Status Ask(const std::string& method, const std::string& request) {
    BytesCall call(channel_, method);
    call.Write(request);
    std::string answer;
    while (call.Read(&answer)) {
    }
    return call.Finish();
  }
};

TEST_F(RequestBytesTest, AMessageOfAnAgentThatIsNoBatchIsShort) {
  Start();
  const std::string many = Unknown(kMessage);
  std::string heartbeat, hello;
  wire::AppendBytesField(3, many, &heartbeat);
  wire::AppendBytesField(1, many, &hello);
  std::uint64_t refused = 0;
  for (const std::string& message : {many, heartbeat, hello}) {
    const auto call = Welcomed("run", static_cast<std::uint32_t>(refused));
    call->Write(message);
    std::string answer;
    EXPECT_FALSE(call->Read(&answer));
    const grpc::Status status = call->Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr("no Batch"), HasSubstr("65536")));
    EXPECT_EQ(Refused(), ++refused);
  }
}

TEST_F(RequestBytesTest, TheLongestHelloThatMayBeIsWelcome) {
  Start();
  v1::AgentMessage message = Hello(std::string(128, 'r'), 0);
  v1::Hello& hello = *message.mutable_hello();
  const std::string longest(512, 'x');
  hello.set_launch(std::string(128, 'l'));
  hello.set_agent_version(longest);
  hello.set_torch_version(longest);
  hello.set_host(longest);
  for (int i = 0; i < 64; ++i) {
    v1::Tag* tag = hello.add_tags();
    tag->set_key(std::string(62, 'k') + std::to_string(10 + i));
    tag->set_value(longest);
  }
  BytesCall call(channel_, kSession);
  ASSERT_TRUE(call.Write(message.SerializeAsString()));
  std::string answer;
  v1::CollectorMessage welcome;
  ASSERT_TRUE(call.Read(&answer) && welcome.ParseFromString(answer));
  EXPECT_TRUE(welcome.has_welcome()) << welcome.DebugString();
}

TEST_F(RequestBytesTest, WhatIsNoMessageEndsTheSession) {
  Start();
  const auto call = Welcomed("run", 0);
  call->Write("\xff");
  std::string answer;
  EXPECT_FALSE(call->Read(&answer));
  const grpc::Status status = call->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("cannot be read"));
}

TEST_F(RequestBytesTest, ARequestIsShortAndInProportion) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  std::string run;
  wire::AppendBytesField(1, "run", &run);
  std::uint64_t refused = 0;
  for (const std::string method :
       {"Query/GetRun", "Query/GetStatus", "Query/ListRuns", "Query/Watch",
        "Query/WatchAlerts", "Upkeep/Backup", "Upkeep/Compact"}) {
    for (const auto& [bytes, why] :
         {std::pair(kMessage, "it may have 327680"),
          std::pair(std::size_t{100'000}, "too many fields")}) {
      const grpc::Status status =
          Ask("/gradtap.v1." + method, run + Unknown(bytes));
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
          << method;
      EXPECT_THAT(status.error_message(), HasSubstr(why)) << method;
      ++refused;
    }
  }
  EXPECT_EQ(Refused(), refused);
  EXPECT_THAT(Ask("/gradtap.v1.Query/GetRun", "\xff").error_message(),
              HasSubstr("no GetRunRequest"));
  // A few fields that a newer client has are none too many.
  const grpc::Status status =
      Ask("/gradtap.v1.Query/GetRun", run + Unknown(1'000));
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(RequestBytesTest, TheLargestRequestsThatMeanSomethingAreAnswered) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  v1::GetSeriesRequest request;
  for (int i = 0; i < 999; ++i) {
    request.add_runs(std::string(124, 'r') + std::to_string(1000 + i));
  }
  request.add_runs("run");
  request.add_statistics("grad.l2");
  v1::GetSeriesResponse answer;
  grpc::ClientContext many;
  SetDeadline(&many);
  EXPECT_EQ(stub_->GetSeries(&many, request, &answer).error_code(),
            grpc::StatusCode::NOT_FOUND);
  request.clear_runs();
  request.add_runs("run");
  for (int i = 0; i < 64; ++i) {
    request.add_merge_match("fc|" + std::string(4'090, 'x'));
  }
  grpc::ClientContext long_ones;
  SetDeadline(&long_ones);
  const grpc::Status status = stub_->GetSeries(&long_ones, request, &answer);
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(Refused(), 0u);
}

// What was read with protobuf and kept took 128 MiB of each message.
// AddressSanitizer keeps 256 MiB of what was freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kMost = std::uint64_t{1} << 30;
#else
constexpr std::uint64_t kMost = std::uint64_t{256} << 20;
#endif
TEST_F(RequestBytesTest, WhatIsRefusedTakesNoMemory) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  const std::string many = Unknown(kMessage);
  std::string watch;
  wire::AppendBytesField(1, "run", &watch);
  watch += many;
  const std::uint64_t before = Status().resident_bytes();
  std::uint64_t most = 0;
  std::vector<std::unique_ptr<BytesCall>> held;
  for (std::uint32_t i = 0; i < 12; ++i) {
    std::string answer;
    held.push_back(Welcomed("agents", i));
    held.back()->Write(many);
    while (held.back()->Read(&answer)) {
    }
    held.push_back(
        std::make_unique<BytesCall>(channel_, "/gradtap.v1.Query/Watch"));
    held.back()->Write(watch);
    while (held.back()->Read(&answer)) {
    }
    most = std::max(most, Status().resident_bytes());
  }
  EXPECT_LT(most - std::min(most, before), kMost);
  EXPECT_EQ(Refused(), 24u);
}

}  // namespace
}  // namespace gradtap::server::testing
