// Who may do what: every call by every kind of caller, over every way in.
//
// The tables are the documented answers (docs/security.md), not worked out from
// the collector's own.

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "server/service/doors_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Channel = std::shared_ptr<grpc::Channel>;

// A column is a caller: without a token, with one that nobody made, with one
// that has expired; with the roles write, read and admin; with the same three,
// limited to runs mine-*.
// '-': UNAUTHENTICATED, 'x': PERMISSION_DENIED, 'o': let in.
struct Case {
  const char* call;
  const char* answers;
};

constexpr Case kGrpcCases[] = {
    {"Session mine-1", "--- oxo oxo"},
    {"Session other", "--- oxo xxx"},
    {"ListRuns", "--- xoo xoo"},
    {"GetRun mine-0", "--- xoo xoo"},
    {"GetRun other", "--- xoo xxx"},
    {"ListParameters mine-0", "--- xoo xoo"},
    {"ListParameters other", "--- xoo xxx"},
    {"GetSeries mine-0", "--- xoo xoo"},
    {"GetSeries mine-0,other", "--- xoo xxx"},
    {"GetSnapshot mine-0", "--- xoo xoo"},
    {"GetSnapshot other", "--- xoo xxx"},
    {"GetHeatMap mine-0", "--- xoo xoo"},
    {"GetHeatMap other", "--- xoo xxx"},
    {"GetHistograms mine-0", "--- xoo xoo"},
    {"GetHistograms other", "--- xoo xxx"},
    {"GetTop mine-0", "--- xoo xoo"},
    {"GetTop other", "--- xoo xxx"},
    {"CompareRuns mine-0,mine-0", "--- xoo xoo"},
    {"CompareRuns mine-0,other", "--- xoo xxx"},
    {"CompareRuns other,mine-0", "--- xoo xxx"},
    {"ListGaps mine-0", "--- xoo xoo"},
    {"ListGaps other", "--- xoo xxx"},
    {"Watch mine-0", "--- xoo xoo"},
    {"Watch other", "--- xoo xxx"},
    {"DeleteRun mine-none", "--- xxo xxo"},
    {"DeleteRun other", "--- xxo xxx"},
    {"PinRun mine-0", "--- xxo xxo"},
    {"PinRun other-none", "--- xxo xxx"},
    {"GetStatus", "--- xoo xoo"},
    {"ListAlerts", "--- xoo xxx"},
    {"ListAlerts mine-0", "--- xoo xoo"},
    {"ListAlerts other", "--- xoo xxx"},
    {"WatchAlerts", "--- xoo xxx"},
    {"WatchAlerts mine-0", "--- xoo xoo"},
    {"WatchAlerts other", "--- xoo xxx"},
    {"GetHealth mine-0", "--- xoo xoo"},
    {"GetHealth other", "--- xoo xxx"},
    {"GetFirstBad mine-0", "--- xoo xoo"},
    {"GetFirstBad other", "--- xoo xxx"},
    {"TestRules mine-0", "--- xoo xoo"},
    {"TestRules other", "--- xoo xxx"},
    {"Backup", "--- xxo xxx"},
    {"Compact", "--- xxo xxx"},
    {"health", "ooo ooo ooo"},
    {"reflection", "--- xoo xoo"},
    {"unknown", "--- xxx xxx"},
};

