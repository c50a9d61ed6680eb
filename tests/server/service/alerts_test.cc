// Alerts and health of a whole collector: over gRPC, over HTTP, and for
// Prometheus.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "gradtap/v1/query.grpc.pb.h"
#include "grpcpp/create_channel.h"
#include "server/service/collector.h"
#include "server/service/health_feeder.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HealthFeeder;
using ::testing::Not;

// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

class AlertsTest : public ::testing::Test {
 protected:
  AlertsTest() { Start(); }

  void Start() {
    collector_ = nullptr;
    CollectorOptions options;
    options.data_dir = dir_.path() + "/data";
    options.grpc_listen = "127.0.0.1:0";
    options.http_listen = "127.0.0.1:0";
    options.keeping.disk_reserve_bytes = 0;
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = v1::Query::NewStub(grpc::CreateCustomChannel(
        collector_->grpc_address(), grpc::InsecureChannelCredentials(),
        arguments));
  }

  static void SetDeadline(grpc::ClientContext* context) {
    context->set_deadline(std::chrono::system_clock::now() + kPatience);
  }
  v1::ListAlertsResponse List(const std::string& run) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::ListAlertsRequest request;
    request.set_run(run);
    v1::ListAlertsResponse response;
    EXPECT_TRUE(stub_->ListAlerts(&context, request, &response).ok());
    return response;
  }
  // Watches until an alert of the run is as wanted.
  v1::Alert Await(const std::string& run, bool active) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::WatchAlertsRequest request;
    request.set_run(run);
    request.set_after_change(0);
    const auto reader = stub_->WatchAlerts(&context, request);
    v1::WatchAlertsResponse message;
    while (reader->Read(&message)) {
      if (message.has_alert() && message.alert().active() == active) {
        context.TryCancel();
        return message.alert();
      }
    }
    ADD_FAILURE() << reader->Finish().error_message();
    return {};
  }
  std::string Get(const std::string& path) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    const httplib::Result result = client.Get(path);
    if (!result) {
      ADD_FAILURE() << path;
      return "";
    }
    return result->body;
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<Collector> collector_;
  std::unique_ptr<v1::Query::Stub> stub_;
};

TEST_F(AlertsTest, ANanIsListedWatchedAndToldOverEveryDoor) {
  HealthFeeder feeder(&collector_->store(), "gpt");
  for (int step = 0; step < 50; ++step) feeder.Step(step, step == 49);
  const v1::Alert alert = Await("gpt", true);
  EXPECT_EQ(alert.first_step(), 49);
  EXPECT_EQ(alert.worst(0).parameter(), "fc.weight");
  EXPECT_EQ(List("gpt").alerts_size(), 1);
  EXPECT_EQ(List("").alerts_size(), 1);

  grpc::ClientContext context;
  SetDeadline(&context);
  v1::GetHealthRequest ask;
  ask.set_run("gpt");
  ask.set_max_names(5);
  v1::GetHealthResponse health;
  ASSERT_TRUE(stub_->GetHealth(&context, ask, &health).ok());
  EXPECT_TRUE(health.evaluated());
  EXPECT_EQ(health.rules(0).parameters(), 1u);
  EXPECT_THAT(health.rules(0).names(), ElementsAre("fc.weight"));
  EXPECT_EQ(health.rules(0).alert().id(), alert.id());

  EXPECT_THAT(Get("/api/v1/ListAlerts?run=gpt&active=true"),
              AllOf(HasSubstr("\"HEALTH_RULE_NONFINITE\""),
                    HasSubstr("\"firstStep\":\"49\"")));
  EXPECT_THAT(Get("/api/v1/ListAlerts?rule=dead"), Not(HasSubstr("NONFINITE")));
  EXPECT_THAT(Get("/api/v1/GetHealth?run=gpt&max_names=5"),
              HasSubstr("\"names\":[\"fc.weight\"]"));
  EXPECT_THAT(
      Get("/api/v1/GetFirstBad?run=gpt"),
      AllOf(HasSubstr("\"BAD_KIND_GRAD\""), HasSubstr("\"afterStep\":\"48\"")));
  EXPECT_THAT(
      Get("/api/v1/TestRules?run=gpt&rules=nonfinite%7Bdisabled:true%7D"),
      AllOf(HasSubstr("\"alerts\":[]"), HasSubstr("\"steps\":\"50\"")));
  const std::string metrics = Get("/metrics");
  EXPECT_THAT(
      metrics,
      AllOf(HasSubstr("gradtap_run_alerts{run=\"gpt\",rule=\"nonfinite\","
                      "severity=\"critical\"} 1"),
            HasSubstr("gradtap_run_alerts{run=\"gpt\",rule=\"dead\","
                      "severity=\"warning\"} 0"),
            HasSubstr("gradtap_alerts_active 1"),
            HasSubstr("gradtap_health_rows_total 50")));
}

