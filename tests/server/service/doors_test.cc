// The doors of a whole collector: tokens and certificates that change, limits,
// and where it does not start.

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "core/clock.h"
#include "core/session_facts.h"
#include "server/auth/rights.h"
#include "server/http/http_api.h"
#include "server/service/doors_testing.h"
#include "server/service/run_access.h"

namespace gradtap::server::testing {
namespace {

namespace fs = std::filesystem;
using ::gradtap::testing::MadeCertificate;
using ::gradtap::testing::MakeCertificate;
using ::gradtap::testing::ReadWhole;
using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// ---- The table -------------------------------------------------------------

TEST(MethodTableTest, HasEveryMethodOfEveryServiceAndNoOther) {
  std::set<std::string> there = {
      // Of gRPC itself; the first two have no descriptor.
      "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"};
  const fs::path root = GRADTAP_PROTO_DIR;
  for (const auto& file : fs::directory_iterator(root / "gradtap/v1")) {
    if (file.path().extension() != ".proto") continue;
    const std::string name = "gradtap/v1/" + file.path().filename().string();
    const auto* const known =
        google::protobuf::DescriptorPool::generated_pool()->FindFileByName(
            name);
    ASSERT_NE(known, nullptr) << name;
    for (int s = 0; s < known->service_count(); ++s) {
      const auto* const service = known->service(s);
      for (int m = 0; m < service->method_count(); ++m) {
        there.insert("/" + service->full_name() + "/" +
                     service->method(m)->name());
      }
    }
  }
  std::set<std::string> table;
  for (const MethodRight& one : AllMethods()) table.emplace(one.path);
  EXPECT_EQ(table, there);
  EXPECT_EQ(table.size(), AllMethods().size());
  for (const std::string& method : HttpApi::Methods()) {
    EXPECT_NE(FindMethod("/gradtap.v1.Query/" + method), nullptr) << method;
  }
}

TEST(KeepOwnTest, WhatIsSaidOfRunsIsForThoseWhoMayUseAll) {
  v1::ListRunsResponse answer;
  answer.add_notes("run 'other' cannot be read: damaged");
  KeepOwn(Caller::Anybody(), &answer);
  EXPECT_EQ(answer.notes_size(), 1);
  KeepOwn(Caller{"id", Rights::All(), "mine-"}, &answer);
  EXPECT_EQ(answer.notes_size(), 0);
}

TEST(KeepOwnTest, WhereTheDataLiesIsForThoseWhoMayUseAll) {
  v1::GetStatusResponse answer;
  answer.set_data_dir("/data/other-team");
  KeepOwn(Caller::Anybody(), &answer);
  EXPECT_EQ(answer.data_dir(), "/data/other-team");
  KeepOwn(Caller{"id", Rights::All(), "mine-"}, &answer);
  EXPECT_EQ(answer.data_dir(), "");
}

// ---- Where it does not start -----------------------------------------------

class StartTest : public ::testing::Test {
 protected:
  absl::Status Start(CollectorOptions options) {
    options.data_dir = dir_.path() + "/data";
    options.keeping.disk_reserve_bytes = 0;
    return Collector::Start(options).status();
  }
  CollectorOptions At(const std::string& address, bool tls, bool tokens) {
    CollectorOptions options;
    options.grpc_listen = address;
    if (tls) options.tls = {made_.cert, made_.key, ""};
    if (tokens) options.token_file = tokens_.path();
    return options;
  }

  gradtap::testing::TempDir dir_;
  TokenMaker tokens_{dir_.path() + "/tokens"};
  const MadeCertificate made_ = MakeCertificate(dir_.path(), "server");
};

TEST_F(StartTest, WhereOthersReachItItWantsTlsAndTokens) {
  const char kOpen[] = "0.0.0.0:0";
  const auto refused = [](const char* why) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why));
  };
  EXPECT_THAT(Start(At(kOpen, false, false)),
              refused("without TLS or a token"));
  EXPECT_THAT(Start(At(kOpen, true, false)), refused("without a token"));
  EXPECT_THAT(Start(At(kOpen, false, true)), refused("unencrypted"));
  GRADTAP_EXPECT_OK(Start(At(kOpen, true, true)));
  for (const bool tls : {false, true}) {
    for (const bool tokens : {false, true}) {
      CollectorOptions told = At(kOpen, tls, tokens);
      told.allow_insecure = true;
      if (tokens && !tls) {  // Not even then.
        EXPECT_THAT(Start(told), refused("unencrypted"));
      } else {
        GRADTAP_EXPECT_OK(Start(told));
      }
      GRADTAP_EXPECT_OK(Start(At("127.0.0.1:0", tls, tokens)));
    }
  }
}