constexpr Case kHttpCases[] = {
    {"GET /healthz", "ooo ooo ooo"},
    {"GET /readyz", "ooo ooo ooo"},
    {"GET /page.js", "ooo ooo ooo"},
    {"GET /page.css", "ooo ooo ooo"},
    {"GET /", "--- xoo xoo"},
    {"GET /metrics", "--- xoo xxx"},
    {"GET /api/v1/ListRuns", "--- xoo xoo"},
    {"GET /api/v1/GetRun?run=mine-0", "--- xoo xoo"},
    {"GET /api/v1/GetRun?run=other", "--- xoo xxx"},
    {"GET /api/v1/GetSnapshot?run=other", "--- xoo xxx"},
    {"GET /csv/GetSnapshot?run=mine-0", "--- xoo xoo"},
    {"GET /csv/GetSnapshot?run=other", "--- xoo xxx"},
    {"GET /csv/GetSeries?runs=mine-0&statistics=grad.l2", "--- xoo xoo"},
    {"GET /csv/GetSeries?runs=mine-0&runs=other&statistics=grad.l2",
     "--- xoo xxx"},
    {"GET /api/v1/Watch?run=none-at-all", "--- xoo xxx"},
    {"GET /api/v1/Watch?run=mine-none", "--- xoo xoo"},
    {"GET /api/v1/WatchAlerts?run=none-at-all", "--- xoo xxx"},
    {"GET /api/v1/WatchAlerts?run=mine-none", "--- xoo xoo"},
    {"GET /api/v1/ListAlerts", "--- xoo xxx"},
    {"GET /api/v1/GetStatus", "--- xoo xoo"},
    {"POST /api/v1/DeleteRun mine-none", "--- xxo xxo"},
    {"POST /api/v1/DeleteRun other-none", "--- xxo xxx"},
    {"POST /api/v1/PinRun mine-0", "--- xxo xxo"},
    {"POST /api/v1/PinRun other-none", "--- xxo xxx"},
    {"POST /api/v1/GetRun other", "--- xoo xxx"},
    {"GET /api/v1/Unknown", "--- xoo xoo"},
    {"GET /prometheus/api/v1/query?query=1", "--- xoo xxx"},
    {"GET /prometheus/api/v1/label/run/values", "--- xoo xxx"},
    {"GET /nowhere", "--- xoo xoo"},
};

// A run of mine-* that is not there, far from any that is: whoever may know of
// all is told which there are.
constexpr char kNoRun[] = "mine-qqqqqqqqqqqqqqqqqqqqqqqq";

// These name no run that has to be there.
constexpr std::array<const char*, 8> kWithoutRun = {
    "Session", "ListRuns", "GetStatus",  "Backup",
    "Compact", "health",   "reflection", "unknown"};

// Of HTTP, with kNoRun for '$'.
constexpr std::array<const char*, 21> kOfNoRun = {
    "GET /api/v1/GetRun?run=$",
    "GET /api/v1/ListParameters?run=$",
    "GET /api/v1/GetSeries?runs=$&statistics=grad.l2",
    "GET /api/v1/GetSeries?runs=mine-0&runs=$&statistics=grad.l2",
    "GET /csv/GetSeries?runs=$&statistics=grad.l2",
    "GET /api/v1/GetSnapshot?run=$",
    "GET /csv/GetSnapshot?run=$",
    "GET /api/v1/GetHeatMap?run=$&statistic=grad.l2",
    "GET /api/v1/GetHistograms?run=$",
    "GET /api/v1/GetTop?run=$",
    "GET /api/v1/CompareRuns?good_run=$&other_run=mine-0",
    "GET /api/v1/CompareRuns?good_run=mine-0&other_run=$",
    "GET /api/v1/ListGaps?run=$",
    "GET /api/v1/ListAlerts?run=$",
    "GET /api/v1/GetHealth?run=$",
    "GET /api/v1/GetFirstBad?run=$",
    "GET /api/v1/TestRules?run=$",
    "GET /api/v1/Watch?run=$",
    "GET /api/v1/WatchAlerts?run=$",
    "POST /api/v1/DeleteRun $",
    "POST /api/v1/PinRun $",
};

char Answer(grpc::StatusCode code) {
  if (code == grpc::StatusCode::UNAUTHENTICATED) return '-';
  return code == grpc::StatusCode::PERMISSION_DENIED ? 'x' : 'o';
}