TEST_F(AlertsTest, ARestartNeitherLosesNorDoublesAndTheEndComes) {
  {
    HealthFeeder feeder(&collector_->store(), "gpt");
    feeder.Step(0);
    feeder.Step(1, true);
  }
  const v1::Alert before = Await("gpt", true);
  Start();
  HealthFeeder feeder(&collector_->store(), "gpt");
  for (int step = 2; step < 40; ++step) feeder.Step(step, step == 2);
  const v1::Alert after = Await("gpt", false);
  EXPECT_EQ(after.id(), before.id());
  EXPECT_EQ(after.raised_unix_ns(), before.raised_unix_ns());
  EXPECT_EQ(after.last_step(), 2);
  EXPECT_EQ(after.end(), v1::ALERT_END_QUIET);
  EXPECT_EQ(List("gpt").alerts_size(), 1);
}

TEST_F(AlertsTest, AWatchOfARunThatIsNotThereIsRefusedAndOneThatGoesEnds) {
  const auto watch = [this](const std::string& run) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::WatchAlertsRequest request;
    request.set_run(run);
    const auto reader = stub_->WatchAlerts(&context, request);
    v1::WatchAlertsResponse message;
    while (reader->Read(&message)) {
      if (message.caught_up() && !run.empty()) {
        EXPECT_TRUE(collector_->store().DeleteRun(run).ok());
      }
    }
    return reader->Finish();
  };
  EXPECT_EQ(watch("none").error_code(), grpc::StatusCode::NOT_FOUND);
  HealthFeeder feeder(&collector_->store(), "gpt");
  feeder.Step(0, true);
  Await("gpt", true);
  EXPECT_EQ(watch("gpt").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(AlertsTest, AShutdownEndsWatches) {
  grpc::ClientContext context;
  SetDeadline(&context);
  const auto reader = stub_->WatchAlerts(&context, v1::WatchAlertsRequest());
  v1::WatchAlertsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_TRUE(message.caught_up());
  std::thread shutdown([this] { collector_->Shutdown(); });
  EXPECT_FALSE(reader->Read(&message));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  shutdown.join();
}

TEST_F(AlertsTest, AHostileNameIsToldAsItIsAndHarmsNothing) {
  const std::string name =
      "<script>\"'\\u202e=cmd|\x01\xf0\x9f\x92\xa9" + std::string(400, 'x');
  HealthFeeder feeder(&collector_->store(), "gpt", name);
  feeder.Step(0, true);
  const v1::Alert alert = Await("gpt", true);
  EXPECT_EQ(alert.worst(0).parameter(), name);
  EXPECT_THAT(alert.summary(), Not(HasSubstr("\x01")));
  EXPECT_THAT(alert.link(), Not(HasSubstr("<")));
  EXPECT_THAT(Get("/api/v1/ListAlerts"), Not(HasSubstr("<script>")));
  EXPECT_THAT(Get("/api/v1/GetFirstBad?run=gpt"), HasSubstr("BAD_KIND_GRAD"));
}

}  // namespace
}  // namespace gradtap::server
