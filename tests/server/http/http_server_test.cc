// The HTTP door of a whole collector.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gradtap/v1/query.pb.h"
#include "proto/text/json_mapping.h"
#include "server/dashboard/embedded_page.h"
#include "server/http/event_reader.h"
#include "server/http/http_api.h"
#include "server/service/service_testing.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::StatusIs;
using ::testing::AnyOf;
using testing::Feeder;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr char kJson[] = "application/json";

class HttpServerTest : public testing::ServiceTest {
 protected:
  void SetUp() override {
    CollectorOptions options;
    options.http_listen = "127.0.0.1:0";
    options.http_names = {"metrics.example"};
    // What has to be cut off is not cut off by the clock.
    options.http_connections.request_time = std::chrono::hours(1);
    Start(options);
    if (collector_ == nullptr) return;
    http_ = NewClient();
    Feeder feeder(&collector_->store(), "mnist");
    for (int step = 0; step < 10; ++step) {
      feeder.Step(step, static_cast<float>(step));
    }
    feeder.End();
  }

  std::unique_ptr<httplib::Client> NewClient() {
    auto client = std::make_unique<httplib::Client>("http://" +
                                                    collector_->http_address());
    client->set_read_timeout(60);
    return client;
  }

  // Everything that comes back on a connection of its own, until it is closed.
  std::string SendRaw(const std::string& bytes) {
    const std::string address = collector_->http_address();
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<std::uint16_t>(
        std::stoi(address.substr(address.rfind(':') + 1))));
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(
        ::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to),
        0);
    std::size_t sent = 0;
    while (sent < bytes.size()) {
      const ssize_t n = ::send(socket, bytes.data() + sent, bytes.size() - sent,
                               MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    std::string answers;
    char buffer[4096];
    for (ssize_t n; (n = ::recv(socket, buffer, sizeof buffer, 0)) > 0;) {
      answers.append(buffer, static_cast<std::size_t>(n));
    }
    ::close(socket);
    return answers;
  }

  // What a GET answers; status -1: nothing.
  httplib::Response Get(const std::string& path,
                        const httplib::Headers& headers = {}) {
    const httplib::Result result = http_->Get(path.c_str(), headers);
    return result ? *result : httplib::Response();
  }
  httplib::Response Post(const std::string& method, const std::string& body,
                         const char* type = kJson) {
    const httplib::Result result =
        http_->Post(("/api/v1/" + method).c_str(), body, type);
    return result ? *result : httplib::Response();
  }

  static void ExpectError(const httplib::Response& response, int status,
                          const std::string& code, const std::string& what) {
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(response.get_header_value("Content-Type"), kJson);
    EXPECT_THAT(response.body, HasSubstr("{\"code\":\"" + code + "\""));
    EXPECT_THAT(response.body, HasSubstr(what));
  }

  std::unique_ptr<httplib::Client> http_;
};

TEST_F(HttpServerTest, AnswersAreThoseOfTheGrpcService) {
  v1::GetSeriesRequest request;
  request.add_runs("mnist");
  request.add_statistics("grad.mean");
  request.add_statistics("scalar.loss");
  request.mutable_steps()->set_begin(3);
  v1::GetSeriesResponse wanted;
  grpc::ClientContext context;
  SetDeadline(&context);
  ASSERT_TRUE(stub_->GetSeries(&context, request, &wanted).ok());
  ASSERT_EQ(wanted.series_size(), 2);
  const std::string url =
      "/api/v1/GetSeries?runs=mnist&statistics=grad.mean&statistics=scalar.loss"
      "&steps.begin=3";
  const auto json = ToJson(request, JsonLayout::kOneLine);
  GRADTAP_ASSERT_OK(json);
  for (const httplib::Response& response :
       {Get(url), Post("GetSeries", *json)}) {
    EXPECT_EQ(response.status, 200) << response.body;
    EXPECT_EQ(response.get_header_value("Content-Type"), kJson);
    v1::GetSeriesResponse answer;
    GRADTAP_ASSERT_OK(FromJson(response.body, &answer));
    EXPECT_EQ(answer.SerializeAsString(), wanted.SerializeAsString());
  }
  const httplib::Response binary =
      Get(url, {{"Accept", "application/x-protobuf"}});
  EXPECT_EQ(binary.get_header_value("Content-Type"), "application/x-protobuf");
  EXPECT_EQ(binary.body, wanted.SerializeAsString());
}

