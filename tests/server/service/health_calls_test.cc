#include "server/service/health_calls.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/service/bytes_call.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kCheck[] = "/grpc.health.v1.Health/Check";
constexpr char kWatch[] = "/grpc.health.v1.Health/Watch";
constexpr char kServing[] = "\x08\x01";
constexpr char kNotServing[] = "\x08\x02";
constexpr char kUnknown[] = "\x08\x03";

std::string Service(const std::string& name) {
  return "\x0a" + std::string(1, static_cast<char>(name.size())) + name;
}

class HealthCallsTest : public ServiceTest {
 protected:
  grpc::Status Check(const std::string& request, std::string* answer) {
    return Check(request, answer, channel_);
  }
  grpc::Status Check(const std::string& request, std::string* answer,
                     const std::shared_ptr<grpc::Channel>& channel) {
    BytesCall call(channel, kCheck);
    call.Write(request);
    call.Read(answer);
    return call.Finish();
  }
};

TEST_F(HealthCallsTest, ACheckIsAnsweredOnceAndOver) {
  Start();
  for (const char* service : {"", "gradtap.v1.Query", "gradtap.v1.Telemetry"}) {
    std::string answer;
    EXPECT_TRUE(Check(Service(service), &answer).ok()) << service;
    EXPECT_EQ(answer, kServing) << service;
  }
  std::string answer;
  EXPECT_TRUE(Check("", &answer).ok());
  EXPECT_EQ(answer, kServing);
  EXPECT_EQ(Check(Service("no.Such"), &answer).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(HealthCallsTest, WhatIsNoRequestIsRefused) {
  Start();
  for (const char* method : {kCheck, kWatch}) {
    for (const std::string& request :
         {std::string("\x0a\x7f"), std::string("\xff"),
          Service("x") + std::string(5'000, '\0')}) {
      BytesCall call(channel_, method);
      call.Write(request);
      std::string answer;
      EXPECT_FALSE(call.Read(&answer));
      const grpc::Status status = call.Finish();
      EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
      EXPECT_THAT(status.error_message(), HasSubstr("names a service"));
    }
  }
}

TEST_F(HealthCallsTest, AWatchHearsThatTheServerGoesBeforeItGoes) {
  Start();
  BytesCall known(channel_, kWatch);
  BytesCall unknown(channel_, kWatch);
  known.Write("");
  unknown.Write(Service("no.Such"));
  std::string answer;
  EXPECT_TRUE(known.Read(&answer));
  EXPECT_EQ(answer, kServing);
  EXPECT_TRUE(unknown.Read(&answer));
  EXPECT_EQ(answer, kUnknown);
  std::thread stopper([this] { collector_->Shutdown(); });
  EXPECT_TRUE(known.Read(&answer));
  EXPECT_EQ(answer, kNotServing);
  EXPECT_FALSE(unknown.Read(&answer));  // For it nothing has changed.
  stopper.join();
}

TEST_F(HealthCallsTest, OneClientHasSoManyOpenAndNoMore) {
  Start();
  std::vector<std::unique_ptr<BytesCall>> open;
  std::string answer;
  for (;;) {
    auto call = std::make_unique<BytesCall>(channel_, kWatch);
    call->Write("");
    if (!call->Read(&answer)) {
      EXPECT_EQ(call->Finish().error_code(),
                grpc::StatusCode::RESOURCE_EXHAUSTED);
      break;
    }
    open.push_back(std::move(call));
    ASSERT_LE(open.size(), 64u);
  }
  EXPECT_EQ(open.size(), 64u);
  EXPECT_EQ(Check("", &answer).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  open.clear();
  grpc::Status status;
  do {  // The collector hears of it a moment later. Who is refused five times
        // on one connection loses it.
    status = Check("", &answer, NewChannel());
  } while (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(HealthCallsTest, WhoAsksNothingInTimeLosesTheConnection) {
  CollectorOptions options;
  options.connections.request_time = std::chrono::seconds(1);
  Start(options);
  BytesCall silent(NewChannel(), kCheck);
  std::string answer;
  EXPECT_FALSE(silent.Read(&answer));
  EXPECT_EQ(silent.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  // One that watches stays.
  BytesCall watch(channel_, kWatch);
  watch.Write("");
  EXPECT_TRUE(watch.Read(&answer));
  BytesCall other(NewChannel(), kCheck);
  EXPECT_FALSE(other.Read(&answer));
  EXPECT_TRUE(Check("", &answer).ok());
  std::thread stopper([this] { collector_->Shutdown(); });
  EXPECT_TRUE(watch.Read(&answer));
  EXPECT_EQ(answer, kNotServing);
  stopper.join();
}

}  // namespace
}  // namespace gradtap::server::testing
