// Clients that ask for too much of a whole collector, beside one that does not.

#include <gmock/gmock.h>
#include <httplib.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/limits/limit_counters.h"
#include "server/service/bytes_call.h"
#include "server/service/raw_peer.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kSession[] = "/gradtap.v1.Telemetry/Session";
// A message that says it has 4 GiB less a byte.
const std::string kFourGib("\0\xff\xff\xff\xff", 5);

// An agent that keeps to the rules.
class Agent {
 public:
  Agent(const std::shared_ptr<grpc::Channel>& channel, std::uint32_t rank)
      : stub_(v1::Telemetry::NewStub(channel)) {
    context_.set_deadline(std::chrono::system_clock::now() +
                          std::chrono::seconds(60));
    stream_ = stub_->Session(&context_);
    v1::AgentMessage message;
    v1::Hello& hello = *message.mutable_hello();
    hello.set_protocol_version(1);
    hello.set_run("agents");
    hello.set_launch("launch");
    hello.set_rank(rank);
    hello.set_world_size(rank + 1);
    hello.set_process_nonce(std::string(16, 'n'));
    hello.set_start_time_unix_ns(kStart);
    stream_->Write(message);
    v1::CollectorMessage answer;
    welcome_ = stream_->Read(&answer) && answer.has_welcome();
  }

  bool welcome() const { return welcome_; }

  void Send(const std::string& record) {
    std::string list;
    AppendToRecordList(record, &list);
    v1::AgentMessage message;
    message.mutable_batch()->set_first_seq(++seq_);
    message.mutable_batch()->set_record_count(1);
    message.mutable_batch()->set_frame(CompressFrame(list));
    stream_->Write(message);
  }
  // How many records were rejected, once all are acknowledged.
  int WaitForAcks() {
    int rejected = 0;
    v1::CollectorMessage answer;
    while (stream_->Read(&answer)) {
      rejected += answer.ack().rejected_size();
      if (answer.ack().durable_seq() == seq_) return rejected;
    }
    ADD_FAILURE() << "the session has ended";
    return rejected;
  }
  grpc::Status Leave() {
    stream_->WritesDone();
    v1::CollectorMessage rest;
    while (stream_->Read(&rest)) {
    }
    return stream_->Finish();
  }

 private:
  std::unique_ptr<v1::Telemetry::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<
      grpc::ClientReaderWriter<v1::AgentMessage, v1::CollectorMessage>>
      stream_;
  std::uint64_t seq_ = 0;
  bool welcome_ = false;
};

class LimitsServiceTest : public ServiceTest {
 protected:
  static CollectorOptions WithHttp() {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    return options;
  }

  grpc::Status Ask(v1::GetStatusResponse* answer) {
    grpc::ClientContext context;
    SetDeadline(&context);
    return stub_->GetStatus(&context, v1::GetStatusRequest(), answer);
  }

  // What was refused, by limit. Over HTTP's door, as `gradtap status` has it.
  std::map<std::string, std::uint64_t> Refused() {
    v1::GetStatusResponse answer;
    const grpc::Status status = Ask(&answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::map<std::string, std::uint64_t> refused;
    for (const v1::LimitFigures& limit : answer.figures().limits()) {
      refused[limit.limit()] = limit.refused();
    }
    EXPECT_EQ(refused.size(), kLimits);
    return refused;
  }

  httplib::Result Get(const char* path) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    return client.Get(path);
  }
};

TEST_F(LimitsServiceTest, AMessageOfFourGibEndsItsConnectionAndNobodyElses) {
  CollectorOptions options;
  options.connections.held_bytes = 8 << 20;
  Start(options);
  Agent agent(NewChannel(), 0);
  for (const char* path : {kSession, "/gradtap.v1.Query/GetRun"}) {
    RawPeer hostile(collector_->grpc_address(), path);
    EXPECT_LT(hostile.SendData(kFourGib, std::uint64_t{4} << 30),
              std::uint64_t{2} << 30);
    EXPECT_TRUE(hostile.ended());
  }
  agent.Send(EncodeSchema(OneParameter()));
  EXPECT_EQ(agent.WaitForAcks(), 0);
  EXPECT_EQ(Refused()["held_bytes"], 2u);
}