TEST_F(HttpServerTest, EveryMethodIsThere) {
  const auto* service =
      v1::GetRunRequest::descriptor()->file()->FindServiceByName("Query");
  ASSERT_NE(service, nullptr);
  std::vector<std::string> methods = HttpApi::Methods();
  for (int i = 0; i < service->method_count(); ++i) {
    const auto* method = service->method(i);
    if (method->server_streaming()) continue;
    EXPECT_EQ(std::erase(methods, method->name()), 1u) << method->name();
    EXPECT_THAT(Post(method->name(), "{}").status,
                ::testing::AnyOf(200, 400, 404))
        << method->name();
  }
  EXPECT_THAT(methods, ::testing::IsEmpty());
}

// The paths of the examples that begin so.
std::vector<std::string> ExamplesOf(const std::string& page,
                                    const std::string& command) {
  const std::string head = command + "http://127.0.0.1:7318";
  std::vector<std::string> paths;
  for (std::size_t at = page.find(head); at != std::string::npos;
       at = page.find(head, at)) {
    at += head.size();
    paths.push_back(page.substr(at, page.find('\'', at) - at));
  }
  return paths;
}

TEST_F(HttpServerTest, ThePageOfTheDocsHasEveryRoute) {
  std::ifstream file(GRADTAP_HTTP_PAGE);
  std::ostringstream page;
  page << file.rdbuf();
  for (const std::string& method : HttpApi::Methods()) {
    EXPECT_THAT(page.str(), HasSubstr("`" + method + "`"));
  }
  const auto* service =
      v1::GetRunRequest::descriptor()->file()->FindServiceByName("Query");
  ASSERT_NE(service, nullptr);
  for (int i = 0; i < service->method_count(); ++i) {
    if (!service->method(i)->server_streaming()) continue;
    EXPECT_THAT(page.str(),
                HasSubstr("\n## /api/v1/" + service->method(i)->name() + "\n"));
  }
  // And every example of it is answered.
  const std::vector<std::string> answered = ExamplesOf(page.str(), "curl -s '");
  EXPECT_GE(answered.size(), 5u);
  for (const std::string& path : answered) {
    EXPECT_EQ(Get(path).status, 200) << path;
  }
  const std::vector<std::string> streams = ExamplesOf(page.str(), "curl -sN '");
  EXPECT_GE(streams.size(), 3u);
  for (const std::string& path : streams) {
    testing::Reader reader(collector_->http_address(), path);
    EXPECT_TRUE(reader.Await("data: ")) << path;
    EXPECT_EQ(reader.type(), "text/event-stream") << path;
  }
}

TEST_F(HttpServerTest, CsvHasTheSameValues) {
  const httplib::Response series =
      Get("/csv/GetSeries?runs=mnist&statistics=grad.mean&statistics=grad.l2"
          "&steps.begin=8");
  EXPECT_EQ(series.status, 200);
  EXPECT_EQ(series.get_header_value("Content-Type"),
            "text/csv; charset=utf-8; header=present");
  EXPECT_EQ(
      series.body,
      "run,attempt,rank,step,time,param,stat,value\n"
      "mnist,1,0,8,2023-11-14T22:13:20.000000008Z,fc.weight,grad.mean,8\n"
      "mnist,1,0,9,2023-11-14T22:13:20.000000009Z,fc.weight,grad.mean,9\n"
      "mnist,1,0,8,2023-11-14T22:13:20.000000008Z,fc.weight,grad.l2,16\n"
      "mnist,1,0,9,2023-11-14T22:13:20.000000009Z,fc.weight,grad.l2,18\n");
  EXPECT_EQ(
      Get("/csv/GetSnapshot?run=mnist&step=3&statistics=grad.mean").body,
      "run,attempt,rank,step,time,param,kind,grad.mean\n"
      "mnist,1,0,3,2023-11-14T22:13:20.000000003Z,fc.weight,parameter,3\n");
  ExpectError(Get("/csv/GetTop?run=mnist"), 404, "NOT_FOUND", "GetSeries");
  ExpectError(Get("/csv/GetNothing"), 404, "NOT_FOUND", "GetNothing");
}

TEST_F(HttpServerTest, FormulasInCsvAreGuardedOnDemand) {
  Feeder(&collector_->store(), "=cmd|'/c calc'!A1").Step(0, 1);
  const std::string url =
      "/csv/GetSeries?runs=%3Dcmd%7C'/c%20calc'!A1&statistics=grad.mean";
  EXPECT_THAT(Get(url).body, HasSubstr("\n=cmd|"));
  EXPECT_THAT(Get(url + "&spreadsheet=true").body, HasSubstr("\n'=cmd|"));
  ExpectError(Get(url + "&spreadsheet=maybe"), 400, "INVALID_ARGUMENT",
              "true or false");
}

