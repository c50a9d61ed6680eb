// Certificates that change, clients that need one, and how a browser brings a
// token.

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "server/service/doors_testing.h"

namespace gradtap::server::testing {
namespace {

namespace fs = std::filesystem;
using ::gradtap::testing::MadeCertificate;
using ::gradtap::testing::MakeCertificate;
using ::gradtap::testing::ReadWhole;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// ---- Certificates ----------------------------------------------------------

class CertificateDoorTest : public DoorsTest {
 protected:
  // Steps of one run, each acknowledged before the next.
  class Agent {
   public:
    Agent(const std::shared_ptr<grpc::Channel>& channel,
          const std::string& token)
        : stub_(v1::Telemetry::NewStub(channel)) {
      context_.AddMetadata("authorization", Bearer(token));
      context_.set_deadline(std::chrono::system_clock::now() +
                            std::chrono::minutes(4));
      stream_ = stub_->Session(&context_);
      v1::AgentMessage message;
      v1::Hello* const hello = message.mutable_hello();
      hello->set_protocol_version(1);
      hello->set_run("loaded");
      hello->set_launch("launch");
      hello->set_world_size(1);
      hello->set_process_nonce(std::string(16, 'l'));
      hello->set_start_time_unix_ns(1);
      stream_->Write(message);
      v1::CollectorMessage answer;
      EXPECT_TRUE(stream_->Read(&answer));
      EXPECT_TRUE(answer.has_welcome());
      Send(MakeBatch(1, {SchemaRecord()}));
    }
    // False: the call has ended.
    bool Step() {
      return Send(MakeBatch(seq_ + 1, {EncodedStep(MakeStep(steps_++, 2, 1))}));
    }
    std::int64_t steps() const { return steps_; }
    grpc::Status Leave() {
      stream_->WritesDone();
      v1::CollectorMessage rest;
      while (stream_->Read(&rest)) {
      }
      return stream_->Finish();
    }

   private:
    bool Send(const BuiltBatch& batch) {
      v1::AgentMessage message;
      message.mutable_batch()->set_first_seq(batch.first_seq);
      message.mutable_batch()->set_record_count(batch.record_count);
      message.mutable_batch()->set_frame(batch.frame);
      if (!stream_->Write(message)) return false;
      v1::CollectorMessage answer;
      while (stream_->Read(&answer)) {
        if (answer.has_ack() && answer.ack().durable_seq() == batch.first_seq) {
          seq_ = batch.first_seq;
          return true;
        }
      }
      return false;
    }

    std::unique_ptr<v1::Telemetry::Stub> stub_;
    grpc::ClientContext context_;
    std::unique_ptr<
        grpc::ClientReaderWriter<v1::AgentMessage, v1::CollectorMessage>>
        stream_;
    std::uint64_t seq_ = 0;
    std::int64_t steps_ = 0;
  };

  // Of gRPC, with the authority that is trusted now.
  bool Connects() {
    const auto channel = NewChannel();
    grpc::ClientContext context;
    Prepare(&context, admin_);
    v1::GetStatusResponse answer;
    return v1::Query::NewStub(channel)
        ->GetStatus(&context, v1::GetStatusRequest(), &answer)
        .ok();
  }
  bool ConnectsByHttp(const std::string& authority) {
    httplib::Client client("https://" + collector_->http_address());
    client.set_ca_cert_path(authority.c_str());
    client.set_read_timeout(60);
    const auto result = client.Get("/healthz");
    return result && result->status == 200;
  }

