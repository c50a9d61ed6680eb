// Large answers of a whole collector that has room for one of them.

#include <gmock/gmock.h>
#include <httplib.h>

#include <algorithm>
#include <map>
#include <string>

#include "proto/text/json_mapping.h"
#include "server/service/raw_peer.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kSteps = 5'000;
constexpr int kScalars = 60;

class LargeAnswersTest : public ServiceTest {
 protected:
  void SetUp() override { Fill({}, kSteps); }

  void Fill(CollectorOptions options, int steps) {
    options.http_listen = "127.0.0.1:0";
    options.answers = {.bytes = 1 << 20, .of_a_client = 1 << 20};
    Start(options);
    if (collector_ == nullptr) return;
    Feeder feeder(&collector_->store(), "large");
    for (int step = 0; step < steps; ++step) {
      feeder.Step(step, 1, "large");
    }
    for (int i = 0; i < kScalars; ++i) {
      const std::string name = "scalar.large" + std::to_string(i);
      request_.add_statistics(name);
      fields_ += "&statistics=" + name;
    }
    request_.add_runs("large");
  }

  httplib::Result Get(const std::string& path) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    return client.Get(path.c_str());
  }
  grpc::Status Ask(const v1::GetSeriesRequest& request,
                   v1::GetSeriesResponse* answer) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return stub_->GetSeries(&context, request, answer);
  }

  std::map<std::string, std::uint64_t> Refused() {
    v1::GetStatusResponse answer;
    grpc::ClientContext context;
    SetDeadline(&context);
    EXPECT_TRUE(
        stub_->GetStatus(&context, v1::GetStatusRequest(), &answer).ok());
    std::map<std::string, std::uint64_t> refused;
    for (const v1::LimitFigures& limit : answer.figures().limits()) {
      refused[limit.limit()] = limit.refused();
    }
    return refused;
  }

  v1::GetSeriesRequest request_;
  std::string fields_ = "GetSeries?runs=large";  // The same in a URL.
};

TEST_F(LargeAnswersTest, WhileOneIsNotReadNoOtherIsMade) {
  const int fd = ConnectTo(collector_->http_address());
  const int few = 1 << 16;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
  const std::string question =
      "GET /api/v1/" + fields_ + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
  ASSERT_EQ(::send(fd, question.data(), question.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(question.size()));
  std::string first(12, ' ');
  ASSERT_EQ(::recv(fd, first.data(), first.size(), MSG_WAITALL), 12);
  ASSERT_EQ(first, "HTTP/1.1 200");

  v1::GetSeriesResponse answer;
  const grpc::Status refused = Ask(request_, &answer);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), HasSubstr("too many large answers"));
  for (const char* path : {"/api/v1/", "/csv/"}) {
    const httplib::Result other = Get(path + fields_);
    ASSERT_TRUE(other);
    EXPECT_EQ(other->status, 503);
    EXPECT_NE(other->get_header_value("Retry-After"), "");
    EXPECT_THAT(other->body, HasSubstr("{\"code\":\"UNAVAILABLE\",\"message\":"
                                       "\"too many large answers"));
  }
  // So are those that a query does not ask about while it makes them.
  v1::GetSeriesRequest less = request_;
  less.mutable_steps()->set_end(1'000);
  EXPECT_EQ(Ask(less, &answer).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  const httplib::Result text = Get("/api/v1/" + fields_ + "&steps.end=1000");
  ASSERT_TRUE(text);
  EXPECT_EQ(text->status, 503);
  auto counts = Refused();
  EXPECT_EQ(counts["answer_bytes"], 5u);
  EXPECT_EQ(counts["query_work"], 0u);
  // Small ones are.
  v1::GetSeriesRequest small = request_;
  small.set_max_points(10);
  EXPECT_TRUE(Ask(small, &answer).ok());
  EXPECT_EQ(answer.series_size(), kScalars);

  std::string rest;
  std::string buffer(1 << 16, ' ');
  for (ssize_t n; (n = ::recv(fd, buffer.data(), buffer.size(), 0)) > 0;) {
    rest.append(buffer, 0, static_cast<std::size_t>(n));
  }
  ::close(fd);
  const std::size_t head = rest.find("\r\n\r\n");
  ASSERT_NE(head, std::string::npos);
  const std::string body = rest.substr(head + 4);
  EXPECT_GT(body.size(), std::size_t{8} << 20);  // It leaves in pieces.
  EXPECT_THAT(
      rest.substr(0, head + 2),
      HasSubstr("\r\nContent-Length: " + std::to_string(body.size()) + "\r\n"));
  EXPECT_THAT(rest.substr(0, head + 2),
              HasSubstr("\r\nContent-Type: application/json\r\n"));
  GRADTAP_ASSERT_OK(FromJson(body, &answer));
  ASSERT_EQ(answer.series_size(), kScalars);
  EXPECT_EQ(answer.series(kScalars - 1).step_size(), kSteps);

  // Once it has been read there is room again.
  httplib::Result again = Get("/csv/" + fields_);
  while (again && again->status == 503) again = Get("/csv/" + fields_);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->status, 200);
  EXPECT_EQ(std::count(again->body.begin(), again->body.end(), '\n'),
            1 + kScalars * kSteps);
}

TEST_F(LargeAnswersTest, OneAloneIsMadeWhateverItsSizeAndLeavesNothing) {
  for (int i = 0; i < 3; ++i) {
    // The one before may be on its way for a moment yet.
    httplib::Result csv = Get("/csv/" + fields_);
    while (csv && csv->status == 503) csv = Get("/csv/" + fields_);
    ASSERT_TRUE(csv);
    EXPECT_EQ(csv->status, 200);
    v1::GetSeriesResponse answer;
    grpc::Status status = Ask(request_, &answer);
    while (status.error_message().starts_with("too many large answers")) {
      status = Ask(request_, &answer);
    }
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(answer.series_size(), kScalars);
  }
}

class AnswerTimeTest : public LargeAnswersTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.connections.answer_time = std::chrono::seconds(1);
    Fill(options, 600);  // Twice the room.
  }
};

TEST_F(AnswerTimeTest, WhoLeavesOneUnreadOverGrpcLosesConnectionAndRoom) {
  RawPeer peer(collector_->grpc_address(), "/gradtap.v1.Query/GetSeries");
  const std::string request = request_.SerializeAsString();
  std::string message(5, '\0');
  message[3] = static_cast<char>(request.size() >> 8);
  message[4] = static_cast<char>(request.size());
  message += request;
  EXPECT_EQ(peer.SendData(message, message.size()), message.size());
  EXPECT_TRUE(peer.AwaitClosed());
  EXPECT_EQ(Refused()["answer_time"], 1u);
  // The call may be done with a moment later.
  v1::GetSeriesResponse answer;
  grpc::Status status;
  do {
    answer.Clear();
    status = Ask(request_, &answer);
  } while (status.error_message().starts_with("too many large answers"));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(answer.series_size(), kScalars);
}

}  // namespace
}  // namespace gradtap::server::testing