TEST_F(HttpServerTest, WhatChangesSomethingIsPosted) {
  const httplib::Response got = Get("/api/v1/DeleteRun?run=mnist");
  ExpectError(got, 405, "UNIMPLEMENTED", "POST it");
  EXPECT_EQ(got.get_header_value("Allow"), "POST");
  EXPECT_NE(collector_->store().FindRun("mnist"), nullptr);
  const httplib::Response posted = Post("DeleteRun", R"({"run": "mnist"})");
  EXPECT_EQ(posted.status, 200);
  EXPECT_THAT(posted.body, HasSubstr("\"deletedSteps\":\"10\""));
  EXPECT_EQ(collector_->store().FindRun("mnist"), nullptr);
}

TEST_F(HttpServerTest, ErrorsSayWhatToDo) {
  ExpectError(Get("/api/v1/GetRun?run=mnits"), 404, "NOT_FOUND", "mnist");
  ExpectError(Get("/api/v1/GetSeries?runs=mnist&statistics=grad.l3"), 404,
              "NOT_FOUND", "grad.l2");
  ExpectError(Get("/api/v1/GetRun?name=x"), 400, "INVALID_ARGUMENT", "run");
  ExpectError(Get("/api/v1/GetNothing"), 404, "NOT_FOUND", "GetSeries");
  ExpectError(Get("/api/v1/"), 404, "NOT_FOUND", "METHOD");
  ExpectError(Get("/no/such/page"), 404, "NOT_FOUND", "/no/such/page");
  ExpectError(Post("GetRun", "run=mnist"), 400, "INVALID_ARGUMENT", "JSON");
  ExpectError(Post("GetRun", R"({"runs": "mnist"})"), 400, "INVALID_ARGUMENT",
              "GetRunRequest");
  ExpectError(Post("GetRun?run=mnist", "{}"), 400, "INVALID_ARGUMENT", "body");
}

TEST_F(HttpServerTest, FormsOfOtherSitesArePassedBy) {
  for (const char* type :
       {"application/x-www-form-urlencoded", "text/plain", ""}) {
    ExpectError(Post("DeleteRun", R"({"run":"mnist"})", type), 415,
                "INVALID_ARGUMENT", "application/json");
  }
  EXPECT_NE(collector_->store().FindRun("mnist"), nullptr);
}

TEST_F(HttpServerTest, OtherNamesAndOriginsAreRefused) {
  ExpectError(Get("/api/v1/ListRuns", {{"Host", "evil.example"}}), 403,
              "PERMISSION_DENIED", "evil.example");
  ExpectError(Get("/healthz", {{"Origin", "http://evil.example"}}), 403,
              "PERMISSION_DENIED", "evil.example");
  ExpectError(Get("/api/v1/ListRuns", {{"Sec-Fetch-Site", "cross-site"}}), 403,
              "PERMISSION_DENIED", "another site");
  EXPECT_EQ(Get("/api/v1/ListRuns", {{"Host", "metrics.example"}}).status, 200);
}

