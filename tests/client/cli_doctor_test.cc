// `gradtap doctor` against real sockets, TLS and folders.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "client/cli_run.h"
#include "client/made_certificate.h"
#include "gradtap/v1/telemetry.grpc.pb.h"
#include "support/temp_dir.h"

namespace gradtap::client::testing {
namespace {

namespace fs = std::filesystem;
using gradtap::testing::TempDir;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// A session ends with what the test says.
class FakeTelemetry final : public v1::Telemetry::Service {
 public:
  grpc::Status ends_with;
  // What it says of itself at the end, and what the runs that it takes begin
  // with. Without a version it is an older one, which knows none of that.
  std::string version, time, runs;
  grpc::Status Session(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::CollectorMessage, v1::AgentMessage>* stream)
      override {
    v1::AgentMessage message;
    while (stream->Read(&message)) {
    }
    if (version.empty()) return ends_with;
    context->AddTrailingMetadata("gradtap-version", version);
    context->AddTrailingMetadata("gradtap-time-unix-ns", time);
    const auto run = context->client_metadata().find("gradtap-run");
    if (run != context->client_metadata().end() &&
        !run->second.starts_with(runs)) {
      return {grpc::PERMISSION_DENIED, "not one of " + runs};
    }
    return ends_with;
  }
};

class CliDoctorTest : public ::testing::Test {
 protected:
  CliDoctorTest() {
    ::signal(SIGPIPE, SIG_IGN);
    around_.env["HOME"] = dir_.path();
    around_.env["GRADTAP_RING_FOLDER"] = "off";
    query_.status.set_version(GRADTAP_VERSION);
    query_.status.set_time_unix_ns(kFakeStart + 70'000'000'000);
  }
  ~CliDoctorTest() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now());
  }

  void Start(std::shared_ptr<grpc::ServerCredentials> credentials =
                 grpc::InsecureServerCredentials()) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", credentials, &port_);
    builder.RegisterService(&query_);
    builder.RegisterService(&telemetry_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    around_.env["GRADTAP_COLLECTOR"] = "127.0.0.1:" + std::to_string(port_);
  }
  void StartTls(const CertificateWish& wish, bool wants_ours = false) {
    const std::string file = dir_.path() + "/collector";
    MakeCertificate(wish, file);
    grpc::SslServerCredentialsOptions options(
        wants_ours ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                   : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    options.pem_root_certs = ReadText(file + ".pem");
    options.pem_key_cert_pairs.push_back(
        {ReadText(file + ".key"), ReadText(file + ".pem")});
    Start(grpc::SslServerCredentials(options));
    around_.env["GRADTAP_TLS"] = "true";  // As agents take it, too.
    around_.env["GRADTAP_TLS_CA"] = file + ".pem";
  }
  CliResult Ask(std::vector<std::string> args = {}) {
    args.insert(args.begin(), {"doctor", "--timeout", "60"});
    return RunCli(args, around_);
  }

  const TempDir dir_;
  CliSurroundings around_;
  FakeQueryService query_;
  FakeTelemetry telemetry_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(CliDoctorTest, ACollectorThatIsThereIsFine) {
  Start();
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitOk) << result.out << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("takes connections"),
                                HasSubstr("none is needed to write"),
                                HasSubstr("it agrees with the collector's"),
                                HasSubstr("No problem found.")));
  EXPECT_EQ(result.err, "");
}

TEST_F(CliDoctorTest, NobodyThereIsExitCode3) {
  Start();
  server_->Shutdown(std::chrono::system_clock::now());
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitUnreachable) << result.out;
  EXPECT_THAT(result.out, HasSubstr("Connection refused"));
  // What to do has been said; not to ask the doctor.
  EXPECT_THAT(result.err, EndsWith("Connection refused)\n"));
}

TEST_F(CliDoctorTest, AProblemIsExitCode1InEveryFormat) {
  Start();
  telemetry_.ends_with = grpc::Status(grpc::UNAUTHENTICATED, "which token?");
  for (const char* format : {"table", "json", "csv"}) {
    const CliResult result = Ask({"--output", format});
    EXPECT_EQ(result.code, kExitFailed);
    EXPECT_THAT(result.out, HasSubstr("which token?"));
    EXPECT_THAT(result.err, HasSubstr("1 problem, the first: which token?"));
  }
}

