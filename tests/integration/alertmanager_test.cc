// A collector and Debian's Alertmanager: what is wrong with a run arrives
// there, once, whichever of the two is started anew meanwhile.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "integration/process.h"
#include "server/service/collector.h"
#include "server/service/health_feeder.h"
#include "support/free_port.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::Outcome;
using ::gradtap::testing::Process;
using ::gradtap::testing::RunProgram;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::HealthFeeder;

constexpr char kAlertmanager[] = "prometheus-alertmanager";
// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};

bool IsInstalled() {
  return std::system(
             "prometheus-alertmanager --version >/dev/null 2>&1 && "
             "amtool --version >/dev/null 2>&1") == 0;
}

std::size_t CountOf(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != text.npos;
       at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

class AlertmanagerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!IsInstalled()) {
      GTEST_SKIP() << "prometheus-alertmanager is not installed: tools/setup "
                      "--all";
    }
    port_ = gradtap::testing::FreePort();
    url_ = "http://127.0.0.1:" + std::to_string(port_);
    gradtap::testing::WriteFile(dir_.path() + "/am.yml",
                                "route: {receiver: nobody}\n"
                                "receivers: [{name: nobody}]\n");
    StartAlertmanager();
    StartCollector();
  }

  // With an empty memory.
  void StartAlertmanager() {
    alertmanager_ = nullptr;
    const std::string storage =
        dir_.path() + "/am" + std::to_string(++started_);
    alertmanager_ = std::make_unique<Process>(std::vector<std::string>{
        "/usr/bin/env", kAlertmanager,
        "--config.file=" + dir_.path() + "/am.yml",
        "--web.listen-address=127.0.0.1:" + std::to_string(port_),
        "--storage.path=" + storage,
        "--cluster.listen-address=", "--log.level=error"});
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (Amtool({"cluster", "show"}).exit.code != 0 &&
           std::chrono::steady_clock::now() < deadline) {
      ASSERT_TRUE(alertmanager_->running()) << alertmanager_->Errors();
    }
  }

  void StartCollector() {
    CollectorOptions options;
    options.data_dir = dir_.path() + "/data";
    options.grpc_listen = "127.0.0.1:0";
    options.http_listen = "127.0.0.1:0";
    options.keeping.disk_reserve_bytes = 0;
    options.alertmanager = url_;
    options.alert_resend = std::chrono::seconds(2);
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
  }

  Outcome Amtool(std::vector<std::string> args) {
    std::vector<std::string> argv = {"/usr/bin/env", "amtool"};
    argv.insert(argv.end(), args.begin(), args.end());
    argv.push_back("--alertmanager.url=" + url_);
    return RunProgram(argv);
  }

  // Asks until so many alerts are active; what it said last.
  std::string Await(std::size_t count) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      const Outcome said = Amtool({"alert", "query", "-o", "json"});
      if (said.exit.code == 0 &&
          CountOf(said.out, "\"fingerprint\"") == count) {
        return said.out;
      }
      if (std::chrono::steady_clock::now() > deadline) {
        ADD_FAILURE() << "not " << count << " alerts: " << said.out << said.err;
        return said.out;
      }
    }
  }

  gradtap::testing::TempDir dir_;
  int port_ = 0;
  int started_ = 0;
  std::string url_;
  std::unique_ptr<Process> alertmanager_;
  std::unique_ptr<Collector> collector_;
};

TEST_F(AlertmanagerTest, AnInjectedNanArrivesNamedAndIsResolvedWhenItEnds) {
  HealthFeeder feeder(&collector_->store(), "gpt", "fc.weight", 3);
  for (int step = 0; step < 812; ++step) feeder.Step(step);
  const auto injected = std::chrono::steady_clock::now();
  feeder.Step(812, true);
  const std::string said = Await(1);
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - injected;
  std::printf("[ measured ] from the commit to amtool's answer: %.3f s\n",
              took.count());
  EXPECT_THAT(
      said,
      AllOf(HasSubstr("\"alertname\":\"GradtapNonfinite\""),
            HasSubstr("\"run\":\"gpt\""),
            HasSubstr("\"severity\":\"critical\""),
            HasSubstr("\"first_step\":\"812\""), HasSubstr("\"rank\":\"3\""),
            HasSubstr("grad fc.weight rank 3"),
            HasSubstr("http://" + collector_->http_address() + "/?run=gpt")));
  for (int step = 813; step < 850; ++step) feeder.Step(step);
  Await(0);
}

TEST_F(AlertmanagerTest, ARestartOfTheCollectorNeitherLosesNorDoubles) {
  {
    HealthFeeder feeder(&collector_->store(), "gpt");
    for (int step = 0; step < 10; ++step) feeder.Step(step, step == 9);
  }
  const std::string before = Await(1);
  collector_ = nullptr;
  StartCollector();
  HealthFeeder feeder(&collector_->store(), "gpt");
  feeder.Step(10, true);
  const std::string after = Await(1);
  // The same one: its beginning has not moved.
  const std::size_t at = before.find("\"startsAt\"");
  EXPECT_EQ(before.substr(at, 40),
            after.substr(after.find("\"startsAt\""), 40));
  for (int step = 11; step < 40; ++step) feeder.Step(step);
  Await(0);
}

TEST_F(AlertmanagerTest, WhatEndsWhileTheCollectorIsAwayIsResolved) {
  {
    HealthFeeder feeder(&collector_->store(), "gpt");
    feeder.Step(0, true);
    Await(1);
  }
  collector_ = nullptr;
  StartCollector();
  HealthFeeder feeder(&collector_->store(), "gpt");
  feeder.End();
  Await(0);
}

TEST_F(AlertmanagerTest, AnAlertmanagerThatStartsAnewHearsOfItAgain) {
  HealthFeeder feeder(&collector_->store(), "gpt");
  feeder.Step(0, true);
  Await(1);
  StartAlertmanager();
  Await(1);
  // One that was away when it ended.
  alertmanager_ = nullptr;
  for (int step = 1; step < 30; ++step) feeder.Step(step);
  StartAlertmanager();
  HealthFeeder other(&collector_->store(), "other");
  other.Step(0, true);
  EXPECT_THAT(Await(1), HasSubstr("\"run\":\"other\""));
}

}  // namespace
}  // namespace gradtap::server
