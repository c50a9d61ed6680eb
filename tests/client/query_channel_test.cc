#include "client/rpc/query_channel.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "client/fake_query_service.h"
#include "support/endless_message.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::client {
namespace {

using gradtap::testing::StatusIs;
using ::testing::AllOf;
using testing::FakeCollector;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CompleteAddressTest, HostAndPortAreCompleted) {
  EXPECT_EQ(*CompleteAddress("gpu7:1234"), "gpu7:1234");
  EXPECT_EQ(*CompleteAddress("gpu7"), "gpu7:7317");
  EXPECT_EQ(*CompleteAddress(":1234"), "127.0.0.1:1234");
  EXPECT_EQ(*CompleteAddress("[::1]:1234"), "[::1]:1234");
  EXPECT_EQ(*CompleteAddress("[::1]"), "[::1]:7317");
  EXPECT_EQ(*CompleteAddress("::1"), "[::1]:7317");
}

TEST(CompleteAddressTest, WhatIsNoAddressIsNamed) {
  for (const char* address :
       {"", ":", "a:", "a:0", "a:65536", "a:b", "a:1:2", "http://a:1", "a b:1",
        "[::1", "[::1]x", "[]:1", "unix:x", "\x1b[31m:1", "a:-1", "a:+1"}) {
    EXPECT_THAT(CompleteAddress(address),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("bad collector address '")))
        << address;
  }
}

TEST(CompleteAddressTest, ASocketIsAnAddress) {
  const auto address = CompleteAddress("unix:/run/gradtap/grpc");
  GRADTAP_ASSERT_OK(address);
  EXPECT_EQ(*address, "unix:/run/gradtap/grpc");
}

TEST(CheckTextTest, InvalidUtf8IsFoundAtAnyDepth) {
  v1::ListRunsRequest request;
  request.add_tags()->set_value("fine");
  EXPECT_TRUE(CheckText(request).ok());
  request.add_tags()->set_value("\xff");
  EXPECT_THAT(CheckText(request),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("(value) is not valid UTF-8")));
  v1::GetSeriesRequest series;
  series.add_statistics("a\xc0\xaf");
  EXPECT_FALSE(CheckText(series).ok());
}

TEST(QueryChannelTest, ARefusedConnectionReturnsAtOnceAndNamesTheAddress) {
  ChannelOptions options;
  options.collector = "127.0.0.1:1";
  options.connect_deadline = std::chrono::hours(1);
  EXPECT_THAT(QueryChannel::Connect(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("no collector at 127.0.0.1:1: connection "
                                 "refused")));
}

TEST(QueryChannelTest, APeerThatNeverSpeaksRunsIntoTheDeadline) {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener, 8), 0);
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  ChannelOptions options;
  options.collector = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  options.connect_deadline = std::chrono::milliseconds(200);
  EXPECT_THAT(QueryChannel::Connect(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr(options.collector),
                             HasSubstr("no answer within 0.2 s"))));
  ::close(listener);
}

TEST(QueryChannelTest, BadOptionsAreRefusedBeforeAnythingIsDialled) {
  ChannelOptions token;
  token.token = "secret";
  for (const char* elsewhere :
       {"192.0.2.1:7317", "gradtap.example", "localhost.example:1", "[::2]:1",
        "127.0.0.1.example:1", "128.0.0.1:1"}) {
    token.collector = elsewhere;
    EXPECT_THAT(QueryChannel::Connect(token),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("TLS"), Not(HasSubstr("secret")))));
  }
  ChannelOptions half;
  half.tls = true;
  half.tls_cert_file = "/nowhere.pem";
  EXPECT_THAT(QueryChannel::Connect(half),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("both")));
  ChannelOptions missing;
  missing.tls = true;
  missing.tls_ca_file = "/nowhere.pem";
  EXPECT_THAT(QueryChannel::Connect(missing),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'/nowhere.pem'")));
  ChannelOptions split;
  split.tls = true;
  split.token = "a\r\nb";
  EXPECT_THAT(QueryChannel::Connect(split),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("token")));
  ChannelOptions never;
  never.deadline = std::chrono::milliseconds(0);
  EXPECT_THAT(
      QueryChannel::Connect(never),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("deadline")));
}