TEST_F(CliDoctorTest, ATokenThatOnlyWritesIsToldByASession) {
  Start();
  query_.failure = grpc::Status(grpc::PERMISSION_DENIED, "no");
  around_.env["GRADTAP_TOKEN"] = "writer";
  around_.env["GRADTAP_RUN"] = "vis-1";
  EXPECT_THAT(Ask().out, AllOf(HasSubstr("version and clock are not known"),
                               Not(HasSubstr("the run 'vis-1'"))));
  telemetry_.version = "99.1.0";
  telemetry_.time = std::to_string(kFakeStart + 70'000'000'000);
  telemetry_.runs = "vis-";
  EXPECT_THAT(Ask().out, AllOf(HasSubstr("it may write the run 'vis-1'"),
                               HasSubstr("gradtapd '99.1.0'"),
                               HasSubstr("it agrees with the collector's")));
  around_.env["GRADTAP_RUN"] = "other";
  const CliResult other = Ask();
  EXPECT_EQ(other.code, kExitFailed);
  EXPECT_THAT(other.out, AllOf(HasSubstr("not one of vis-"),
                               HasSubstr("another GRADTAP_RUN than 'other'")));
  for (const char* time : {"99999999999999999999", "-1", "soon", ""}) {
    telemetry_.time = time;
    EXPECT_THAT(Ask().out, HasSubstr("does not tell its time")) << time;
  }
}

TEST_F(CliDoctorTest, AnAddressThatIsNoneIsAQuestionOfUsage) {
  const CliResult result = Ask({"--collector", "http://x"});
  EXPECT_EQ(result.code, kExitUsage);
  EXPECT_EQ(result.out, "");
}

TEST_F(CliDoctorTest, AGoodCertificateIsFine) {
  StartTls({});
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitOk) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("for '127.0.0.1' is good until"));
}

TEST_F(CliDoctorTest, AnExpiredCertificateIsToldAsSuch) {
  StartTls({.from_s = -7200, .until_s = -3600});
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("has expired: valid until "));
}

TEST_F(CliDoctorTest, ACertificateOfTomorrowIsToldAsSuch) {
  StartTls({.from_s = 86400, .until_s = 2 * 86400});
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("not valid yet: from "));
}

TEST_F(CliDoctorTest, ACertificateOfAnotherNameIsToldAsSuch) {
  StartTls({.names = "DNS:elsewhere"});
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("is for 'elsewhere', not for '127.0.0.1'"));
}

TEST_F(CliDoctorTest, AnUnknownAuthorityIsToldAsSuch) {
  StartTls({});
  const std::string other = dir_.path() + "/other";
  MakeCertificate({.subject = "other"}, other);
  around_.env["GRADTAP_TLS_CA"] = other + ".pem";
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("an authority that is not trusted here"));
}

TEST_F(CliDoctorTest, ACollectorThatWantsACertificateIsToldAsSuch) {
  StartTls({}, /*wants_ours=*/true);
  CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("wants a certificate of ours"));
  const std::string other = dir_.path() + "/other";
  MakeCertificate({.subject = "other"}, other);
  around_.env["GRADTAP_TLS_CERT"] = other + ".pem";
  around_.env["GRADTAP_TLS_KEY"] = other + ".key";
  EXPECT_THAT(Ask().out, HasSubstr("refuses our certificate"));
  around_.env["GRADTAP_TLS_KEY"] = dir_.path() + "/collector.key";
  EXPECT_THAT(Ask().out, HasSubstr("GRADTAP_TLS_KEY cannot be used: key "));
  around_.env["GRADTAP_TLS_CERT"] = dir_.path() + "/collector.pem";
  result = Ask();
  EXPECT_EQ(result.code, kExitOk) << result.out;
}

TEST_F(CliDoctorTest, TlsOnOneSideAloneIsToldAsSuch) {
  StartTls({});
  around_.env.erase("GRADTAP_TLS");
  around_.env.erase("GRADTAP_TLS_CA");
  CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("speaks TLS, and TLS is off here"));
  server_->Shutdown(std::chrono::system_clock::now());
  Start();
  around_.env["GRADTAP_TLS"] = "1";
  result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("no TLS handshake"));
}

TEST_F(CliDoctorTest, FoldersAreLookedAtAndNotChanged) {
  Start();
  const std::string rings = dir_.path() + "/rings";
  fs::create_directory(rings);
  ASSERT_EQ(::chmod(rings.c_str(), 0755), 0);
  around_.env["GRADTAP_RING_FOLDER"] = rings;
  around_.env["GRADTAP_SPOOL"] = dir_.path() + "/not/there/yet";
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("/rings' has mode 0755"),
                    HasSubstr("/not/there/yet' will be made, and '" +
                              dir_.path() + "' can be written")));
  EXPECT_FALSE(fs::exists(dir_.path() + "/not"));
}

TEST_F(CliDoctorTest, ASpoolBehindALinkIsAProblem) {
  Start();
  const std::string link = dir_.path() + "/link";
  fs::create_directory_symlink(dir_.path(), link);
  around_.env["GRADTAP_SPOOL"] = link;
  const CliResult result = Ask();
  EXPECT_EQ(result.code, kExitFailed);
  EXPECT_THAT(result.out, HasSubstr("/link' is a symbolic link"));
}

TEST_F(CliDoctorTest, ATokenFileOfTheCommandLineIsUsedAndNotShown) {
  Start();
  const std::string file = dir_.path() + "/token";
  std::ofstream(file) << "s3cret\n";
  const CliResult result = Ask({"--token-file", file});
  EXPECT_EQ(result.code, kExitOk) << result.out;
  EXPECT_THAT(query_.LastAuthorization(), "Bearer s3cret");
  EXPECT_THAT(result.out, Not(HasSubstr("s3cret")));
}

}  // namespace
}  // namespace gradtap::client::testing