void SetRuns(const std::string& run, v1::GetSeriesRequest* request) {
  std::stringstream list(run);
  for (std::string one; std::getline(list, one, ',');) request->add_runs(one);
  request->add_statistics("grad.l2");
}
void SetRuns(const std::string& run, v1::CompareRunsRequest* request) {
  request->set_good_run(run.substr(0, run.find(',')));
  request->set_other_run(run.substr(run.find(',') + 1));
}
void SetRuns(const std::string& run, v1::GetHeatMapRequest* request) {
  request->set_run(run);
  request->set_statistic("grad.l2");
}
void SetRuns(const std::string&, v1::ListRunsRequest*) {}
void SetRuns(const std::string&, v1::GetStatusRequest*) {}
void SetRuns(const std::string&, v1::BackupRequest*) {}
void SetRuns(const std::string&, v1::CompactRequest*) {}
template <typename Request>
void SetRuns(const std::string& run, Request* request) {
  request->set_run(run);
}

class AuthorisationTest : public DoorsTest {
 protected:
  using Call = std::function<grpc::Status(
      const Channel&, const std::string& token, const std::string& run)>;

  template <typename Service, typename Stub, typename Request,
            typename Response>
  void AddUnary(const std::string& name,
                grpc::Status (Stub::*method)(grpc::ClientContext*,
                                             const Request&, Response*)) {
    calls_[name] = [method](const Channel& channel, const std::string& token,
                            const std::string& run) {
      grpc::ClientContext context;
      Prepare(&context, token);
      Request request;
      SetRuns(run, &request);
      Response response;
      const auto stub = Service::NewStub(channel);
      return ((*stub).*method)(&context, request, &response);
    };
  }