// Records that are none, of 1 MB that zstd cannot make smaller: what counts is
// that they have come.
void SendMuch(Agent* agent) {
  constexpr int kRecords = 64;
  std::uint32_t bits = 1;
  for (int i = 0; i < kRecords; ++i) {
    std::string record(1'000'000, '\0');
    for (char& c : record) {
      bits = bits * 1'664'525 + 1'013'904'223;
      c = static_cast<char>(bits >> 24);
    }
    agent->Send(record);
  }
  EXPECT_EQ(agent->WaitForAcks(), kRecords);
}

// By whatever address: a connection that is not known would be cut off.
TEST_F(LimitsServiceTest, WholeMessagesAreNotHeldHoweverManyThereAre) {
  CollectorOptions options;
  options.connections.held_bytes = 8 << 20;
  options.data_dir = dir_.path() + "/data";
  options.grpc_listen = "localhost:0";
  options.keeping.disk_reserve_bytes = 0;
  auto started = Collector::Start(options);
  GRADTAP_ASSERT_OK(started);
  collector_ = *std::move(started);
  const std::string address = collector_->grpc_address();
  const std::string port = address.substr(address.rfind(':'));
  std::uint32_t rank = 0;
  for (const std::string host : {"127.0.0.1", "[::1]"}) {
    const auto channel =
        grpc::CreateChannel(host + port, grpc::InsecureChannelCredentials());
    // Not every machine has both.
    if (!channel->WaitForConnected(std::chrono::system_clock::now() +
                                   std::chrono::seconds(rank == 0 ? 30 : 5))) {
      continue;
    }
    stub_ = v1::Query::NewStub(channel);
    Agent agent(channel, rank++);
    SendMuch(&agent);
  }
  EXPECT_GE(rank, 1u);
  EXPECT_EQ(Refused()["held_bytes"], 0u);
}

TEST_F(LimitsServiceTest, CompressedMessagesAreNotInflated) {
  Start();
  for (const grpc_compression_algorithm algorithm :
       {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
    grpc::ClientContext context;
    SetDeadline(&context);
    context.set_compression_algorithm(algorithm);
    v1::GetRunRequest request;
    request.set_run(std::string(3 << 20, 'x'));
    v1::GetRunResponse answer;
    EXPECT_EQ(stub_->GetRun(&context, request, &answer).error_code(),
              grpc::StatusCode::UNIMPLEMENTED);
  }
  v1::GetStatusResponse answer;
  EXPECT_TRUE(Ask(&answer).ok());
}

TEST_F(LimitsServiceTest, MoreConnectionsThanAClientMayHaveAreClosed) {
  CollectorOptions options;
  options.connections.of_a_client = 4;
  Start(options);
  ASSERT_EQ(Refused()["client_connections"], 0u);
  std::vector<int> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(ConnectTo(collector_->grpc_address()));
  }
  for (int i = 0; i < 20; ++i) {
    const int one = ConnectTo(collector_->grpc_address());
    ASSERT_GE(one, 0);
    EXPECT_TRUE(AwaitClosed(one));
    ::close(one);
  }
  EXPECT_EQ(Refused()["client_connections"], 20u);
  for (const int fd : held) ::close(fd);
  // As soon as it has been seen that they are closed.
  v1::GetStatusResponse answer;
  grpc::Status status;
  do {
    grpc::ClientContext context;
    SetDeadline(&context);
    status = v1::Query::NewStub(NewChannel())
                 ->GetStatus(&context, v1::GetStatusRequest(), &answer);
  } while (status.error_code() == grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(LimitsServiceTest, WhoAsksTooOftenIsToldWhenToComeAgain) {
  CollectorOptions options = WithHttp();
  options.requests.per_second = 1;
  options.requests.burst_seconds = 3;
  Start(options);
  Agent agent(NewChannel(), 0);  // One of three.
  grpc::Status status;
  v1::GetStatusResponse answer;
  do {
    status = Ask(&answer);
  } while (status.ok());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(),
              AllOf(HasSubstr("127.0.0.1"), HasSubstr("try again in 1 s")));
  // Over the other door it is the same client.
  httplib::Result refused = Get("/api/v1/GetStatus");
  while (refused && refused->status == 200) refused = Get("/api/v1/GetStatus");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 429);
  EXPECT_EQ(refused->get_header_value("Retry-After"), "1");
  EXPECT_THAT(refused->body, HasSubstr("RESOURCE_EXHAUSTED"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Get("/healthz")->status, 200);
  // What an agent sends in its session is no request.
  agent.Send(EncodeSchema(OneParameter()));
  for (int step = 0; step < 100; ++step) agent.Send(StepRecord(step, 1));
  EXPECT_EQ(agent.WaitForAcks(), 0);
}

TEST_F(LimitsServiceTest, EachNameThatReflectionIsAskedForCounts) {
  CollectorOptions options;
  options.requests.per_second = 1;
  options.requests.burst_seconds = 5;
  Start(options);
  BytesCall call(
      channel_,
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
  int answers = 0;
  std::string answer;
  while (call.Write(std::string("\x3a\0", 2)) && call.Read(&answer)) ++answers;
  const grpc::Status status = call.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("try again in 1 s"));
  EXPECT_GE(answers, 4);
}

TEST_F(LimitsServiceTest, ASessionTooManyASecondIsRefusedAndComesAgain) {
  CollectorOptions options;
  options.requests.per_second = 1;
  options.requests.burst_seconds = 1;
  Start(options);
  grpc::Status status;
  std::uint32_t rank = 0;
  do {
    status = Agent(channel_, rank++).Leave();
  } while (status.ok());
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("try again"));
  // It is let in some time.
  do {
    status = Agent(channel_, rank++).Leave();
  } while (!status.ok());
}

