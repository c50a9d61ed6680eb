// The dashboards of docs/grafana: what they ask is answered.

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <re2/re2.h>

#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "server/service/service_testing.h"

namespace gradtap::server {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;
using testing::Feeder;
using ::testing::HasSubstr;
using testing::kStart;

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

// The texts that stand under a name, however deep.
void Collect(const Value& value, const std::string& name,
             std::vector<std::string>* texts) {
  for (const auto& [key, field] : value.struct_value().fields()) {
    if (key == name && field.kind_case() == Value::kStringValue) {
      texts->push_back(field.string_value());
    }
    Collect(field, name, texts);
  }
  for (const Value& one : value.list_value().values()) {
    Collect(one, name, texts);
  }
}

class GrafanaTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    Start(options);
    Feeder feeder(&collector_->store(), "mnist");
    for (int step = 0; step < 5; ++step) {
      feeder.StepAt(step, 1, kStart + step * std::int64_t{1'000'000'000});
    }
  }

  static std::vector<std::string> TextsOf(const std::string& file,
                                          const std::string& name) {
    Value board;
    const auto parsed = google::protobuf::util::JsonStringToMessage(
        ReadAll(std::string(GRADTAP_GRAFANA) + "/" + file), &board);
    EXPECT_TRUE(parsed.ok()) << file;
    std::vector<std::string> texts;
    Collect(board, name, &texts);
    return texts;
  }

  // As Grafana fills them in.
  static std::string Filled(std::string query) {
    const std::pair<const char*, const char*> kValues[] = {
        {"\\$run", "mnist"},     {"\\$rank", ".*"},
        {"\\$param", ".*"},      {"\\$scalar", "[^.]*"},
        {"\\$loss", "loss"},     {"\\$__rate_interval", "1m"},
        {"\\$__interval", "15s"}};
    for (const auto& [name, value] : kValues) {
      RE2::GlobalReplace(&query, name, value);
    }
    EXPECT_EQ(query.find('$'), query.npos) << query;
    return query;
  }

  httplib::Result Get(const std::string& path, const httplib::Params& params) {
    httplib::Client client("http://" + collector_->http_address());
    client.set_read_timeout(60);
    return client.Get(path, params, httplib::Headers{});
  }
};

TEST_F(GrafanaTest, TheRunsDashboardIsAnsweredByTheCollector) {
  const std::vector<std::string> queries = TextsOf("gradtap-run.json", "expr");
  EXPECT_GE(queries.size(), 14u);
  for (const std::string& query : queries) {
    const httplib::Result result =
        Get("/prometheus/api/v1/query_range", {{"query", Filled(query)},
                                               {"start", "1700000000"},
                                               {"end", "1700000060"},
                                               {"step", "15"}});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 200) << query << ": " << result->body;
  }
  std::set<std::string> variables;
  for (const std::string& query : TextsOf("gradtap-run.json", "definition")) {
    std::string selector, label;
    ASSERT_TRUE(RE2::FullMatch(query, "label_values\\((.*), ([a-z]+)\\)",
                               &selector, &label))
        << query;
    const httplib::Result result =
        Get("/prometheus/api/v1/label/" + label + "/values",
            {{"match[]", Filled(selector)}});
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 200) << result->body;
    EXPECT_THAT(result->body, ::testing::Not(HasSubstr("\"data\":[]")))
        << query;
    variables.insert(label);
  }
  EXPECT_EQ(variables, (std::set<std::string>{"run", "rank", "param", "name"}));
}

TEST_F(GrafanaTest, TheFleetsDashboardAsksForMetricsThatThereAre) {
  const httplib::Result page = Get("/metrics", {});
  ASSERT_TRUE(page);
  const std::string documented = ReadAll(GRADTAP_HTTP_PAGE);
  std::set<std::string> names;
  for (const std::string& query : TextsOf("gradtap-fleet.json", "expr")) {
    re2::StringPiece rest(query);
    std::string name;
    while (RE2::FindAndConsume(&rest, "(gradtap_[a-z_]+)", &name)) {
      names.insert(name);
    }
    Filled(query);
  }
  EXPECT_GE(names.size(), 15u);
  for (const std::string& name : names) {
    EXPECT_TRUE(page->body.find("# TYPE " + name + " ") != std::string::npos ||
                documented.find("`" + name + "`") != std::string::npos)
        << name;
  }
}

}  // namespace
}  // namespace gradtap::server