  // Of bytes: health, reflection, and what is not there.
  static grpc::Status Generic(const Channel& channel, const std::string& token,
                              const std::string& method) {
    grpc::ClientContext context;
    Prepare(&context, token);
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(channel);
    const auto call =
        stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(), &queue);
    call->StartCall();
    grpc::ByteBuffer answer;
    grpc::Status status;
    call->Finish(&answer, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  template <typename Response, typename Reader>
  static grpc::Status FirstOf(grpc::ClientContext* context, Reader reader) {
    Response first;
    if (reader->Read(&first)) {
      context->TryCancel();
      reader->Finish();
      return grpc::Status::OK;
    }
    return reader->Finish();
  }

  void AddCalls() {
    using Q = v1::Query;
    using S = Q::Stub;
    AddUnary<Q>("ListRuns", &S::ListRuns);
    AddUnary<Q>("GetRun", &S::GetRun);
    AddUnary<Q>("ListParameters", &S::ListParameters);
    AddUnary<Q>("GetSeries", &S::GetSeries);
    AddUnary<Q>("GetSnapshot", &S::GetSnapshot);
    AddUnary<Q>("GetHeatMap", &S::GetHeatMap);
    AddUnary<Q>("GetHistograms", &S::GetHistograms);
    AddUnary<Q>("GetTop", &S::GetTop);
    AddUnary<Q>("CompareRuns", &S::CompareRuns);
    AddUnary<Q>("ListGaps", &S::ListGaps);
    AddUnary<Q>("DeleteRun", &S::DeleteRun);
    AddUnary<Q>("PinRun", &S::PinRun);
    AddUnary<Q>("GetStatus", &S::GetStatus);
    AddUnary<Q>("ListAlerts", &S::ListAlerts);
    AddUnary<Q>("GetHealth", &S::GetHealth);
    AddUnary<Q>("GetFirstBad", &S::GetFirstBad);
    AddUnary<Q>("TestRules", &S::TestRules);
    AddUnary<v1::Upkeep>("Backup", &v1::Upkeep::Stub::Backup);
    AddUnary<v1::Upkeep>("Compact", &v1::Upkeep::Stub::Compact);
    calls_["Session"] = &Record;
    calls_["Watch"] = [](const Channel& channel, const std::string& token,
                         const std::string& run) {
      grpc::ClientContext context;
      Prepare(&context, token);
      v1::WatchRequest request;
      request.set_run(run);
      return FirstOf<v1::WatchResponse>(
          &context, Q::NewStub(channel)->Watch(&context, request));
    };
    calls_["WatchAlerts"] = [](const Channel& channel, const std::string& token,
                               const std::string& run) {
      grpc::ClientContext context;
      Prepare(&context, token);
      v1::WatchAlertsRequest request;
      request.set_run(run);
      return FirstOf<v1::WatchAlertsResponse>(
          &context, Q::NewStub(channel)->WatchAlerts(&context, request));
    };
    const auto generic = [](const char* method) {
      return [method](const Channel& channel, const std::string& token,
                      const std::string&) {
        return Generic(channel, token, method);
      };
    };
    calls_["health"] = generic("/grpc.health.v1.Health/Check");
    calls_["reflection"] = generic(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo");
    calls_["unknown"] = generic("/gradtap.v1.Query/Unknown");
  }

  void AddCallers() {
    const auto nobodys = MakeToken();
    GRADTAP_ASSERT_OK(nobodys);
    callers_ = {"", *nobodys, tokens_.Add("admin", "", 1)};
    for (const char* runs : {"", "mine-"}) {
      for (const char* role : {"write", "read", "admin"}) {
        callers_.push_back(tokens_.Add(role, runs));
      }
    }
  }

  void StartWithRuns(Way way) {
    AddCalls();
    AddCallers();
    Start(way);
    ASSERT_NE(collector_, nullptr);
    for (const char* run : {"mine-0", "other"}) {
      const grpc::Status made = Record(NewChannel(), callers_[5], run);
      ASSERT_TRUE(made.ok()) << made.error_message();
    }
  }

  // What a call that stores anything changes.
  std::string Stored() {
    grpc::ClientContext context;
    Prepare(&context, callers_[5]);
    v1::GetStatusResponse answer;
    EXPECT_TRUE(v1::Query::NewStub(NewChannel())
                    ->GetStatus(&context, v1::GetStatusRequest(), &answer)
                    .ok());
    return "runs " + std::to_string(answer.runs()) + ", steps " +
           std::to_string(answer.stored_steps()) + ", bytes " +
           std::to_string(answer.stored_bytes()) + ", batches " +
           std::to_string(answer.batches());
  }

  void ExpectGrpcAnswers(Way way) {
    StartWithRuns(way);
    const Channel channel = NewChannel();
    int cases = 0;
    for (const Case& one : kGrpcCases) {
      const std::string text = one.call;
      const std::string name = text.substr(0, text.find(' '));
      const std::string run = text.find(' ') == std::string::npos
                                  ? ""
                                  : text.substr(name.size() + 1);
      std::string answers;
      for (std::size_t i = 0; i < callers_.size(); ++i) {
        const std::string before = Stored();
        const grpc::Status status = calls_.at(name)(channel, callers_[i], run);
        answers += (i > 0 && i % 3 == 0 ? " " : "");
        answers += Answer(status.error_code());
        ExpectGoodRefusal(status, callers_[i]);
        if (answers.back() != 'o') {
          EXPECT_EQ(Stored(), before) << text;
        } else if (name == "Session") {
          EXPECT_NE(Stored(), before) << text;
        }
        ++cases;
      }
      EXPECT_EQ(answers, one.answers) << text;
    }
    std::printf("%d cases\n", cases);
  }

  static void ExpectGoodRefusal(const grpc::Status& status,
                                const std::string& token) {
    const std::string& text = status.error_message();
    switch (status.error_code()) {
      case grpc::StatusCode::UNAUTHENTICATED:
        EXPECT_THAT(text, HasSubstr("token"));
        EXPECT_THAT(text, HasSubstr("gradtapd token create"));
        break;
      case grpc::StatusCode::PERMISSION_DENIED:
        EXPECT_THAT(text, ::testing::ContainsRegex(
                              "role|limited to|there is no method"));
        break;
      default:
        return;
    }
    if (!token.empty()) {
      EXPECT_THAT(text, Not(HasSubstr(token.substr(17))));
    }
  }

  void ExpectHttpAnswers(Way way) {
    StartWithRuns(way);
    const auto client = NewHttp();
    int cases = 0;
    for (const Case& one : kHttpCases) {
      std::string answers;
      for (std::size_t i = 0; i < callers_.size(); ++i) {
        const std::string before = Stored();
        answers += (i > 0 && i % 3 == 0 ? " " : "");
        answers += HttpAnswerOf(client.get(), one.call, callers_[i]);
        if (answers.back() != 'o') {
          EXPECT_EQ(Stored(), before) << one.call;
        }
        ++cases;
      }
      EXPECT_EQ(answers, one.answers) << one.call;
    }
    std::printf("%d cases\n", cases);
  }

  static httplib::Result Ask(httplib::Client* client, const std::string& call,
                             const std::string& token) {
    httplib::Headers headers;
    if (!token.empty()) headers.emplace("Authorization", Bearer(token));
    std::stringstream words(call);
    std::string method, path, run;
    words >> method >> path >> run;
    return method == "GET"
               ? client->Get(path.c_str(), headers)
               : client->Post(path.c_str(), headers,
                              "{\"run\":\"" + run + "\"}", "application/json");
  }

  static char HttpAnswerOf(httplib::Client* client, const std::string& call,
                           const std::string& token) {
    const httplib::Result result = Ask(client, call, token);
    if (!result) return '?';
    if (result->status == 401) {
      EXPECT_EQ(result->get_header_value("WWW-Authenticate"), "Bearer");
      return '-';
    }
    return result->status == 403 ? 'x' : 'o';
  }

  std::map<std::string, Call> calls_;
  std::vector<std::string> callers_;
};

TEST_F(AuthorisationTest, OverTls) { ExpectGrpcAnswers(Way::kTls); }
TEST_F(AuthorisationTest, OverLoopback) { ExpectGrpcAnswers(Way::kLoopback); }
TEST_F(AuthorisationTest, OverASocket) { ExpectGrpcAnswers(Way::kUnix); }
TEST_F(AuthorisationTest, OverHttps) { ExpectHttpAnswers(Way::kTls); }
TEST_F(AuthorisationTest, OverHttp) { ExpectHttpAnswers(Way::kLoopback); }

TEST_F(AuthorisationTest, WhatIsNotThereNamesNoRunOfOthers) {
  StartWithRuns(Way::kLoopback);
  const Channel channel = NewChannel();
  for (const auto& [name, call] : calls_) {
    SCOPED_TRACE(name);
    if (std::count(kWithoutRun.begin(), kWithoutRun.end(), name) > 0) continue;
    const std::string runs =
        name == "CompareRuns" ? std::string("mine-0,") + kNoRun : kNoRun;
    grpc::Status status = call(channel, callers_[8], runs);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(status.error_message(),
                AllOf(HasSubstr(kNoRun), HasSubstr("'mine-0'"),
                      Not(HasSubstr("othe"))));
    status = call(channel, callers_[5], runs);
    EXPECT_THAT(status.error_message(), HasSubstr("'mine-0' 'other'"));
  }
}

TEST_F(AuthorisationTest, OverHttpNeither) {
  StartWithRuns(Way::kLoopback);
  const auto client = NewHttp();
  for (const char* const one : kOfNoRun) {
    SCOPED_TRACE(one);
    std::string call = one;
    call.replace(call.find('$'), 1, kNoRun);
    const httplib::Result result = Ask(client.get(), call, callers_[8]);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 404);
    EXPECT_THAT(result->body,
                AllOf(HasSubstr(kNoRun), Not(HasSubstr("'othe"))));
  }
}

}  // namespace
}  // namespace gradtap::server::testing
