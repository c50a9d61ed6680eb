// What gradtapd takes on its command line and from a file: good values hold,
// and wrong ones are named in one line.

#include <gmock/gmock.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "server/service/gradtapd_testing.h"
#include "support/certificates.h"

namespace gradtap::server::testing {
namespace {

using ::gradtap::testing::MadeCertificate;
using ::gradtap::testing::MakeCertificate;
using ::gradtap::testing::ReadWhole;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

TEST_F(GradtapdTest, WrongUsageIsOneLineAndTwo) {
  ExpectFailure(Run({"--no-such-flag"}).get(), 2, "--no-such-flag");
  ExpectFailure(RunOn("data", "nonsense").get(), 2, "'nonsense'");
  ExpectFailure(RunOn("data", "0.0.0.0:0").get(), 2, "--allow-insecure");
  ExpectFailure(RunOn("data", std::string("\x1b[31m:1")).get(), 2, "HOST:PORT");
}

TEST_F(GradtapdTest, OptionsComeFromAFileAndTheCommandLineWins) {
  const std::string file = dir_.path() + "/options";
  std::ofstream(file) << "# A comment.\n"
                      << "data-dir = \"" << dir_.path() << "/data\"\n"
                      << "grpc-listen = \"nonsense\"\n"
                      << "http-listen = \"off\"\n";
  ExpectFailure(Run({"--config", file}).get(), 2, "'nonsense'");
  const auto served = Run({"--config", file, "--grpc-listen", "127.0.0.1:0"});
  EXPECT_THAT(served->ReadLine(), HasSubstr("http=off"));
  EXPECT_TRUE(std::filesystem::exists(dir_.path() + "/data"));

  std::ofstream(file) << "keep-for = \"90d\"\nkeep-fro = \"90d\"\n";
  ExpectFailure(Run({"--config", file}).get(), 2, "keep-fro");
  std::ofstream(file) << "keep-for = \"90x\"\n";
  ExpectFailure(Run({"--config", file}).get(), 2, "'90x'");
  ExpectFailure(Run({"--config", dir_.path() + "/none"}).get(), 2,
                "--config: " + dir_.path() + "/none");
}

TEST_F(GradtapdTest, ThePackagesOptionsAreGood) {
  const auto served =
      Run({"--config", GRADTAPD_CONF, "--data-dir", dir_.path() + "/data",
           "--backup-dir", dir_.path() + "/backups", "--grpc-listen",
           "127.0.0.1:0", "--http-listen", "off"});
  EXPECT_THAT(served->ReadLine(), HasSubstr("listening"));
}

TEST_F(GradtapdTest, AWrongLimitNamesOptionAndValue) {
  ExpectFailure(Run({"--keep-for", "30"}).get(), 2, "--keep-for: '30' is no");
  ExpectFailure(Run({"--keep-bytes", "much"}).get(), 2,
                "--keep-bytes: 'much' is no");
  ExpectFailure(Run({"--disk-reserve", "-1GiB"}).get(), 2,
                "--disk-reserve: '-1GiB' is no");
}

TEST_F(GradtapdTest, ALimitThatCannotBeMeantNamesValueAndRange) {
  ExpectFailure(Run({"--max-sessions", "0"}).get(), 2,
                "--max-sessions: '0' is no whole number from 1 to 100000");
  ExpectFailure(Run({"--max-parameters", "1000001"}).get(), 2,
                "--max-parameters: '1000001'");
  ExpectFailure(Run({"--max-runs", "-1"}).get(), 2, "--max-runs: '-1'");
  ExpectFailure(Run({"--grpc-memory", "1KiB"}).get(), 2,
                "--grpc-memory: '1KiB' is not within");
  ExpectFailure(Run({"--max-name-bytes", "513"}).get(), 2,
                "--max-name-bytes: '513'");
  ExpectFailure(Run({"--max-batch-bytes", "1KiB"}).get(), 2,
                "--max-batch-bytes: '1KiB' is not within");
  ExpectFailure(Run({"--handshake-time", "2h"}).get(), 2,
                "--handshake-time: '2h' is not within 1s and 1h");
  ExpectFailure(Run({"--idle-time", "soon"}).get(), 2,
                "--idle-time: 'soon' is no");
  ExpectFailure(Run({"--max-requests", "0"}).get(), 2,
                "--max-requests: '0' is no whole number");
  ExpectFailure(Run({"--max-step-bytes", "many"}).get(), 2,
                "--max-step-bytes: 'many' is no");
}

TEST_F(GradtapdTest, ALimitThatIsGivenHolds) {
  const auto served = Run({"--data-dir", dir_.path() + "/data", "--grpc-listen",
                           "127.0.0.1:0", "--http-listen", "off", "--max-runs",
                           "1", "--max-schema-bytes", "64KiB"});
  const auto channel = Connect(AddressOf(served->ReadLine()));
  SendSteps(channel, 1);
  const auto stub = v1::Telemetry::NewStub(channel);
  const auto deadline =
      std::chrono::system_clock::now() + std::chrono::seconds(60);
  v1::CollectorMessage answer;
  {
    grpc::ClientContext context;
    context.set_deadline(deadline);
    const auto session = stub->Session(&context);
    ASSERT_TRUE(session->Write(HelloOf("another", 'a', 1)));
    ASSERT_TRUE(session->Read(&answer));
    EXPECT_EQ(answer.reject().code(), v1::Reject::CODE_LIMIT)
        << answer.ShortDebugString();
    session->Finish();
  }
  Schema large = OneParameter();
  large.parameters[0].name = std::string(500, 'n');
  large.parameters.resize(200, large.parameters[0]);
  std::string list;
  AppendToRecordList(EncodeSchema(large), &list);
  grpc::ClientContext context;
  context.set_deadline(deadline);
  const auto session = stub->Session(&context);
  v1::AgentMessage message = HelloOf("run", 'b', 1);
  ASSERT_TRUE(session->Write(message));
  ASSERT_TRUE(session->Read(&answer));
  ASSERT_TRUE(answer.has_welcome()) << answer.ShortDebugString();
  message.Clear();
  message.mutable_batch()->set_first_seq(1);
  message.mutable_batch()->set_record_count(1);
  message.mutable_batch()->set_frame(CompressFrame(list));
  ASSERT_TRUE(session->Write(message));
  ASSERT_TRUE(session->Read(&answer));
  ASSERT_EQ(answer.ack().rejected_size(), 1) << answer.ShortDebugString();
  EXPECT_THAT(answer.ack().rejected(0).reason(), HasSubstr("65536"));
  context.TryCancel();
  session->Finish();
}

TEST_F(GradtapdTest, ABackupFolderWithinTheDataIsRefused) {
  const std::string folder = dir_.path() + "/data";
  ExpectFailure(Run({"--data-dir", folder, "--backup-dir", folder + "/copies",
                     "--grpc-listen", "127.0.0.1:0"})
                    .get(),
                2, "--backup-dir");
}

// The service is not tried again after 2: a wrong option stays wrong. Of these
// files another one may be there a moment later.
TEST_F(GradtapdTest, CertificatesThatCannotBeUsedAreNoWrongOption) {
  const MadeCertificate one = MakeCertificate(dir_.path(), "one");
  const MadeCertificate two = MakeCertificate(dir_.path(), "two");
  const std::string none = dir_.path() + "/none";
  const auto served = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "--data-dir",  dir_.path() + "/data", "--grpc-listen",
        "127.0.0.1:0", "--http-listen",       "off"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  };
  ExpectFailure(served({"--tls-cert", none, "--tls-key", one.key}).get(), 1,
                "--tls-cert: cannot read " + none);
  ExpectFailure(served({"--tls-cert", one.cert, "--tls-key", none}).get(), 1,
                "--tls-key: cannot read " + none);
  ExpectFailure(served({"--tls-cert", one.cert, "--tls-key", two.key}).get(), 1,
                "--tls-key: " + two.key + " is not the key of " + one.cert);
  ExpectFailure(served({"--tls-cert", one.cert, "--tls-key", one.key,
                        "--tls-client-ca", one.key})
                    .get(),
                1, "--tls-client-ca: " + one.key);
  ExpectFailure(served({"--tls-cert", one.cert}).get(), 2, "--tls-key");
}

TEST_F(GradtapdTest, TokensAreMadeListedAndRevoked) {
  const std::string folder = dir_.path() + "/data";
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "token");
    arguments.insert(arguments.end(), {"--data-dir", folder});
    return Run(arguments);
  };
  auto made = run({"create", "--name", "ann", "--role", "write,read", "--runs",
                   "vision-", "--expires-in", "90d"});
  const std::string token = made->ReadLine();
  EXPECT_THAT(token, MatchesRegex("gradtap_[0-9a-f]{8}_[A-Za-z0-9_-]{43}"));
  EXPECT_EQ(made->ReadLine(), "");
  EXPECT_EQ(made->Wait(), 0);
  const std::string id = token.substr(8, 8);
  EXPECT_THAT(made->Errors(), AllOf(HasSubstr(id), HasSubstr("vision-*"),
                                    Not(HasSubstr(token.substr(17)))));
  auto list = run({"list"});
  EXPECT_THAT(list->ReadLine(), HasSubstr("ID"));
  EXPECT_THAT(list->ReadLine(),
              AllOf(HasSubstr(id), HasSubstr("write,read"), HasSubstr("ann"),
                    HasSubstr("vision-*"), Not(HasSubstr(token.substr(17)))));
  EXPECT_EQ(list->ReadLine(), "");
  EXPECT_EQ(list->Wait(), 0);
  auto revoked = run({"revoke", id});
  EXPECT_EQ(revoked->ReadLine(), "token " + id + " is revoked");
  EXPECT_EQ(revoked->Wait(), 0);
  ExpectFailure(run({"revoke", id}).get(), 1, "'" + id + "'");
}

