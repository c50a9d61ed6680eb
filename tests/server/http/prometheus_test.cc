// Prometheus's query API of a whole collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <string>

#include "server/http/prometheus_time.h"
#include "server/service/service_testing.h"

namespace gradtap::server {
namespace {

using testing::Feeder;
using ::testing::HasSubstr;
using testing::kStart;
using ::testing::Not;

constexpr std::int64_t kSecond = 1'000'000'000;

class PrometheusTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    Start(options);
    // A step every 10 s: its number is its loss and its elements.
    Feeder feeder(&collector_->store(), "mnist");
    for (int step = 0; step < 20; ++step) {
      feeder.StepAt(step, static_cast<float>(step),
                    kStart + step * 10 * kSecond);
    }
  }

  static std::string Seconds(int after_start) {
    return std::to_string(kStart / kSecond + after_start);
  }
  std::string Get(const std::string& path, const httplib::Params& parameters,
                  int status = 200) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    const httplib::Result result = client.Get("/prometheus/api/v1/" + path,
                                              parameters, httplib::Headers{});
    if (!result) {
      ADD_FAILURE() << "no answer";
      return "";
    }
    EXPECT_EQ(result->status, status) << result->body;
    EXPECT_EQ(result->get_header_value("Content-Type"), "application/json");
    return result->body;
  }
  std::string Query(const std::string& query, int after_start,
                    int status = 200) {
    return Get("query", {{"query", query}, {"time", Seconds(after_start)}},
               status);
  }
};

TEST_F(PrometheusTest, WhatGrafanaAsksToTestASource) {
  EXPECT_THAT(Query("1+1", 0),
              HasSubstr(R"("resultType":"scalar","result":[1700000000,"2"])"));
  EXPECT_THAT(Get("status/buildinfo", {}), HasSubstr("\"version\":\"2.42.0\""));
  EXPECT_EQ(Get("rules", {}), R"({"status":"success","data":{"groups":[]}})");
  EXPECT_EQ(Get("query_exemplars", {}), R"({"status":"success","data":[]})");
  EXPECT_THAT(Get("metadata", {{"metric", "gradtap_grad_l2"}}),
              HasSubstr("{\"gradtap_grad_l2\":[{\"type\":\"gauge\""));
}

TEST_F(PrometheusTest, AStatisticIsAMetricAndAParameterALabel) {
  // Four elements of 7, 3 s after the step.
  EXPECT_EQ(
      Query("gradtap_grad_l2{run=\"mnist\"}", 73),
      R"({"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"gradtap_grad_l2","param":"fc.weight","rank":"0","run":"mnist"},"value":[1700000073,"14"]}]}})");
  EXPECT_THAT(Query("gradtap_scalar{name=\"loss\"} + 0.5", 73),
              HasSubstr("\"7.5\""));
  EXPECT_THAT(Query("gradtap_step", 73), HasSubstr("\"7\""));
  EXPECT_THAT(Query("gradtap_grad_l2{run!~\"mn.*\"}", 73),
              HasSubstr("\"result\":[]"));
  EXPECT_THAT(Query("gradtap_update_ratio", 73), HasSubstr("\"1\""));
}

TEST_F(PrometheusTest, OverARangeEachStepShowsTheNewestValue) {
  const std::string answer =
      Get("query_range", {{"query", "gradtap_weight_mean"},
                          {"start", Seconds(15)},
                          {"end", Seconds(65)},
                          {"step", "25s"}});
  EXPECT_THAT(
      answer,
      HasSubstr(
          R"("values":[[1700000015,"1"],[1700000040,"4"],[1700000065,"6"]])"));
  EXPECT_THAT(
      Get("query_range", {{"query", "max_over_time(gradtap_grad_mean[20s])"},
                          {"start", Seconds(0)},
                          {"end", Seconds(190)},
                          {"step", "190"}}),
      HasSubstr(R"("values":[[1700000000,"0"],[1700000190,"19"]])"));
}

