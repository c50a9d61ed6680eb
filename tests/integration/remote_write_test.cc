// A collector that forwards to Debian's Prometheus and to VictoriaMetrics; and
// PromQL's answers of the collector beside those of Prometheus, which has the
// same samples.

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>
#include <httplib.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/codec.h"
#include "core/schema.h"
#include "integration/process.h"
#include "integration/promql_queries.h"
#include "server/notify/notify_url.h"
#include "server/service/collector.h"
#include "support/free_port.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::Process;
using ::testing::HasSubstr;

constexpr std::int64_t kStartMs = 1'700'000'000'000;
constexpr int kSteps = 120;
constexpr int kParameters = 6;
// So long that only a hang is ever cut off.
constexpr std::chrono::seconds kPatience{120};
constexpr char kStatistics[] = "grad.l2,weight.l2,weight.mean,update.ratio";

bool IsInstalled(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

Schema SixParameters() {
  Schema schema;
  schema.schema_id = 1;
  schema.fingerprint = 7;
  for (int i = 0; i < kParameters; ++i) {
    Parameter parameter;
    parameter.name = (i % 2 == 0 ? "enc." : "dec.") + std::to_string(i);
    parameter.dtype = "float32";
    parameter.shape = {16};
    parameter.numel = 16;
    parameter.bytes = 64;
    parameter.requires_grad = true;
    parameter.roles = {Role::kWeight, Role::kGrad, Role::kUpdate};
    schema.parameters.push_back(parameter);
  }
  return schema;
}

std::string BodyOf(const std::string& record) {
  return std::string(ParseRecord(record)->body);
}

// Steps of irregular times, at even milliseconds, in which gradients are now
// and then not defined, or NaN.
class Writer {
 public:
  Writer(Store* store, const std::string& run, std::uint32_t rank,
         unsigned seed)
      : store_(store), random_(seed) {
    StreamHello hello;
    hello.run = run;
    hello.launch = "launch";
    hello.rank = rank;
    hello.world_size = 2;
    hello.process_nonce = std::string(16, static_cast<char>('a' + rank));
    hello.start_time_unix_ns = kStartMs * 1'000'000;
    const auto entry = store->OpenStream(hello, hello.start_time_unix_ns);
    GRADTAP_EXPECT_OK(entry);
    stream_ = entry->id;
    const std::string schema = BodyOf(EncodeSchema(SixParameters()));
    StreamCommit commit;
    commit.schemas.push_back({1, schema});
    Commit(std::move(commit));
  }

  void Steps(int first, int end) {
    for (int step = first; step < end; ++step) Step(step);
  }

 private:
  double Uniform() { return std::uniform_real_distribution<>(0, 1)(random_); }

  RoleColumns ColumnsOf(Role role) {
    RoleColumns columns;
    columns.role = role;
    columns.Resize(kParameters);
    for (int i = 0; i < kParameters; ++i) {
      if (role != Role::kWeight && Uniform() < 0.15) {
        columns.SetAbsent(i);
        continue;
      }
      Record record;
      record.mean = static_cast<float>(Uniform() - 0.5);
      record.std = static_cast<float>(Uniform());
      record.abs_mean = std::fabs(record.mean);
      record.min = record.mean - record.std;
      record.max = record.mean + record.std;
      if (role == Role::kGrad && Uniform() < 0.05) {
        record.mean = record.std = std::numeric_limits<float>::quiet_NaN();
        record.nan = 16;
      }
      columns.Set(i, record);
    }
    return columns;
  }

  void Step(int step) {
    time_ms_ += 500 + 2 * static_cast<std::int64_t>(Uniform() * 2'000);
    StepData data;
    data.step = step;
    data.wall_time_unix_ns = time_ms_ * 1'000'000 + 123'456;
    data.schema_id = 1;
    for (const Role role : {Role::kWeight, Role::kGrad, Role::kUpdate}) {
      data.roles.push_back(ColumnsOf(role));
    }
    data.scalars = {{"loss", Uniform()}};
    if (step % 7 == 0) data.scalars.push_back({"accuracy", Uniform()});
    std::string record(EncodedStepSize(data), '\0');
    EncodeStep(data, record);
    const std::string body = BodyOf(record);
    StreamCommit commit;
    StreamCommit::Step row;
    row.step = step;
    row.records = 3 * kParameters;
    row.body = body;
    commit.steps.push_back(row);
    Commit(std::move(commit));
  }

  void Commit(StreamCommit commit) {
    commit.stream = stream_;
    commit.first_seq = commit.last_seq = ++seq_;
    commit.last_seen_unix_ns = time_ms_ * 1'000'000;
    GRADTAP_EXPECT_OK(store_->Commit({&commit, 1}));
  }

  Store* const store_;
  std::mt19937 random_;
  StreamId stream_ = 0;
  std::uint64_t seq_ = 0;
  std::int64_t time_ms_ = kStartMs;
};

// Whoever answers Prometheus's API.
class Api {
 public:
  Api(std::string address, std::string path)
      : client_("http://" + address), path_(std::move(path)) {
    client_.set_read_timeout(60);
  }

  // The field "data", or nothing.
  std::optional<google::protobuf::Struct> Ask(const std::string& route,
                                              const httplib::Params& params) {
    const httplib::Result result =
        client_.Get(path_ + route, params, httplib::Headers{});
    if (!result || result->status != 200) {
      said_ = result ? result->body : httplib::to_string(result.error());
      return std::nullopt;
    }
    google::protobuf::Struct all;
    if (!google::protobuf::util::JsonStringToMessage(result->body, &all).ok()) {
      return std::nullopt;
    }
    return all.fields().at("data").struct_value();
  }
  const std::string& said() const { return said_; }

 private:
  httplib::Client client_;
  const std::string path_;
  std::string said_;
};

double ValueOf(const google::protobuf::Value& text) {
  return std::strtod(text.string_value().c_str(), nullptr);
}

using Points = std::map<std::int64_t, double>;

// Each series by its labels.
std::map<std::string, Points> SeriesOf(const google::protobuf::Struct& data) {
  std::map<std::string, Points> series;
  const auto point = [](const google::protobuf::Value& pair, Points* points) {
    const auto& values = pair.list_value().values();
    (*points)[std::llround(values[0].number_value() * 1000)] =
        ValueOf(values[1]);
  };
  const google::protobuf::Value& result = data.fields().at("result");
  if (data.fields().at("resultType").string_value() == "scalar") {
    point(result, &series["scalar"]);
    return series;
  }
  for (const google::protobuf::Value& one : result.list_value().values()) {
    const auto& fields = one.struct_value().fields();
    std::map<std::string, std::string> labels;
    for (const auto& [name, value] :
         fields.at("metric").struct_value().fields()) {
      labels[name] = value.string_value();
    }
    std::string key;
    for (const auto& [name, value] : labels) key += name + "=" + value + ";";
    Points& points = series[key];
    if (fields.count("value") > 0) point(fields.at("value"), &points);
    if (fields.count("values") == 0) continue;
    for (const auto& pair : fields.at("values").list_value().values()) {
      point(pair, &points);
    }
  }
  return series;
}

bool IsNear(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (a == b) return true;
  return std::fabs(a - b) <= 1e-9 * std::max(std::fabs(a), std::fabs(b));
}

// Of what is wrong; empty: nothing.
std::string Difference(const std::map<std::string, Points>& ours,
                       const std::map<std::string, Points>& theirs) {
  for (const auto& [labels, points] : theirs) {
    const auto it = ours.find(labels);
    if (it == ours.end()) return "we lack " + labels;
    for (const auto& [time, value] : points) {
      const auto at = it->second.find(time);
      if (at == it->second.end()) {
        return labels + " lacks time " + std::to_string(time);
      }
      if (!IsNear(at->second, value)) {
        return labels + " at " + std::to_string(time) + ": " +
               std::to_string(at->second) + ", not " + std::to_string(value);
      }
    }
    if (it->second.size() != points.size()) return labels + " has more times";
  }
  return ours.size() == theirs.size() ? "" : "we have more series";
}

// The values at each time, sorted: which of several NaNs topk() keeps is
// nobody's promise.
std::map<std::string, Points> WithoutLabels(
    const std::map<std::string, Points>& series) {
  std::map<std::int64_t, std::vector<double>> at;
  for (const auto& [labels, points] : series) {
    for (const auto& [time, value] : points) {
      at[time].push_back(std::isnan(value) ? -1e300 : value);
    }
  }
  std::map<std::string, Points> sorted;
  for (auto& [time, values] : at) {
    std::sort(values.begin(), values.end());
    for (std::size_t i = 0; i < values.size(); ++i) {
      sorted[std::to_string(i)][time] = values[i];
    }
  }
  return sorted;
}

class RemoteWriteTest : public ::testing::Test {
 protected:
  // `write_url` empty: nothing is forwarded.
  void StartCollector(const std::string& write_url) {
    CollectorOptions options;
    options.data_dir = dir_.path() + "/data";
    options.grpc_listen = "127.0.0.1:0";
    options.http_listen = "127.0.0.1:0";
    options.keeping.disk_reserve_bytes = 0;
    if (!write_url.empty()) {
      options.remote_write.url = *ParseNotifyUrl(write_url);
    }
    options.remote_write.selection.match = *ParseMetricMatch("");
    options.remote_write.selection.statistics =
        *ParseMetricStatistics(kStatistics);
    options.remote_write.samples_a_request = 500;
    options.remote_write.first_retry = std::chrono::milliseconds(50);
    options.remote_write.last_retry = std::chrono::milliseconds(200);
    auto collector = Collector::Start(options);
    GRADTAP_ASSERT_OK(collector);
    collector_ = *std::move(collector);
  }
  void StopCollector() { collector_ = nullptr; }

  void StartPrometheus(int port, const std::string& config = "global: {}\n") {
    gradtap::testing::WriteFile(dir_.path() + "/prometheus.yml", config);
    peer_ = std::make_unique<Process>(std::vector<std::string>{
        "/usr/bin/env", "prometheus",
        "--config.file=" + dir_.path() + "/prometheus.yml",
        "--web.listen-address=127.0.0.1:" + std::to_string(port),
        "--storage.tsdb.path=" + dir_.path() + "/tsdb",
        "--storage.tsdb.retention.time=100y",
        "--web.enable-remote-write-receiver", "--log.level=error"});
  }

  static std::string At(std::int64_t ms) {
    return std::to_string(static_cast<double>(ms) / 1000);
  }

  // Asks until the query, which is a number, is that: at a time after the runs,
  // or now.
  void Await(Api* api, const std::string& query, double wanted,
             bool now = false) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    httplib::Params params = {{"query", query}};
    if (!now) params.emplace("time", At(kStartMs + 3'000'000));
    std::string last;
    while (std::chrono::steady_clock::now() < deadline) {
      const auto data = api->Ask("query", params);
      if (!data.has_value()) {
        last = api->said();
        continue;
      }
      const auto series = SeriesOf(*data);
      last = std::to_string(series.size()) + " series";
      if (series.size() != 1 || series.begin()->second.size() != 1) continue;
      const double value = series.begin()->second.begin()->second;
      if (value == wanted) return;
      last = std::to_string(value);
    }
    FAIL() << query << " is " << last << ", not " << wanted;
  }

  gradtap::testing::TempDir dir_;
  std::unique_ptr<Process> peer_;
  std::unique_ptr<Collector> collector_;
};

TEST_F(RemoteWriteTest, PrometheusAnswersAsWeDo) {
  if (!IsInstalled("prometheus --version")) {
    GTEST_SKIP() << "prometheus is not installed: tools/setup --tests";
  }
  const int port = gradtap::testing::FreePort();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  StartCollector("http://" + address + "/api/v1/write");
  {
    Writer one(&collector_->store(), "one", 0, 1);
    Writer other(&collector_->store(), "one", 1, 2);
    Writer two(&collector_->store(), "two", 0, 3);
    one.Steps(0, kSteps);
    other.Steps(0, kSteps / 2);
    // Nobody was there yet: it waits.
    StartPrometheus(port);
    other.Steps(kSteps / 2, kSteps);
    two.Steps(0, kSteps);
  }
  Api theirs(address, "/api/v1/");
  Await(&theirs, "sum(count_over_time(gradtap_step[1h]))", 3 * kSteps);
  Api ours(collector_->http_address(), "/prometheus/api/v1/");
  // A range of Prometheus 3 lacks its first instant, which is one of 2 and of
  // ours: where no sample lies there, they have to agree.
  const auto build = theirs.Ask("status/buildinfo", {});
  ASSERT_TRUE(build.has_value()) << theirs.said();
  const std::string version = build->fields().at("version").string_value();
  ASSERT_GE(std::atoi(version.c_str()), 2) << version;
  const std::int64_t odd = std::atoi(version.c_str()) >= 3 ? 1 : 0;
  PromqlQueries queries;
  int compared = 0;
  int with_values = 0;
  for (int i = 0; i < 300; ++i) {
    const std::string query = queries.Next();
    const bool instant = queries.Pick(2) == 0;
    const std::int64_t begin =
        kStartMs + (static_cast<std::int64_t>(queries.Pick(700'000)) | odd);
    httplib::Params params = {{"query", query}};
    if (instant) {
      params.emplace("time", At(begin));
    } else {
      params.emplace("start", At(begin));
      params.emplace("end", At(begin + 120'000));
      params.emplace("step", queries.Pick(2) == 0 ? "7" : "0.8");
    }
    const std::string route = instant ? "query" : "query_range";
    const auto a = ours.Ask(route, params);
    const auto b = theirs.Ask(route, params);
    ASSERT_EQ(a.has_value(), b.has_value())
        << query << ": " << (a.has_value() ? theirs.said() : ours.said());
    if (!a.has_value()) continue;  // Neither takes it.
    ++compared;
    auto our_series = SeriesOf(*a);
    auto their_series = SeriesOf(*b);
    with_values += their_series.empty() ? 0 : 1;
    if (query.find("topk") != query.npos ||
        query.find("bottomk") != query.npos) {
      our_series = WithoutLabels(our_series);
      their_series = WithoutLabels(their_series);
    }
    EXPECT_EQ(Difference(our_series, their_series), "")
        << query << (instant ? " at " : " from ") << At(begin);
  }
  EXPECT_GE(compared, 200);
  EXPECT_GE(with_values, 150);
  std::printf("[ measured ] %d queries compared, %d of them with values\n",
              compared, with_values);
}

TEST_F(RemoteWriteTest, ACollectorThatStartsGoesOnWhereItWas) {
  if (!IsInstalled("prometheus --version")) {
    GTEST_SKIP() << "prometheus is not installed: tools/setup --tests";
  }
  const int port = gradtap::testing::FreePort();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  StartPrometheus(port);
  Api theirs(address, "/api/v1/");
  StartCollector("http://" + address + "/api/v1/write");
  const std::string count = "sum(count_over_time(gradtap_step[1h]))";
  Writer first(&collector_->store(), "one", 0, 1);
  first.Steps(0, 10);
  Await(&theirs, count, 10);
  StopCollector();
  StartCollector("http://" + address + "/api/v1/write");
  Writer second(&collector_->store(), "two", 0, 2);
  second.Steps(0, 10);
  Await(&theirs, count, 20);
  const httplib::Result page =
      httplib::Client("http://" + collector_->http_address()).Get("/metrics");
  ASSERT_TRUE(page);
  EXPECT_THAT(page->body,
              HasSubstr("gradtap_remote_write_refused_samples_total 0"));
}

TEST_F(RemoteWriteTest, PrometheusScrapesTheCollector) {
  if (!IsInstalled("prometheus --version")) {
    GTEST_SKIP() << "prometheus is not installed: tools/setup --tests";
  }
  StartCollector("");
  Writer one(&collector_->store(), "one", 0, 1);
  one.Steps(0, 5);
  const std::string address = collector_->http_address();
  const int port = gradtap::testing::FreePort();
  StartPrometheus(port,
                  "scrape_configs: [{job_name: gradtap, scrape_interval: 1s, "
                  "static_configs: [{targets: ['" +
                      address + "']}]}]\n");
  Api theirs("127.0.0.1:" + std::to_string(port), "/api/v1/");
  Await(&theirs, "up{job=\"gradtap\"}", 1, /*now=*/true);
  Await(&theirs, "gradtap_runs", 1, /*now=*/true);
}

TEST_F(RemoteWriteTest, VictoriaMetricsTakesIt) {
  if (!IsInstalled("victoria-metrics --version")) {
    GTEST_SKIP() << "victoria-metrics is not installed: tools/setup --tests";
  }
  const int port = gradtap::testing::FreePort();
  const std::string address = "127.0.0.1:" + std::to_string(port);
  peer_ = std::make_unique<Process>(std::vector<std::string>{
      "/usr/bin/env", "victoria-metrics",
      "-storageDataPath=" + dir_.path() + "/vm", "-httpListenAddr=" + address,
      "-retentionPeriod=100y", "-search.latencyOffset=0s",
      "-loggerLevel=ERROR"});
  StartCollector("http://" + address + "/api/v1/write");
  Writer one(&collector_->store(), "one", 0, 1);
  one.Steps(0, kSteps);
  Api theirs(address, "/api/v1/");
  Await(&theirs, "sum(count_over_time(gradtap_step[1h]))", kSteps);
  Await(&theirs, "max_over_time(gradtap_step[1h])", kSteps - 1);
}

}  // namespace
}  // namespace gradtap::server