// What the collector asks is that file: a token that is revoked in another one
// goes on working.
TEST_F(GradtapdTest, TokensAreThoseOfTheFileThatTheCollectorIsTold) {
  const std::string folder = dir_.path() + "/data";
  const std::string tokens = dir_.path() + "/elsewhere";
  const std::string other = dir_.path() + "/other";
  const std::string config = dir_.path() + "/options";
  std::ofstream(config) << "data-dir = \"" << folder << "\"\n"
                        << "tokens = \"" << tokens << "\"\n";
  const std::vector<std::vector<std::string>> told = {
      {"--config", config}, {"--data-dir", folder, "--tokens", tokens}};
  for (const std::vector<std::string>& options : told) {
    const auto run = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.begin(), "token");
      arguments.insert(arguments.begin(), options.begin(), options.end());
      return Run(arguments);
    };
    const auto made = run({"create", "--name", "ann", "--role", "read"});
    const std::string id = made->ReadLine().substr(8, 8);
    EXPECT_EQ(made->Wait(), 0);
    EXPECT_THAT(ReadWhole(tokens), HasSubstr(id));
    const auto list = run({"list"});
    EXPECT_THAT(list->ReadLine(), HasSubstr("ID"));
    EXPECT_THAT(list->ReadLine(), HasSubstr(id));
    EXPECT_EQ(list->Wait(), 0);
    EXPECT_EQ(run({"revoke", id})->Wait(), 0);
    EXPECT_THAT(ReadWhole(tokens), Not(HasSubstr(id)));
    // The command's own word wins.
    const auto there =
        run({"--tokens", other, "create", "--name", "ann", "--role", "read"});
    const std::string other_id = there->ReadLine().substr(8, 8);
    EXPECT_EQ(there->Wait(), 0);
    EXPECT_THAT(ReadWhole(other), HasSubstr(other_id));
    EXPECT_THAT(ReadWhole(tokens), Not(HasSubstr(other_id)));
  }
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(GradtapdTest, AWrongTokenOptionNamesItsValue) {
  const std::string folder = dir_.path() + "/data";
  const auto create = [&](const std::string& name, const std::string& role,
                          const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"token",      "create", "--name",
                                          name,         "--role", role,
                                          "--data-dir", folder};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return Run(arguments);
  };
  ExpectFailure(create("a b", "read", {}).get(), 2, "'a b'");
  ExpectFailure(create("\x1b[31m", "read", {}).get(), 2, "--name");
  ExpectFailure(create("a", "root", {}).get(), 2, "'root' is no role");
  ExpectFailure(create("a", "read,", {}).get(), 2, "'' is no role");
  ExpectFailure(create("a", "read", {"--runs", "a/b"}).get(), 2, "'a/b'");
  ExpectFailure(create("a", "read", {"--expires-in", "soon"}).get(), 2, "soon");
  ExpectFailure(create("a", "read", {"--expires-in", "0"}).get(), 2,
                "leave it out");
  ExpectFailure(Run({"token", "--data-dir", folder}).get(), 2, "--help");
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(GradtapdTest, ATokenIsNoOptionThatPsWouldShow) {
  const std::vector<std::vector<std::string>> lines = {
      {"--token", "secret"},
      {"--token=secret"},
      {"token", "create", "--name", "a", "--role", "read", "--token=secret"},
      {"token", "create", "--name", "a", "--role", "read", "--token",
       "secret"}};
  for (const auto& line : lines) {
    const auto process = Run(line);
    EXPECT_EQ(process->ReadLine(), "");
    EXPECT_EQ(process->Wait(), 2);
    EXPECT_THAT(process->Errors(),
                AllOf(HasSubstr("--token"), Not(HasSubstr("secret"))));
  }
}