TEST_F(LimitsServiceTest, EachRefusalIsCountedByItsLimit) {
  CollectorOptions options = WithHttp();
  options.max_watches = 0;
  options.max_live_streams = 0;
  options.query.max_read_bytes = 1;
  Start(options);
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::WatchRequest request;
    request.set_run("run");
    const auto watch = stub_->Watch(&context, request);
    v1::WatchResponse message;
    EXPECT_FALSE(watch->Read(&message));
    EXPECT_EQ(watch->Finish().error_code(),
              grpc::StatusCode::RESOURCE_EXHAUSTED);
  }
  EXPECT_EQ(Get("/api/v1/Watch?run=run")->status, 503);
  EXPECT_EQ(Get("/api/v1/WatchAlerts")->status, 503);
  EXPECT_EQ(Get("/api/v1/GetSeries?runs=run&statistics=grad.mean")->status,
            429);
  {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    const auto large = client.Post(
        "/api/v1/GetRun", std::string((1 << 20) + 1, ' '), "application/json");
    ASSERT_TRUE(large);
    EXPECT_EQ(large->status, 413);
  }
  auto refused = Refused();
  EXPECT_EQ(refused["watches"], 1u);
  EXPECT_EQ(refused["live_streams"], 2u);
  EXPECT_GE(refused["query_work"], 1u);
  EXPECT_EQ(refused["request_bytes"], 1u);
  const httplib::Result page = Get("/metrics");
  ASSERT_TRUE(page);
  EXPECT_THAT(page->body,
              HasSubstr("\ngradtap_refused_total{limit=\"watches\"} 1\n"));
}

TEST_F(LimitsServiceTest, OneHttpClientLeavesSomeOfTheConnectionsToOthers) {
  CollectorOptions options = WithHttp();
  options.http_connections.of_a_client = 2;
  options.http_connections.request_time = std::chrono::hours(1);
  Start(options);
  std::vector<int> slow;
  for (int i = 0; i < 2; ++i) {
    slow.push_back(ConnectTo(collector_->http_address()));
    EXPECT_EQ(::send(slow.back(), "GET ", 4, MSG_NOSIGNAL), 4);
  }
  httplib::Result result = Get("/healthz");
  while (result && result->status == 200) result = Get("/healthz");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 503);
  EXPECT_EQ(result->get_header_value("Retry-After"), "1");
  EXPECT_THAT(result->body, HasSubstr("close some"));
  for (const int fd : slow) ::close(fd);
  while (!result || result->status != 200) result = Get("/healthz");
  EXPECT_GE(Refused()["client_connections"], 1u);
}

}  // namespace
}  // namespace gradtap::server::testing