TEST_F(StartTest, TheSameHoldsForHttp) {
  CollectorOptions options = At("127.0.0.1:0", false, false);
  options.http_listen = "0.0.0.0:0";
  EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("without TLS or a token")));
  options = At("127.0.0.1:0", true, true);
  options.http_listen = "0.0.0.0:0";
  GRADTAP_EXPECT_OK(Start(options));
}

TEST_F(StartTest, FilesThatCannotBeUsedAreNamed) {
  CollectorOptions options = At("127.0.0.1:0", true, true);
  options.tls.key = "/nowhere.key";
  EXPECT_THAT(Start(options),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("--tls-key: cannot read /nowhere.key")));
  options.tls.key = "";
  EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("go together")));
  options = At("127.0.0.1:0", false, true);
  options.tls.client_ca = made_.cert;
  EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                       HasSubstr("go together")));
  options.tls.client_ca = "";
  options.token_file = "/nowhere/tokens";
  EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kNotFound,
                                       HasSubstr("/nowhere/tokens")));
}

TEST_F(StartTest, TokensOfTheDataFolderAreAskedForWithoutBeingTold) {
  TokenMaker inside(dir_.path() + "/data/tokens");
  CollectorOptions options = At("0.0.0.0:0", true, false);
  GRADTAP_EXPECT_OK(Start(options));
  std::ofstream(inside.path()) << "junk\n";
  EXPECT_THAT(Start(options),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr(inside.path())));
  // What was to be there is not nothing.
  fs::remove(inside.path());
  fs::create_symlink("/nowhere/secret", inside.path());
  EXPECT_THAT(Start(At("127.0.0.1:0", false, false)),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr(inside.path())));
}

TEST_F(StartTest, ASocketsFolderIsTheCollectorsAlone) {
  const std::string folder = dir_.path() + "/run";
  CollectorOptions options = At("", false, false);
  options.grpc_socket = "unix:" + folder + "/grpc";
  GRADTAP_EXPECT_OK(Start(options));
  struct stat info {};
  ASSERT_EQ(::stat(folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0700u);
  for (const mode_t mode : {0701, 0710, 0755, 0777}) {
    ASSERT_EQ(::chmod(folder.c_str(), mode), 0);
    EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kFailedPrecondition,
                                         HasSubstr("chmod 700")));
  }
  ASSERT_EQ(::chmod(folder.c_str(), 0700), 0);
  fs::create_directory_symlink(folder, dir_.path() + "/link");
  CollectorOptions linked = options;
  linked.grpc_socket = "unix:" + dir_.path() + "/link/grpc";
  EXPECT_THAT(Start(linked), StatusIs(absl::StatusCode::kFailedPrecondition,
                                      HasSubstr("is no folder")));
  fs::remove(folder + "/grpc");
  std::ofstream(folder + "/grpc") << "somebody's notes";
  EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kFailedPrecondition,
                                       HasSubstr("is no socket")));
  EXPECT_EQ(ReadWhole(folder + "/grpc"), "somebody's notes");
  for (const std::string& bad :
       {std::string("unix:relative"), std::string("unix:"),
        std::string("unix:/"), "unix:/" + std::string(108, 'a'),
        std::string("unix:/a%00b"), std::string("unix:/a\0b", 9)}) {
    options.grpc_socket = bad;
    EXPECT_THAT(Start(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("is no socket")))
        << bad;
  }
}

// ---- Tokens ----------------------------------------------------------------

class TokenDoorTest : public DoorsTest {
 protected:
  std::vector<std::string> RunsOf(const std::string& token) {
    grpc::ClientContext context;
    Prepare(&context, token);
    v1::ListRunsResponse answer;
    const grpc::Status status =
        v1::Query::NewStub(NewChannel())
            ->ListRuns(&context, v1::ListRunsRequest(), &answer);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::vector<std::string> runs;
    for (const v1::RunInfo& run : answer.runs()) runs.push_back(run.run());
    std::sort(runs.begin(), runs.end());
    return runs;
  }
};

