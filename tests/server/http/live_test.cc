// Server-Sent Events of a whole collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/http/event_reader.h"
#include "server/service/service_testing.h"

namespace gradtap::server {
namespace {

using testing::Feeder;
using ::testing::HasSubstr;
using testing::kPatience;
using testing::Reader;

constexpr char kWatch[] = "/api/v1/Watch?run=run&statistics=grad.mean";

class LiveTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    options.http_heartbeat = std::chrono::milliseconds(20);
    Start(options);
    if (collector_ == nullptr) return;
    feeder_ = std::make_unique<Feeder>(&collector_->store(), "run");
    feeder_->Step(0, 1);
  }

  std::unique_ptr<Reader> Read(httplib::Headers headers = {}) {
    return std::make_unique<Reader>(collector_->http_address(), kWatch,
                                    std::move(headers));
  }

  std::uint32_t OpenWatches() {
    v1::GetStatusResponse status;
    grpc::ClientContext context;
    SetDeadline(&context);
    EXPECT_TRUE(
        stub_->GetStatus(&context, v1::GetStatusRequest(), &status).ok());
    return status.open_watches();
  }

  std::unique_ptr<Feeder> feeder_;
};

// A heartbeat would not tell it in time.
class LiveSilentTest : public testing::ServiceTest {};

TEST_F(LiveSilentTest, AReaderThatClosesGivesItsStreamBack) {
  CollectorOptions options;
  options.http_listen = "127.0.0.1:0";
  options.http_heartbeat = std::chrono::hours(1);
  Start(options);
  Feeder(&collector_->store(), "run").Step(0, 1);
  Reader reader(collector_->http_address(), kWatch);
  ASSERT_TRUE(reader.Await("\"step\":\"0\""));
  reader.Close();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  std::uint32_t open = 1;
  while (open > 0 && std::chrono::steady_clock::now() < until) {
    v1::GetStatusResponse status;
    grpc::ClientContext context;
    SetDeadline(&context);
    ASSERT_TRUE(
        stub_->GetStatus(&context, v1::GetStatusRequest(), &status).ok());
    open = status.open_watches();
  }
  EXPECT_EQ(open, 0u);
}

TEST_F(LiveTest, StepsComeAsTheyAreCommitted) {
  const auto reader = Read();
  ASSERT_TRUE(reader->Await("\"step\":\"0\""));
  EXPECT_EQ(reader->status(), 200);
  EXPECT_EQ(reader->type(), "text/event-stream");
  feeder_->Step(1, 2);
  EXPECT_TRUE(reader->Await("\"step\":\"1\""));
  feeder_->End();
  EXPECT_TRUE(reader->Await("RUN_STATE_FINISHED"));
}

TEST_F(LiveTest, WhoWasCutOffGoesOnWhereItWas) {
  std::string seen;
  {
    const auto reader = Read();
    ASSERT_TRUE(reader->Await("\"step\":\"0\""));
    const std::string text = reader->text();
    seen = text.substr(text.rfind("id: ") + 4);
    seen.erase(seen.find('\n'));
  }
  for (int step = 1; step <= 100; ++step) feeder_->Step(step, 1);
  const auto reader = Read({{"Last-Event-ID", seen}});
  ASSERT_TRUE(reader->Await("\"step\":\"100\""));
  for (int step = 1; step <= 100; ++step) {
    EXPECT_THAT(reader->text(),
                HasSubstr("\"step\":\"" + std::to_string(step) + "\""));
  }
}

TEST_F(LiveTest, AStreamWithoutNewsSaysThatItIsThere) {
  const auto reader = Read();
  EXPECT_TRUE(reader->Await("\n\n:\n\n:\n\n"));
}

TEST_F(LiveTest, ErrorsComeBeforeTheStream) {
  for (const auto& [path, status] : std::vector<std::pair<std::string, int>>{
           {"/api/v1/Watch?run=rnu", 404},
           {"/api/v1/Watch?run=run&match=(", 400},
           {"/api/v1/Watch?ran=run", 400},
           {"/api/v1/Watch?run=run&after_ordinal=99999", 400}}) {
    Reader reader(collector_->http_address(), path);
    EXPECT_EQ(reader.status(), status) << path;
    EXPECT_EQ(reader.type(), "application/json") << path;
  }
}

TEST_F(LiveTest, ARunThatIsNotThereIsAnsweredWithTheNearest) {
  for (const char* path :
       {"/api/v1/Watch?run=rnu", "/api/v1/WatchAlerts?run=rnu"}) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(kPatience);
    const httplib::Result refused = client.Get(path);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 404) << path;
    EXPECT_THAT(refused->body, HasSubstr("the nearest known one is 'run'"));
  }
}

// Three quarters of 32.
TEST_F(LiveTest, TheTwentyFifthOfAClientIsToldToComeAgain) {
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < 24; ++i) {
    readers.push_back(Read());
    ASSERT_TRUE(readers.back()->Await("\"step\":\"0\"")) << i;
  }
  EXPECT_EQ(OpenWatches(), 24u);
  httplib::Client client("http://" + collector_->http_address());
  client.set_read_timeout(kPatience);
  const httplib::Result refused = client.Get(kWatch);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 503);
  EXPECT_EQ(refused->get_header_value("Retry-After"), "5");
  EXPECT_THAT(refused->body, HasSubstr("24 of 32 live streams are yours"));
  const httplib::Result metrics = client.Get("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_THAT(metrics->body,
              HasSubstr("gradtap_refused_total{limit=\"live_streams\"} 1\n"));
  // Another client has one.
  httplib::Client other("http://" + collector_->http_address());
  other.set_interface("127.0.0.2");
  other.set_read_timeout(kPatience);
  int status = 0;
  other.Get(
      kWatch,
      [&status](const httplib::Response& head) {
        status = head.status;
        return true;
      },
      [](const char*, std::size_t) { return false; });
  EXPECT_EQ(status, 200);
  // Others are served all the same.
  const httplib::Result well = client.Get("/healthz");
  ASSERT_TRUE(well);
  EXPECT_EQ(well->status, 200);
  feeder_->Step(1, 1);
  for (const auto& reader : readers) {
    EXPECT_TRUE(reader->Await("\"step\":\"1\""));
  }
  // Those that leave make room.
  readers.clear();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (OpenWatches() > 0 && std::chrono::steady_clock::now() < until) {
    std::this_thread::yield();
  }
  EXPECT_EQ(OpenWatches(), 0u);
}

TEST_F(LiveTest, ShutdownEndsStreamsWithAWord) {
  const auto reader = Read();
  ASSERT_TRUE(reader->Await("\"step\":\"0\""));
  collector_->Shutdown();
  EXPECT_TRUE(reader->AwaitEnd());
  EXPECT_THAT(reader->text(), HasSubstr("event: error\ndata: {\"code\":"
                                        "\"UNAVAILABLE\""));
}

}  // namespace
}  // namespace gradtap::server
