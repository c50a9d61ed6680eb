// What Prometheus scrapes of a whole collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "server/http/metrics_page.h"
#include "server/query/metric_names.h"
#include "server/service/service_testing.h"
#include "support/certificates.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::MadeCertificate;
using ::gradtap::testing::MakeCertificate;
using testing::Feeder;
using ::testing::HasSubstr;
using ::testing::Not;

class MetricsTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    Start(options);
  }

  // Anew, with a certificate.
  void StartWithTls() {
    collector_ = nullptr;
    const MadeCertificate made = MakeCertificate(dir_.path(), "server");
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    options.tls.cert = made.cert;
    options.tls.key = made.key;
    Start(options);
    authority_ = made.cert;
  }

  std::string Scrape() {
    httplib::Client client((authority_.empty() ? "http://" : "https://") +
                           collector_->http_address());
    if (!authority_.empty()) client.set_ca_cert_path(authority_.c_str());
    client.set_read_timeout(60);
    const httplib::Result result = client.Get("/metrics");
    if (!result || result->status != 200) {
      ADD_FAILURE() << "no metrics";
      return "";
    }
    EXPECT_THAT(result->get_header_value("Content-Type"),
                HasSubstr("text/plain; version=0.0.4"));
    return result->body;
  }

  // The first scrape that tells of an earlier one.
  std::string ScrapeWithCalls() {
    std::string page;
    do {
      page = Scrape();
    } while (!page.empty() &&
             page.find("gradtap_query_seconds_count") == std::string::npos);
    return page;
  }

  // Of each sample, as written: name and labels to value.
  static std::map<std::string, double> Samples(const std::string& page) {
    std::map<std::string, double> samples;
    std::istringstream lines(page);
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line[0] == '#') continue;
      const std::size_t space = line.rfind(' ');
      EXPECT_TRUE(samples
                      .emplace(line.substr(0, space),
                               std::strtod(line.c_str() + space, nullptr))
                      .second)
          << "twice: " << line;
    }
    return samples;
  }

  std::string authority_;  // Empty: in the clear.
};

TEST_F(MetricsTest, ARunThatGoesOnIsToldWithItsNewestStep) {
  Feeder feeder(&collector_->store(), "mnist");
  for (int step = 0; step <= 7; ++step) {
    feeder.Step(step, static_cast<float>(step));
  }
  const auto samples = Samples(Scrape());
  const auto value = [&samples](const std::string& name) {
    const auto found = samples.find(name);
    if (found == samples.end()) ADD_FAILURE() << "no " << name;
    return found == samples.end() ? -1 : found->second;
  };
  EXPECT_EQ(value("gradtap_runs"), 1);
  EXPECT_EQ(value("gradtap_run_state{run=\"mnist\",state=\"running\"}"), 1);
  EXPECT_EQ(value("gradtap_run_step{run=\"mnist\"}"), 7);
  EXPECT_EQ(value("gradtap_run_ranks{run=\"mnist\"}"), 1);
  EXPECT_EQ(value("gradtap_run_stored_steps_total{run=\"mnist\"}"), 8);
  EXPECT_EQ(value("gradtap_run_scalar{run=\"mnist\",name=\"loss\"}"), 7);
  // Four elements that are 7.
  EXPECT_EQ(value("gradtap_run_norm{run=\"mnist\",role=\"grad\"}"), 14);
  EXPECT_EQ(
      value("gradtap_run_nonfinite_elements{run=\"mnist\",role=\"grad\"}"), 0);
  // A nanosecond a step.
  EXPECT_DOUBLE_EQ(value("gradtap_run_steps_per_second{run=\"mnist\"}"), 1e9);
  EXPECT_EQ(value("gradtap_stored_steps_total"), 8);
  EXPECT_EQ(value("gradtap_metrics_omitted_runs"), 0);
  EXPECT_EQ(value("gradtap_metrics_unread_runs"), 0);
  EXPECT_GT(value("gradtap_resident_memory_bytes"), 1e6);
  EXPECT_EQ(value("gradtap_commit_seconds_count"), 9);
}