TEST_F(TokenDoorTest, ListRunsHasOnesOwnAlone) {
  const std::string admin = tokens_.Add("admin");
  const std::string mine = tokens_.Add("read", "mine-");
  const std::string nobodys = tokens_.Add("read", "none-");
  Start(Way::kTls);
  for (const char* run : {"mine-a", "mine-b", "other", "mine"}) {
    ASSERT_TRUE(Record(NewChannel(), admin, run).ok());
  }
  EXPECT_THAT(RunsOf(admin), ElementsAre("mine", "mine-a", "mine-b", "other"));
  EXPECT_THAT(RunsOf(mine), ElementsAre("mine-a", "mine-b"));
  EXPECT_THAT(RunsOf(nobodys), ElementsAre());
  const auto http = NewHttp();
  const auto result =
      http->Get("/api/v1/ListRuns", {{"Authorization", Bearer(mine)}});
  ASSERT_TRUE(result);
  EXPECT_THAT(result->body,
              AllOf(HasSubstr("\"mine-a\""), Not(HasSubstr("\"other\""))));
}

TEST_F(TokenDoorTest, RefusalsAreCountedByReason) {
  const std::string admin = tokens_.Add("admin");
  const std::string write = tokens_.Add("write");
  const std::string mine = tokens_.Add("write", "mine-");
  Start(Way::kTls);
  EXPECT_FALSE(Record(NewChannel(), "", "run").ok());
  EXPECT_FALSE(Record(NewChannel(), "no token", "run").ok());
  EXPECT_FALSE(Record(NewChannel(), mine, "run").ok());
  const auto http = NewHttp();
  ASSERT_TRUE(http->Get("/metrics", {{"Authorization", Bearer(write)}}));
  const auto page = http->Get("/metrics", {{"Authorization", Bearer(admin)}});
  ASSERT_TRUE(page);
  const std::string head = "\ngradtap_refused_calls_total{reason=";
  for (const char* line :
       {"\"no_token\"} 1\n", "\"unknown_token\"} 1\n", "\"runs\"} 1\n",
        "\"role\"} 1\n", "\"expired_token\"} 0\n", "\"unknown_method\"} 0\n"}) {
    EXPECT_THAT(page->body, HasSubstr(head + line));
  }
  EXPECT_THAT(RunsOf(admin), ElementsAre());
}

TEST_F(TokenDoorTest, MetricsAreOpenIfThatIsSaid) {
  tokens_.Add("admin");
  CollectorOptions options;
  options.open_metrics = true;
  Start(Way::kTls, options);
  const auto http = NewHttp();
  const auto page = http->Get("/metrics");
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  EXPECT_THAT(page->body, HasSubstr("gradtap_build_info"));
  for (const char* other : {"/api/v1/GetStatus", "/metrics/", "//metrics",
                            "/metricsx", "/prometheus/api/v1/labels"}) {
    const auto refused = http->Get(other);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->status, 401) << other;
  }
}