TEST_F(PrometheusTest, LabelsAndTheirValuesAreThoseOfTheTime) {
  EXPECT_EQ(
      Get("labels", {}),
      R"({"status":"success","data":["__name__","name","param","rank","run"]})");
  EXPECT_EQ(Get("label/run/values", {}),
            R"({"status":"success","data":["mnist"]})");
  EXPECT_EQ(Get("label/name/values", {{"match[]", "gradtap_scalar"}}),
            R"({"status":"success","data":["loss"]})");
  EXPECT_EQ(Get("label/param/values", {{"match[]", "gradtap_grad_l2"}}),
            R"({"status":"success","data":["fc.weight"]})");
  EXPECT_THAT(Get("label/__name__/values", {}),
              HasSubstr("\"gradtap_update_ratio\""));
  EXPECT_EQ(Get("label/__name__/values", {{"match[]", "{param=\"no\"}"}}),
            R"({"status":"success","data":[]})");
  EXPECT_EQ(
      Get("series", {{"match[]", "gradtap_step"}}),
      R"({"status":"success","data":[{"__name__":"gradtap_step","rank":"0","run":"mnist"}]})");
  // Long before the run.
  EXPECT_EQ(Get("label/run/values", {{"start", "100"}, {"end", "200"}}),
            R"({"status":"success","data":[]})");
}

TEST_F(PrometheusTest, ALongQueryComesAsAForm) {
  httplib::Client client("http://" + collector_->http_address());
  client.set_read_timeout(60);
  const std::string query =
      "gradtap_scalar{name=\"loss\"} #" + std::string(20'000, 'x');
  const httplib::Result result =
      client.Post("/prometheus/api/v1/query",
                  httplib::Params{{"query", query}, {"time", Seconds(50)}});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200) << result->body;
  EXPECT_THAT(result->body, HasSubstr("\"5\""));
  const httplib::Result json =
      client.Post("/prometheus/api/v1/query", "{}", "application/json");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->status, 415);
}

TEST_F(PrometheusTest, ErrorsAreInPrometheusForm) {
  EXPECT_THAT(Query("rate(gradtap_step[5m])", 0, 422),
              HasSubstr(R"("errorType":"execution","error":"'rate()' is not)"));
  EXPECT_THAT(Query("sum(", 0, 400), HasSubstr("\"bad_data\""));
  EXPECT_THAT(Get("query", {{"query", "1"}, {"time", "soon"}}, 400),
              HasSubstr("bad time 'soon'"));
  EXPECT_THAT(Get("query", {}, 400), HasSubstr("no query"));
  EXPECT_THAT(
      Get("query_range", {{"query", "1"}, {"start", "0"}, {"end", "9"}}, 400),
      HasSubstr("no step"));
  EXPECT_THAT(
      Get("query_range",
          {{"query", "1"}, {"start", "0"}, {"end", "100000"}, {"step", "1"}},
          400),
      HasSubstr("11000"));
  EXPECT_THAT(
      Get("query_range",
          {{"query", "1"}, {"start", "9"}, {"end", "8"}, {"step", "1"}}, 400),
      HasSubstr("end is before start"));
  EXPECT_THAT(Get("series", {}, 400), HasSubstr("no match[]"));
  EXPECT_THAT(Get("series", {{"match[]", "1 + 1"}}, 400),
              HasSubstr("no selector"));
  httplib::Params many;
  for (int i = 0; i < 10; ++i) many.emplace("match[]", "gradtap_step");
  EXPECT_THAT(Get("series", many), HasSubstr("success"));
  many.emplace("match[]", "gradtap_step");
  for (const char* path : {"series", "labels", "label/run/values"}) {
    EXPECT_THAT(Get(path, many, 400), HasSubstr("there are 11 match[]"));
  }
  EXPECT_THAT(Get("nothing", {}, 404), HasSubstr("query_range"));
}

TEST(PrometheusTimeTest, SecondsAndRfc3339) {
  EXPECT_EQ(*ParsePrometheusTime("1700000000.25"), 1'700'000'000'250);
  EXPECT_EQ(*ParsePrometheusTime("2023-11-14T22:13:20Z"), 1'700'000'000'000);
  EXPECT_EQ(*ParsePrometheusTime("2023-11-14T23:13:20.5+01:00"),
            1'700'000'000'500);
  for (const char* bad :
       {"", "x", "NaN", "1e300", "infinite-future", "290000000-01-01T00:00:00Z",
        "-290000000-01-01T00:00:00Z"}) {
    EXPECT_FALSE(ParsePrometheusTime(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace gradtap::server