  const std::string admin_ = tokens_.Add("admin");
};

TEST_F(CertificateDoorTest, ReplacedUnderLoadNoStreamNotices) {
  const MadeCertificate next = MakeCertificate(dir_.path(), "next");
  Start(Way::kTls);
  std::atomic<bool> stop{false};
  std::int64_t steps = 0;
  bool broken = false;
  grpc::Status left;
  std::atomic<std::int64_t> done{0};
  std::thread load([&] {
    Agent agent(NewChannel(), admin_);
    while (!stop && !broken) {
      broken = !agent.Step();
      if (!broken) done = steps = agent.steps();
    }
    left = agent.Leave();
  });
  EXPECT_TRUE(Eventually([&] { return done > 10; }));
  EXPECT_TRUE(Connects());
  EXPECT_TRUE(ConnectsByHttp(server_.cert));

  // First the certificate, whose key is not there yet.
  const std::string old_authority = dir_.path() + "/old.pem";
  fs::copy_file(server_.cert, old_authority);
  fs::copy_file(next.cert, server_.cert, fs::copy_options::overwrite_existing);
  EXPECT_TRUE(Eventually([&] {
    EXPECT_TRUE(Connects());
    return said().find("is not the key of") != std::string::npos;
  }));
  const auto begin = std::chrono::steady_clock::now();
  fs::copy_file(next.key, server_.key, fs::copy_options::overwrite_existing);
  trusted_ = ReadWhole(next.cert);
  EXPECT_TRUE(Eventually([&] { return Connects(); }));
  const std::chrono::duration<double> grpc_took =
      std::chrono::steady_clock::now() - begin;
  EXPECT_TRUE(Eventually([&] { return ConnectsByHttp(next.cert); }));
  const std::chrono::duration<double> http_took =
      std::chrono::steady_clock::now() - begin;
  std::printf("new connections have it after %.2f s (gRPC), %.2f s (HTTP)\n",
              grpc_took.count(), http_took.count());
  trusted_ = ReadWhole(old_authority);
  EXPECT_FALSE(Connects());
  EXPECT_FALSE(ConnectsByHttp(old_authority));

  const std::int64_t then = done;
  EXPECT_TRUE(Eventually([&] { return done > then + 10 || broken; }));
  stop = true;
  load.join();
  EXPECT_FALSE(broken);
  EXPECT_TRUE(left.ok()) << left.error_message();
  trusted_ = ReadWhole(next.cert);
  grpc::ClientContext context;
  Prepare(&context, admin_);
  v1::GetRunRequest request;
  request.set_run("loaded");
  v1::GetRunResponse run;
  ASSERT_TRUE(
      v1::Query::NewStub(NewChannel())->GetRun(&context, request, &run).ok());
  EXPECT_EQ(run.run().stored_steps(), static_cast<std::uint64_t>(steps));
  EXPECT_EQ(run.attempts_size(), 1);
}

TEST_F(CertificateDoorTest, WithAnAuthorityForClientsTheyNeedACertificate) {
  const MadeCertificate client = MakeCertificate(dir_.path(), "client");
  const MadeCertificate stranger = MakeCertificate(dir_.path(), "stranger");
  CollectorOptions options;
  options.tls.client_ca = client.cert;
  Start(Way::kTls, options);
  EXPECT_FALSE(Connects());
  EXPECT_FALSE(ConnectsByHttp(server_.cert));
  client_cert_ = ReadWhole(stranger.cert);
  client_key_ = ReadWhole(stranger.key);
  EXPECT_FALSE(Connects());
  client_cert_ = ReadWhole(client.cert);
  client_key_ = ReadWhole(client.key);
  EXPECT_TRUE(Connects());
  // It is no token.
  grpc::ClientContext context;
  Prepare(&context, "");
  v1::GetStatusResponse answer;
  EXPECT_EQ(v1::Query::NewStub(NewChannel())
                ->GetStatus(&context, v1::GetStatusRequest(), &answer)
                .error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
  const std::size_t colon = collector_->http_address().rfind(':');
  httplib::SSLClient https(
      "127.0.0.1", std::stoi(collector_->http_address().substr(colon + 1)),
      client.cert, client.key);
  https.set_ca_cert_path(server_.cert.c_str());
  const auto result = https.Get("/healthz");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 200);
}

TEST_F(CertificateDoorTest, WhoDoesNotSpeakTlsCostsNothing) {
  CollectorOptions options;
  options.http_connections.request_time = std::chrono::milliseconds(500);
  Start(Way::kTls, options);
  const std::string address = collector_->http_address();
  httplib::Client plain("http://" + address);
  plain.set_read_timeout(60);
  EXPECT_FALSE(plain.Get("/healthz"));
  // Nothing at all: closed when the time for a request is over.
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(
      std::stoi(address.substr(address.rfind(':') + 1))));
  const int silent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(
      ::connect(silent, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  char byte;
  EXPECT_EQ(::recv(silent, &byte, 1, 0), 0);
  ::close(silent);
  EXPECT_TRUE(Connects());
}

TEST_F(CertificateDoorTest, LargeAnswersComeWhole) {
  Start(Way::kTls);
  const auto http = NewHttp();
  const auto script =
      http->Get("/page.js", httplib::Headers{{"Accept-Encoding", "identity"}});
  ASSERT_TRUE(script);
  EXPECT_GT(script->body.size(), 50'000u);
  EXPECT_EQ(std::to_string(script->body.size()),
            script->get_header_value("Content-Length"));
}

// ---- A browser -------------------------------------------------------------

class SignInTest : public DoorsTest {
 protected:
  httplib::Result Post(const std::string& path, const std::string& form,
                       const httplib::Headers& headers = {}) {
    return NewHttp()->Post(path.c_str(), headers, form,
                           "application/x-www-form-urlencoded");
  }

  const std::string read_ = tokens_.Add("read");
  const std::string write_ = tokens_.Add("write");
};

TEST_F(SignInTest, TheFormSetsACookieThatLetsIn) {
  Start(Way::kTls);
  const auto form = NewHttp()->Get("/?run=%3Cscript%3E");
  ASSERT_TRUE(form);
  EXPECT_EQ(form->status, 401);
  EXPECT_THAT(form->body,
              AllOf(HasSubstr("<form method=\"post\""),
                    HasSubstr("type=\"password\""), Not(HasSubstr("script"))));
  EXPECT_THAT(
      form->get_header_value("Content-Security-Policy"),
      AllOf(HasSubstr("default-src 'none'"), HasSubstr("form-action 'self'"),
            HasSubstr("frame-ancestors 'none'")));
  const auto in = Post("/?run=a&view=b", "token=" + read_ + "%0A");
  ASSERT_TRUE(in);
  EXPECT_EQ(in->status, 303);
  EXPECT_EQ(in->get_header_value("Location"), "/?run=a&view=b");
  const std::string cookie = in->get_header_value("Set-Cookie");
  EXPECT_EQ(cookie, "__Host-gradtap-token=" + read_ +
                        "; Path=/; HttpOnly; SameSite=Strict; Secure");
  const std::string sent = "a=b; " + cookie.substr(0, cookie.find(';'));
  const auto page = NewHttp()->Get("/?run=x", {{"Cookie", sent}});
  ASSERT_TRUE(page);
  EXPECT_EQ(page->status, 200);
  const auto runs = NewHttp()->Get("/api/v1/ListRuns", {{"Cookie", sent}});
  ASSERT_TRUE(runs);
  EXPECT_EQ(runs->status, 200);
  // A header says more than a cookie.
  const auto both =
      NewHttp()->Get("/api/v1/ListRuns",
                     {{"Cookie", sent}, {"Authorization", Bearer(write_)}});
  ASSERT_TRUE(both);
  EXPECT_EQ(both->status, 403);
}

TEST_F(SignInTest, WhatIsNoTokenOfAReaderSetsNothing) {
  Start(Way::kTls);
  for (const std::string& form :
       {std::string(), std::string("token="), std::string("token=x"),
        "token=" + write_, "other=" + read_,
        std::string("token=%3Cscript%3E%00%0D%0ASet-Cookie:x")}) {
    const auto result = Post("/", form);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, form == "token=" + write_ ? 403 : 401) << form;
    EXPECT_EQ(result->get_header_value("Set-Cookie"), "");
    EXPECT_THAT(result->body, Not(HasSubstr("<script")));
  }
}

TEST_F(SignInTest, APageOfAnotherSiteSignsNobodyIn) {
  Start(Way::kTls);
  for (const httplib::Headers& headers :
       {httplib::Headers{{"Origin", "https://evil.example"}},
        httplib::Headers{{"Origin", "null"}},
        httplib::Headers{{"Sec-Fetch-Site", "cross-site"},
                         {"Sec-Fetch-Mode", "cors"}}}) {
    const auto result = Post("/", "token=" + read_, headers);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->status, 403);
    EXPECT_EQ(result->get_header_value("Set-Cookie"), "");
  }
  const auto own = Post("/", "token=" + read_,
                        {{"Origin", "https://" + collector_->http_address()}});
  ASSERT_TRUE(own);
  EXPECT_EQ(own->status, 303);
}

TEST_F(SignInTest, WithoutTlsTheCookieIsForThisMachine) {
  Start(Way::kLoopback);
  const auto in = Post("/", "token=" + read_);
  ASSERT_TRUE(in);
  EXPECT_EQ(in->get_header_value("Set-Cookie"),
            "gradtap-token=" + read_ + "; Path=/; HttpOnly; SameSite=Strict");
}

}  // namespace
}  // namespace gradtap::server::testing