TEST_F(GradtapdTest, ATokenIsNotRepeatedWhateverItIsGivenFor) {
  const std::string secret(43, 'x');
  const std::string token = "gradtap_3f9a0c1d_" + secret;
  const std::vector<std::vector<std::string>> lines = {
      {"-token", token},
      {"--Token", token},
      {"--token:" + token},
      {"--api-token=" + token},
      {token},
      {"--data-dir", dir_.path() + "/data", "--grpc-listen", token},
      {"token", "create", "--name", "a", "--role", token},
      {"token", "--tokens", dir_.path() + "/tokens", "revoke", token}};
  for (const auto& line : lines) {
    const auto process = Run(line);
    EXPECT_EQ(process->ReadLine(), "");
    EXPECT_NE(process->Wait(), 0);
    EXPECT_THAT(process->Errors(), AllOf(HasSubstr("gradtap_3f9a0c1d_..."),
                                         Not(HasSubstr(secret))));
  }
}

TEST_F(GradtapdTest, ListenAddressesAreOneOfAKind) {
  ExpectFailure(
      Run({"--grpc-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"})
          .get(),
      2, "one address and one socket");
  const std::string socket = "unix:" + dir_.path() + "/run/grpc";
  auto process = Run({"--data-dir", dir_.path() + "/data", "--grpc-listen",
                      socket, "--http-listen", "off"});
  EXPECT_EQ(process->ReadLine(),
            "gradtapd listening grpc=" + socket + " http=off");
  SendSteps(Connect(socket), 3);
  process->Signal(SIGTERM);
  EXPECT_EQ(process->Wait(), 0);
}

TEST_F(GradtapdTest, HelpShowsAnExampleAndVersionTheVersion) {
  auto version = Run({"--version"});
  EXPECT_THAT(version->ReadLine(), MatchesRegex("gradtapd [0-9.]+"));
  EXPECT_EQ(version->Wait(), 0);
  auto help = Run({"--help"});
  bool example = false;
  for (int i = 0; i < 200; ++i) {
    const std::string line = help->ReadLine();
    example |= line.find("gradtapd --data-dir") != std::string::npos;
  }
  EXPECT_TRUE(example);
  EXPECT_EQ(help->Wait(), 0);
}

}  // namespace
}  // namespace gradtap::server::testing