TEST_F(MetricsTest, ParametersAreThereIfAskedForAndTheRestIsCounted) {
  Feeder(&collector_->store(), "mnist").Step(3, 2);
  EXPECT_THAT(Scrape(), Not(HasSubstr("param=")));
  collector_ = nullptr;
  CollectorOptions options;
  options.http_listen = "127.0.0.1:0";
  options.metrics.match = *ParseMetricMatch("weight$");
  Start(options);
  const auto samples = Samples(Scrape());
  const std::string labels = "{run=\"mnist\",rank=\"0\",param=\"fc.weight\"}";
  EXPECT_EQ(samples.at("gradtap_grad_l2" + labels), 4);
  EXPECT_EQ(samples.at("gradtap_update_ratio" + labels), 1);
  EXPECT_EQ(samples.at("gradtap_metrics_omitted_parameter_series"), 0);
  QueryEnvironment environment;
  environment.store = &collector_->store();
  environment.clock = &RealClock();
  QueryBackend backend(environment);
  MetricsLimits limits;
  limits.parameter_series = 1;
  const auto page =
      MetricsPage(&backend, options.metrics, limits, [] { return false; });
  GRADTAP_ASSERT_OK(page);
  EXPECT_THAT(*page, HasSubstr("gradtap_metrics_omitted_parameter_series 2\n"));
}

TEST_F(MetricsTest, ARunThatEndedLongAgoIsNotTold) {
  const std::int64_t hour = std::int64_t{3600} * 1'000'000'000;
  Feeder old(&collector_->store(), "old", RealClock().UnixNanos() - hour);
  old.Step(0, 1);
  old.End();
  Feeder fresh(&collector_->store(), "fresh");
  fresh.Step(0, 1);
  fresh.End();
  const std::string page = Scrape();
  EXPECT_THAT(page, Not(HasSubstr("\"old\"")));
  EXPECT_THAT(
      page, HasSubstr("gradtap_run_state{run=\"fresh\",state=\"finished\"} 1"));
  EXPECT_THAT(page, HasSubstr("gradtap_runs 2"));
}

TEST_F(MetricsTest, WithMoreScalarsThanFitTheRestIsCounted) {
  Feeder(&collector_->store(), "many").Step(0, 1, "x");  // 201 of them.
  const auto samples = Samples(Scrape());
  EXPECT_EQ(samples.at("gradtap_metrics_omitted_scalars"), 151);
}

TEST_F(MetricsTest, ARunWithoutAStepIsTold) {
  Feeder feeder(&collector_->store(), "empty");
  EXPECT_THAT(Scrape(), HasSubstr("gradtap_run_step{run=\"empty\"} -1"));
}

TEST_F(MetricsTest, HostileNamesAreEscaped) {
  Feeder(&collector_->store(), "a\"b\\c} 1").Step(0, 1);
  const std::string page = Scrape();
  EXPECT_THAT(page, HasSubstr("gradtap_run_step{run=\"a\\\"b\\\\c} 1\"} 0"));
}

TEST_F(MetricsTest, WithTlsItTellsWhenTheCertificateExpires) {
  const char* const name =
      "gradtap_tls_certificate_not_after_timestamp_seconds";
  EXPECT_THAT(Scrape(), Not(HasSubstr(name)));
  StartWithTls();
  const double now = static_cast<double>(RealClock().UnixNanos()) * 1e-9;
  EXPECT_NEAR(Samples(Scrape()).at(name), now + 90 * 86400, 3600);
}

TEST_F(MetricsTest, ThePageOfTheDocsHasEveryMetric) {
  StartWithTls();
  Feeder feeder(&collector_->store(), "run");
  feeder.Step(0, 1);
  feeder.Step(1, 1);
  std::ifstream file(GRADTAP_HTTP_PAGE);
  const std::string docs((std::istreambuf_iterator<char>(file)), {});
  std::istringstream lines(ScrapeWithCalls());
  int metrics = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string head = "# TYPE ";
    if (line.rfind(head, 0) != 0) continue;
    ++metrics;
    const std::string name =
        line.substr(head.size(), line.find(' ', head.size()) - head.size());
    EXPECT_THAT(docs, HasSubstr("`" + name + "`"));
  }
  EXPECT_GT(metrics, 30);
}

// Prometheus' own reader and its conventions.
TEST_F(MetricsTest, PromtoolHasNothingToSay) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed: tools/setup --all";
  }
  Feeder feeder(&collector_->store(), "quote\"d\\ \xf0\x9f\x92\xa5");
  feeder.Step(0, 1);
  feeder.Step(1, std::numeric_limits<float>::quiet_NaN());
  const std::string file = dir_.path() + "/metrics";
  std::ofstream(file) << ScrapeWithCalls();
  const std::string command =
      "promtool check metrics <" + file + " >" + file + ".said 2>&1";
  const int exit_code = std::system(command.c_str());
  std::ifstream said(file + ".said");
  const std::string text((std::istreambuf_iterator<char>(said)), {});
  EXPECT_EQ(exit_code, 0) << text;
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace gradtap::server