// What `gradtap doctor` asks with a token that only writes.
TEST_F(TokenDoorTest, ASessionWithoutAWordTellsWhatAnAgentWouldFind) {
  const std::string token = tokens_.Add("write", "vis-");
  const std::string reader = tokens_.Add("read");
  Start(Way::kTls);
  const auto stub = v1::Telemetry::NewStub(NewChannel());
  std::map<std::string, std::string> told;
  const auto ask = [&](const std::string& as, const std::string& run) {
    grpc::ClientContext context;
    Prepare(&context, as);
    if (!run.empty()) context.AddMetadata(kRunMetadata, run);
    const auto session = stub->Session(&context);
    session->WritesDone();
    const grpc::Status status = session->Finish();
    told.clear();
    for (const auto& [key, value] : context.GetServerTrailingMetadata()) {
      told[{key.data(), key.size()}] = {value.data(), value.size()};
    }
    return status.error_code();
  };
  const std::int64_t before = RealClock().UnixNanos();
  EXPECT_EQ(ask(token, ""), grpc::StatusCode::OK);
  EXPECT_EQ(told[kVersionMetadata], GRADTAP_VERSION);
  EXPECT_GE(std::stoll(told[kTimeMetadata]), before);
  EXPECT_LE(std::stoll(told[kTimeMetadata]), RealClock().UnixNanos());
  EXPECT_EQ(ask(token, "vis-1"), grpc::StatusCode::OK);
  EXPECT_EQ(ask(token, "other"), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(ask(reader, ""), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_FALSE(told.contains(kVersionMetadata));
}

TEST_F(TokenDoorTest, ARevokedTokenEndsWhatItHasOpen) {
  const std::string admin = tokens_.Add("admin");
  const std::string token = tokens_.Add("write,read");
  Start(Way::kTls);
  ASSERT_TRUE(Record(NewChannel(), admin, "run").ok());

  grpc::ClientContext session_context, watch_context, alerts_context;
  for (auto* context : {&session_context, &watch_context, &alerts_context}) {
    Prepare(context, token);
  }
  const auto telemetry = v1::Telemetry::NewStub(NewChannel());
  const auto session = telemetry->Session(&session_context);
  v1::AgentMessage hello;
  hello.mutable_hello()->set_protocol_version(1);
  hello.mutable_hello()->set_run("run");
  hello.mutable_hello()->set_launch("other");
  hello.mutable_hello()->set_world_size(1);
  hello.mutable_hello()->set_process_nonce(std::string(16, 'r'));
  hello.mutable_hello()->set_start_time_unix_ns(1);
  ASSERT_TRUE(session->Write(hello));
  v1::CollectorMessage welcome;
  ASSERT_TRUE(session->Read(&welcome));
  ASSERT_TRUE(welcome.has_welcome());

  const auto query = v1::Query::NewStub(NewChannel());
  v1::WatchRequest watch_request;
  watch_request.set_run("run");
  const auto watch = query->Watch(&watch_context, watch_request);
  v1::WatchResponse first;
  ASSERT_TRUE(watch->Read(&first));
  const auto alerts =
      query->WatchAlerts(&alerts_context, v1::WatchAlertsRequest());
  v1::WatchAlertsResponse caught_up;
  ASSERT_TRUE(alerts->Read(&caught_up));
  std::string events;
  std::thread page([&] {
    const auto http = NewHttp();
    http->Get("/api/v1/Watch?run=run", {{"Authorization", Bearer(token)}},
              [&](const char* data, std::size_t size) {
                if (events.empty()) tokens_.Revoke(token);
                events.append(data, size);
                return true;
              });
  });

  v1::CollectorMessage more;
  while (session->Read(&more)) {
  }
  EXPECT_EQ(session->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  while (watch->Read(&first)) {
  }
  EXPECT_EQ(watch->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  while (alerts->Read(&caught_up)) {
  }
  EXPECT_EQ(alerts->Finish().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  page.join();
  EXPECT_THAT(events, AllOf(HasSubstr("event: error"),
                            HasSubstr("\"UNAUTHENTICATED\"")));
}

TEST_F(TokenDoorTest, NoByteOfATokenIsKeptOrSaid) {
  const std::string admin = tokens_.Add("admin");
  const std::string read = tokens_.Add("read", "mine-");
  const auto nobodys = MakeToken();
  GRADTAP_ASSERT_OK(nobodys);
  Start(Way::kTls);
  ASSERT_TRUE(Record(NewChannel(), admin, "run").ok());
  EXPECT_FALSE(Record(NewChannel(), read, "run").ok());
  EXPECT_FALSE(Record(NewChannel(), *nobodys, "run").ok());
  const auto http = NewHttp();
  std::string answers;
  for (const std::string& token : {admin, read, *nobodys}) {
    for (const char* path : {"/api/v1/ListRuns", "/metrics", "/nowhere"}) {
      const auto result = http->Get(path, {{"Authorization", Bearer(token)}});
      ASSERT_TRUE(result);
      answers += result->body;
    }
  }
  collector_ = nullptr;
  std::string all = answers + said();
  for (const auto& file : fs::recursive_directory_iterator(dir_.path())) {
    if (file.is_regular_file()) all += ReadWhole(file.path().string());
  }
  EXPECT_GT(all.size(), 10'000u);
  for (const std::string& token : {admin, read, *nobodys}) {
    EXPECT_EQ(all.find(token.substr(17)), std::string::npos);
  }
}

}  // namespace
}  // namespace gradtap::server::testing