TEST(QueryChannelTest, WhatStaysOnThisMachineGoesThroughNoProxy) {
  ASSERT_EQ(::setenv("grpc_proxy", "http://127.0.0.1:1", 1), 0);
  FakeCollector collector;
  collector.Start();
  ChannelOptions options;
  options.collector = collector.address();
  options.use_proxy = true;
  options.token = "secret";
  GRADTAP_EXPECT_OK(QueryChannel::Connect(options));
  ::unsetenv("grpc_proxy");
}

TEST(QueryChannelTest, ASocketThatAnybodyCouldHaveMadeGetsNoToken) {
  gradtap::testing::TempDir dir;
  ASSERT_EQ(::chmod(dir.path().c_str(), 0777), 0);
  ChannelOptions options;
  options.collector = "unix:" + dir.path() + "/grpc";
  options.token = "secret";
  EXPECT_THAT(QueryChannel::Connect(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("a token is not sent to unix:"),
                             Not(HasSubstr("secret")))));
}

TEST(QueryChannelTest, ATlsClientOfAPlainCollectorSaysSo) {
  FakeCollector collector;
  collector.Start();
  ChannelOptions options;
  options.collector = collector.address();
  options.tls = true;
  EXPECT_THAT(QueryChannel::Connect(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("no collector at " + collector.address())));
}

TEST(QueryChannelTest, ACallCarriesInvalidUtf8Nowhere) {
  FakeCollector collector;
  collector.Start();
  ChannelOptions options;
  options.collector = collector.address();
  auto channel = QueryChannel::Connect(options);
  ASSERT_TRUE(channel.ok());
  v1::GetRunRequest request;
  request.set_run("\xff");
  v1::GetRunResponse response;
  EXPECT_THAT((*channel)->Call(&v1::Query::Stub::GetRun, request, &response),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("UTF-8")));
  EXPECT_EQ(collector.service.calls, 0);
}

TEST(QueryChannelTest, AnAnswerOverTheLimitIsRefused) {
  FakeCollector collector;
  collector.service.runs["big"] =
      testing::MakeNames("big", std::vector<std::string>(2000, "name"));
  collector.Start();
  ChannelOptions options;
  options.collector = collector.address();
  options.max_answer_bytes = 1000;
  auto channel = QueryChannel::Connect(options);
  ASSERT_TRUE(channel.ok());
  v1::ListParametersRequest request;
  request.set_run("big");
  v1::ListParametersResponse response;
  EXPECT_THAT(
      (*channel)->Call(&v1::Query::Stub::ListParameters, request, &response),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("")));
}

TEST(QueryChannelTest, AnAnswerThatIsAnnouncedWithFourGibibytesIsGivenUp) {
  constexpr std::uint64_t kMuch = 512u << 20;
  gradtap::testing::EndlessMessage liar(kMuch);
  ChannelOptions options;
  options.collector = liar.address();
  options.max_answer_bytes = 8u << 20;
  auto channel = QueryChannel::Connect(options);
  GRADTAP_ASSERT_OK(channel);
  v1::GetStatusResponse response;
  EXPECT_FALSE(
      (*channel)
          ->Call(&v1::Query::Stub::GetStatus, v1::GetStatusRequest(), &response)
          .ok());
  EXPECT_LT(liar.AwaitFirst(std::chrono::seconds(300)), kMuch / 2);
}

// What may be held is no less than what may come.
TEST(QueryChannelTest, AnAnswerAsLargeAsTheLimitComesWhole) {
  FakeCollector collector;
  collector.service.runs["big"] = testing::MakeNames(
      "big", std::vector<std::string>(1000, std::string(60'000, 'n')));
  collector.Start();
  ChannelOptions options;
  options.collector = collector.address();
  options.max_answer_bytes = 64u << 20;
  auto channel = QueryChannel::Connect(options);
  GRADTAP_ASSERT_OK(channel);
  v1::ListParametersRequest request;
  request.set_run("big");
  v1::ListParametersResponse response;
  GRADTAP_EXPECT_OK(
      (*channel)->Call(&v1::Query::Stub::ListParameters, request, &response));
  EXPECT_EQ(response.parameters_size(), 1000);
}

}  // namespace
}  // namespace gradtap::client