TEST_F(HttpServerTest, LargeRequestsAreRefused) {
  EXPECT_EQ(
      Post("GetRun", R"({"run":"mnist"})" + std::string(65'000, ' ')).status,
      200);
  ExpectError(Post("GetRun", std::string(65'537, ' ')), 413, "INVALID_ARGUMENT",
              "65536");
  ExpectError(Get("/" + std::string(600, 'x')), 400, "INVALID_ARGUMENT", "512");
  // The library's client gives up, or gets as far as the answer.
  EXPECT_THAT(Get("/" + std::string(100'000, 'x')).status, AnyOf(-1, Ge(400)));
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(HttpServerTest, ARequestHasAThousandParametersAtMost) {
  const auto parameters = [](int n) {
    std::string text = "runs=mnist";
    for (int i = 1; i < n; ++i) text += "&a";
    return text;
  };
  ExpectError(Get("/api/v1/GetSeries?" + parameters(1000)), 400,
              "INVALID_ARGUMENT", "once");
  ExpectError(Get("/api/v1/GetSeries?" + parameters(1001)), 400,
              "INVALID_ARGUMENT", "1001 parameters; at most 1000");
  const auto form = [this](const std::string& body) {
    return http_
        ->Post("/prometheus/api/v1/query", body,
               "application/x-www-form-urlencoded")
        .value();
  };
  EXPECT_EQ(form("query=1&" + parameters(999)).status, 200);
  ExpectError(form("query=1&" + parameters(1000)), 400, "INVALID_ARGUMENT",
              "1001 parameters; at most 1000");
  // As long as its query may be.
  EXPECT_EQ(form("query=1&a=" + std::string(200'000, 'x')).status, 200);
  ExpectError(form("query=1&a=" + std::string(300'000, 'x')), 413,
              "INVALID_ARGUMENT", "262144");
}

TEST_F(HttpServerTest, AnswersAreWhole) {
  const httplib::Response whole = Get("/api/v1/ListParameters?run=mnist");
  const httplib::Response asked =
      Get("/api/v1/ListParameters?run=mnist", {{"Range", "bytes=0-1,0-1"}});
  EXPECT_EQ(asked.status, 200);
  EXPECT_EQ(asked.body, whole.body);
}

TEST_F(HttpServerTest, WhatFollowsARequestIsNeverARequest) {
  const std::string inner =
      "POST /api/v1/DeleteRun HTTP/1.1\r\nHost: 127.0.0.1:7318\r\n"
      "Content-Type: application/json\r\nContent-Length: 15\r\n\r\n"
      "{\"run\":\"mnist\"}";
  const std::string length =
      "Content-Length: " + std::to_string(inner.size()) + "\r\n";
  const std::vector<std::string> heads = {
      // As a page of another site has a browser send it.
      "POST / HTTP/1.1\r\nHost: 127.0.0.1:7318\r\nOrigin: http://evil.example"
      "\r\nContent-Type: text/plain\r\n" +
          length + "\r\n",
      "POST /api/v1/GetRun HTTP/1.1\r\nHost: evil.example\r\n" + length +
          "\r\n",
      "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + length + "\r\n",
      "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
      "POST /api/v1/GetRun HTTP/1.1\r\nHost: 127.0.0.1\r\n"
      "Transfer-Encoding: chunked\r\n\r\n",
      "POST /api/v1/GetRun HTTP/1.1\r\nHost: 127.0.0.1\r\n"
      "Content-Type: multipart/form-data\r\n" +
          length + "\r\n",
      "NONSENSE\r\n\r\n",
  };
  for (const std::string& head : heads) {
    const std::string answers = SendRaw(head + inner);
    EXPECT_EQ(answers.rfind("HTTP/1.1 "), 0u) << head << "\n" << answers;
    EXPECT_NE(collector_->store().FindRun("mnist"), nullptr) << head;
  }
}

TEST_F(HttpServerTest, BodiesOfUnknownLengthAreRefused) {
  for (const char* header :
       {"Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Encoding: gzip\r\nContent-Length: 0", "X-Nothing: 0"}) {
    EXPECT_THAT(SendRaw(std::string("POST /api/v1/GetStatus HTTP/1.1\r\nHost: "
                                    "127.0.0.1\r\nContent-Type: "
                                    "application/json\r\n") +
                        header + "\r\n\r\n"),
                StartsWith("HTTP/1.1 400 "))
        << header;
  }
}

TEST_F(HttpServerTest, AnEndlessHeadIsCutOff) {
  // It is closed before all of it has been sent.
  EXPECT_THAT(
      SendRaw("GET /healthz HTTP/1.1\r\nX-Long: " + std::string(9000, 'x')),
      StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(SendRaw("GET /healthz?" + std::string(9000, 'x')),
              StartsWith("HTTP/1.1 414 "));
  std::string headers;
  for (int i = 0; i < 10'000; ++i) headers += "X-Many: x\r\n";
  EXPECT_THAT(SendRaw("GET /healthz HTTP/1.1\r\n" + headers),
              StartsWith("HTTP/1.1 431 "));
  SendRaw("GET /healthz HTTP/1.1\r\nX-Long: " + std::string(8 << 20, 'x'));
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_THAT(Get("/metrics").body,
              HasSubstr("gradtap_refused_total{limit=\"request_bytes\"} 4\n"));
}

TEST_F(HttpServerTest, AValueMayHaveAnEqualsSign) {
  Feeder(&collector_->store(), "lr=0.1&b").Step(0, 1);
  EXPECT_EQ(Get("/api/v1/GetRun?run=lr=0.1%26b").status, 200);
  ExpectError(Get("/api/v1/GetRun?run=mnist&run=mnist"), 400,
              "INVALID_ARGUMENT", "once");
}

TEST_F(HttpServerTest, EveryAnswerIsForThisSiteAlone) {
  for (const char* path : {"/healthz", "/api/v1/ListRuns", "/nothing"}) {
    const httplib::Response response = Get(path);
    EXPECT_EQ(response.get_header_value("X-Content-Type-Options"), "nosniff");
    EXPECT_EQ(response.get_header_value("Cross-Origin-Resource-Policy"),
              "same-origin");
    EXPECT_THAT(response.get_header_value("Content-Security-Policy"),
                HasSubstr("default-src 'none'"));
    EXPECT_FALSE(response.has_header("Access-Control-Allow-Origin"));
  }
}

TEST_F(HttpServerTest, ThePageMayUseWhatIsItsOwnAndNothingElse) {
  const httplib::Response page = Get("/?run=mnist&pin=fc.weight");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.get_header_value("Content-Type"), "text/html; charset=utf-8");
  // One policy: of two, both would hold.
  EXPECT_EQ(page.get_header_value_count("Content-Security-Policy"), 1u);
  const std::string policy = page.get_header_value("Content-Security-Policy");
  EXPECT_EQ(policy.rfind("default-src 'none'; script-src 'self'; ", 0), 0u);
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
  int parts = 0;
  for (const PageFile& file : EmbeddedPage()) {
    const httplib::Response part = Get(std::string(file.path));
    EXPECT_EQ(part.status, 200) << file.path;
    EXPECT_EQ(part.body, file.bytes) << file.path;
    EXPECT_EQ(part.get_header_value("Content-Security-Policy"), policy);
    if (file.path == "/") continue;
    EXPECT_THAT(page.body, HasSubstr("." + std::string(file.path)));
    ++parts;
  }
  EXPECT_EQ(parts, 2);
  // A dot of a path is a dot.
  EXPECT_EQ(Get("/pagexjs").status, 404);
  ExpectError(http_->Post("/", "{}", kJson).value(), 404, "NOT_FOUND", "'/'");
}

TEST_F(HttpServerTest, AnswersAreCompressedForWhoTakesThat) {
  const std::string url = "/api/v1/GetSeries?runs=mnist&statistics=grad.mean";
  const httplib::Response plain = Get(url, {{"Accept-Encoding", "identity"}});
  EXPECT_FALSE(plain.has_header("Content-Encoding"));
  http_->set_decompress(false);
  const httplib::Response packed = Get(url, {{"Accept-Encoding", "gzip"}});
  EXPECT_EQ(packed.get_header_value("Content-Encoding"), "gzip");
  EXPECT_LT(packed.body.size(), plain.body.size());
  // Brotli takes a second a megabyte.
  EXPECT_EQ(Get(url, {{"Accept-Encoding", "br, gzip"}})
                .get_header_value("Content-Encoding"),
            "gzip");
  EXPECT_FALSE(
      Get(url, {{"Accept-Encoding", "br"}}).has_header("Content-Encoding"));
}

TEST_F(HttpServerTest, HostileNamesComeBackAsTheyAre) {
  const std::string name = "</script>\"'\\ \xf0\x9f\x92\xa5=cmd|'/c calc'!A1";
  Feeder(&collector_->store(), name).Step(0, 1);
  const httplib::Response response = Get("/api/v1/ListRuns");
  v1::ListRunsResponse runs;
  GRADTAP_ASSERT_OK(FromJson(response.body, &runs));
  ASSERT_EQ(runs.runs_size(), 2);
  EXPECT_TRUE(runs.runs(0).run() == name || runs.runs(1).run() == name);
  ExpectError(Get("/api/v1/GetRun?run=%22%7D%1b%00"), 404, "NOT_FOUND", "\\\"");
}

TEST_F(HttpServerTest, HealthAndReadinessAreTold) {
  EXPECT_EQ(Get("/healthz").body, "ok\n");
  EXPECT_EQ(Get("/readyz").body, "ok\n");
}

// One that trickles must not hold up the end.
TEST_F(HttpServerTest, ShutdownEndsRequestsThatHaveNotCome) {
  std::thread slow([this] { SendRaw("GET /healthz HTTP/1.1\r\nHost: 127"); });
  while (Get("/healthz").status != 200) {
  }
  collector_->Shutdown();
  slow.join();
  EXPECT_EQ(Get("/healthz").status, -1);
}

TEST_F(HttpServerTest, ATakenPortIsNamed) {
  CollectorOptions options;
  options.data_dir = dir_.path() + "/other";
  options.grpc_listen = "127.0.0.1:0";
  options.http_listen = collector_->http_address();
  EXPECT_THAT(Collector::Start(options),
              StatusIs(absl::StatusCode::kUnavailable,
                       ::testing::AllOf(HasSubstr(options.http_listen),
                                        HasSubstr("in use"),
                                        HasSubstr("--http-listen"))));
  options.http_listen = "0.0.0.0:0";
  EXPECT_THAT(
      Collector::Start(options),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0.0.0.0")));
}

TEST_F(HttpServerTest, ItIsOffUnlessAskedFor) {
  collector_ = nullptr;
  Start();
  EXPECT_EQ(collector_->http_address(), "");
}

}  // namespace
}  // namespace gradtap::server
