// Alerts of a whole collector as Server-Sent Events.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/http/event_reader.h"
#include "server/service/collector.h"
#include "server/service/health_feeder.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::testing::HasSubstr;
using testing::HealthFeeder;
using testing::kPatience;
using ::testing::Not;
using testing::Reader;

constexpr char kWatch[] = "/api/v1/WatchAlerts";
constexpr char kCaughtUp[] = "\"caughtUp\":true";

class AlertStreamTest : public ::testing::Test {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.data_dir = dir_.path() + "/data";
    options.grpc_listen = "127.0.0.1:0";
    options.http_listen = "127.0.0.1:0";
    options.http_heartbeat = std::chrono::milliseconds(20);
    options.keeping.disk_reserve_bytes = 0;
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
  }

  HealthFeeder Feed(const std::string& run,
                    const std::string& name = "fc.weight") {
    return HealthFeeder(&collector_->store(), run, name);
  }
  std::unique_ptr<Reader> Read(const std::string& path = kWatch,
                               httplib::Headers headers = {}) {
    return std::make_unique<Reader>(collector_->http_address(), path,
                                    std::move(headers));
  }
  // Of the newest event that has one.
  static std::string IdOf(const std::string& text) {
    std::string id = text.substr(text.rfind("id: ") + 4);
    id.erase(id.find('\n'));
    return id;
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<Collector> collector_;
};

TEST_F(AlertStreamTest, WhatIsActiveComesFirstThenWhatChanges) {
  HealthFeeder first = Feed("first");
  first.Step(0, true);
  ASSERT_TRUE(Read()->Await("\"run\":\"first\""));
  const auto reader = Read();
  ASSERT_TRUE(reader->Await(kCaughtUp));
  EXPECT_EQ(reader->status(), 200);
  EXPECT_EQ(reader->type(), "text/event-stream");
  EXPECT_THAT(reader->text(), HasSubstr("\"HEALTH_RULE_NONFINITE\""));
  HealthFeeder second = Feed("second");
  second.Step(0, true);
  ASSERT_TRUE(reader->Await("\"run\":\"second\""));
  second.End();
  EXPECT_TRUE(reader->Await("\"ALERT_END_RUN_ENDED\""));
  EXPECT_TRUE(reader->Await("\n\n:\n\n"));
}

TEST_F(AlertStreamTest, WhoWasCutOffGoesOnWhereItWas) {
  HealthFeeder first = Feed("first");
  first.Step(0, true);
  std::string seen;
  {
    const auto reader = Read();
    ASSERT_TRUE(reader->Await("\"run\":\"first\""));
    ASSERT_TRUE(reader->Await(kCaughtUp));
    seen = IdOf(reader->text());
  }
  HealthFeeder second = Feed("second");
  second.Step(0, true);
  const auto reader = Read(kWatch, {{"Last-Event-ID", seen}});
  ASSERT_TRUE(reader->Await("\"run\":\"second\""));
  ASSERT_TRUE(reader->Await(kCaughtUp));
  EXPECT_THAT(reader->text(), Not(HasSubstr("\"run\":\"first\"")));
}

TEST_F(AlertStreamTest, OneRunsAlertsAreItsAloneUntilItIsDeleted) {
  HealthFeeder other = Feed("other");
  other.Step(0, true);
  HealthFeeder feeder = Feed("run");
  feeder.Step(0, true);
  ASSERT_TRUE(Read()->Await("\"run\":\"other\""));
  const auto reader = Read(std::string(kWatch) + "?run=run");
  ASSERT_TRUE(reader->Await("\"run\":\"run\""));
  EXPECT_TRUE(collector_->store().DeleteRun("run").ok());
  EXPECT_TRUE(reader->AwaitEnd());
  EXPECT_THAT(reader->text(),
              HasSubstr("event: error\ndata: {\"code\":\"NOT_FOUND\""));
  EXPECT_THAT(reader->text(), Not(HasSubstr("\"run\":\"other\"")));
}

TEST_F(AlertStreamTest, ErrorsComeBeforeTheStream) {
  for (const auto& [query, status] : std::vector<std::pair<std::string, int>>{
           {"?run=rnu", 404}, {"?ran=run", 400}, {"?after_change=x", 400}}) {
    const auto reader = Read(kWatch + query);
    EXPECT_EQ(reader->status(), status) << query;
    EXPECT_EQ(reader->type(), "application/json") << query;
  }
}

TEST_F(AlertStreamTest, AHostileNameStaysInItsEvent) {
  HealthFeeder feeder = Feed("run", "\n\nevent: error\ndata: </script>\r\n");
  feeder.Step(0, true);
  const auto reader = Read();
  ASSERT_TRUE(reader->Await(kCaughtUp));
  ASSERT_TRUE(reader->Await("script"));
  EXPECT_THAT(reader->text(), Not(HasSubstr("\nevent: error")));
  EXPECT_THAT(reader->text(), HasSubstr("\\n\\nevent: error\\ndata: "));
}

TEST_F(AlertStreamTest, StreamsOfStepsAndOfAlertsShareTheirPlaces) {
  HealthFeeder feeder = Feed("run");
  feeder.Step(0);
  std::vector<std::unique_ptr<Reader>> readers;
  // As many as one client may have.
  for (int i = 0; i < 24; ++i) {
    readers.push_back(Read(i % 2 == 0 ? kWatch : "/api/v1/Watch?run=run"));
    ASSERT_TRUE(readers.back()->Await("data: ")) << i;
  }
  httplib::Client client("http://" + collector_->http_address());
  client.set_read_timeout(kPatience);
  for (const char* path : {kWatch, "/api/v1/Watch?run=run"}) {
    const httplib::Result refused = client.Get(path);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 503);
    EXPECT_EQ(refused->get_header_value("Retry-After"), "5");
    EXPECT_THAT(refused->body, HasSubstr("24 of 32 live streams"));
  }
  // One that leaves makes room for one of the other kind.
  readers.pop_back();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  int status = 503;
  while (status == 503 && std::chrono::steady_clock::now() < until) {
    readers.push_back(Read());
    status = readers.back()->status();
  }
  EXPECT_EQ(status, 200);
}

TEST_F(AlertStreamTest, ShutdownEndsStreamsWithAWord) {
  const auto reader = Read();
  ASSERT_TRUE(reader->Await(kCaughtUp));
  collector_->Shutdown();
  EXPECT_TRUE(reader->AwaitEnd());
  EXPECT_THAT(reader->text(), HasSubstr("event: error\ndata: {\"code\":"
                                        "\"UNAVAILABLE\""));
}

}  // namespace
}  // namespace gradtap::server
