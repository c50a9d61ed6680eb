// The program gradtapd: its first line, its exit codes, its signals.

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "gradtap/v1/telemetry.grpc.pb.h"
#include "server/service/gradtapd_process.h"
#include "server/service/raw_peer.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

class GradtapdTest : public ::testing::Test {
 protected:
  std::unique_ptr<Gradtapd> Run(const std::vector<std::string>& arguments) {
    return std::make_unique<Gradtapd>(
        dir_.path() + "/stderr" + std::to_string(runs_++), arguments);
  }
  std::unique_ptr<Gradtapd> RunOn(const std::string& folder,
                                  const std::string& listen = "127.0.0.1:0") {
    return Run({"--data-dir", dir_.path() + "/" + folder, "--grpc-listen",
                listen, "--http-listen", "127.0.0.1:0"});
  }

  static std::string AddressOf(const std::string& first_line) {
    const std::size_t begin = first_line.find("grpc=") + 5;
    return first_line.substr(begin, first_line.find(' ', begin) - begin);
  }

  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }

  // One line on standard error, and nothing on standard output.
  static void ExpectFailure(Gradtapd* process, int code,
                            const std::string& text) {
    EXPECT_EQ(process->ReadLine(), "");
    EXPECT_EQ(process->Wait(), code);
    const std::string errors = process->Errors();
    EXPECT_THAT(errors, AllOf(HasSubstr("gradtapd: "), HasSubstr(text)));
    EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  }

  gradtap::testing::TempDir dir_;
  int runs_ = 0;
};

v1::AgentMessage HelloOf(const std::string& run, char nonce, int records) {
  v1::AgentMessage message;
  v1::Hello& hello = *message.mutable_hello();
  hello.set_protocol_version(1);
  hello.set_run(run);
  hello.set_launch("launch");
  hello.set_world_size(1);
  hello.set_process_nonce(std::string(16, nonce));
  hello.set_start_time_unix_ns(kStart);
  hello.set_first_seq(1);
  hello.set_last_seq(static_cast<std::uint64_t>(records));
  return message;
}

// Sends a schema and steps [0, n) and waits until they are acknowledged.
void SendSteps(const std::shared_ptr<grpc::Channel>& channel, int n) {
  const auto stub = v1::Telemetry::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  const auto session = stub->Session(&context);
  v1::AgentMessage message = HelloOf("run", 'n', n + 1);
  ASSERT_TRUE(session->Write(message));
  v1::CollectorMessage answer;
  ASSERT_TRUE(session->Read(&answer));
  ASSERT_TRUE(answer.has_welcome()) << answer.ShortDebugString();
  std::string list;
  AppendToRecordList(EncodeSchema(OneParameter()), &list);
  for (int step = 0; step < n; ++step) {
    AppendToRecordList(StepRecord(step, static_cast<float>(step)), &list);
  }
  message.Clear();
  message.mutable_batch()->set_first_seq(1);
  message.mutable_batch()->set_record_count(static_cast<std::uint32_t>(n) + 1);
  message.mutable_batch()->set_frame(CompressFrame(list));
  ASSERT_TRUE(session->Write(message));
  std::uint64_t durable = 0;
  while (durable < static_cast<std::uint64_t>(n) + 1) {
    ASSERT_TRUE(session->Read(&answer));
    if (answer.has_ack()) durable = answer.ack().durable_seq();
  }
  context.TryCancel();
  session->Finish();
}

TEST_F(GradtapdTest, FirstLineSaysWhereItListensAndSigtermExitsWithZero) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    auto process = RunOn("data");
    const std::string line = process->ReadLine();
    EXPECT_THAT(line,
                MatchesRegex("gradtapd listening grpc=127\\.0\\.0\\.1:[0-9]+ "
                             "http=127\\.0\\.0\\.1:[0-9]+"));
    process->Signal(number);
    EXPECT_EQ(process->ReadLine(), "");  // Nothing else on standard output.
    EXPECT_EQ(process->Wait(), 0);
  }
}

TEST_F(GradtapdTest, AsksForHugePagesUnlessToldOtherwise) {
  {
    const auto gradtapd = RunOn("data");
    ASSERT_THAT(gradtapd->ReadLine(), HasSubstr("listening"));
    EXPECT_THAT(gradtapd->Proc("environ"), HasSubstr("glibc.malloc.hugetlb=1"));
    EXPECT_EQ(gradtapd->Proc("comm"), "gradtapd\n");
    EXPECT_THAT(gradtapd->Proc("cmdline"), HasSubstr("--grpc-listen"));
  }
  ASSERT_EQ(::setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0", 1), 0);
  const auto gradtapd = RunOn("data");
  ::unsetenv("GLIBC_TUNABLES");
  ASSERT_THAT(gradtapd->ReadLine(), HasSubstr("listening"));
  EXPECT_THAT(gradtapd->Proc("environ"),
              AllOf(HasSubstr("glibc.malloc.hugetlb=0"),
                    ::testing::Not(HasSubstr("hugetlb=1"))));
}

TEST_F(GradtapdTest, MayHaveAsManyFilesOpenAsTheSystemGrants) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit few = before;
  few.rlim_cur = std::min<rlim_t>(256, before.rlim_max);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  const auto gradtapd = RunOn("data");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_THAT(gradtapd->ReadLine(), HasSubstr("listening"));
  std::istringstream limits(gradtapd->Proc("limits"));
  std::string line;
  while (std::getline(limits, line) && line.rfind("Max open files", 0) != 0) {
  }
  std::istringstream words(line.substr(sizeof "Max open files" - 1));
  std::string soft, hard;
  words >> soft >> hard;
  EXPECT_EQ(soft, hard);
  EXPECT_EQ(hard, std::to_string(before.rlim_max));
}

TEST_F(GradtapdTest, TheLastDescriptorsAreTheStoresNotConnections) {
  const auto gradtapd = RunOn("data");
  const std::string address = AddressOf(gradtapd->ReadLine());
  const auto channel = Connect(address);
  SendSteps(channel, 1);
  rlimit all{};
  ASSERT_EQ(::prlimit(gradtapd->pid(), RLIMIT_NOFILE, nullptr, &all), 0);
  rlimit few = all;
  few.rlim_cur = gradtapd->OpenFiles() + 3;
  ASSERT_EQ(::prlimit(gradtapd->pid(), RLIMIT_NOFILE, &few, nullptr), 0);
  for (int i = 0; i < 20; ++i) {
    const int fd = ConnectTo(address);
    ASSERT_GE(fd, 0);
    ASSERT_TRUE(AwaitClosed(fd));
    ::close(fd);
  }
  // Who is there already is served.
  v1::GetStatusResponse answer;
  const auto ask = [&](const std::shared_ptr<grpc::Channel>& through) {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(60));
    return v1::Query::NewStub(through)->GetStatus(
        &context, v1::GetStatusRequest(), &answer);
  };
  EXPECT_TRUE(ask(channel).ok());
  std::uint64_t refused = 0;
  for (const v1::LimitFigures& limit : answer.figures().limits()) {
    if (limit.limit() == "connections") refused = limit.refused();
  }
  EXPECT_GE(refused, 20u);
  ASSERT_EQ(::prlimit(gradtapd->pid(), RLIMIT_NOFILE, &all, nullptr), 0);
  EXPECT_TRUE(ask(Connect(address)).ok());
}

TEST_F(GradtapdTest, AcknowledgedStepsAreThereAfterKillMinusNine) {
  for (int round = 0; round < 3; ++round) {
    const std::string folder = "data" + std::to_string(round);
    {
      auto process = RunOn(folder);
      SendSteps(Connect(AddressOf(process->ReadLine())), 20);
      process->Signal(SIGKILL);
      EXPECT_EQ(process->Wait(), -SIGKILL);
    }
    auto process = RunOn(folder);
    const auto stub =
        v1::Query::NewStub(Connect(AddressOf(process->ReadLine())));
    grpc::ClientContext context;
    v1::GetSeriesRequest request;
    request.add_runs("run");
    request.add_statistics("weight.mean");
    v1::GetSeriesResponse response;
    const grpc::Status status = stub->GetSeries(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_EQ(response.series(0).step_size(), 20);
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(response.series(0).value(i), i);
    }
  }
}

TEST_F(GradtapdTest, SigtermDrainsAnOpenSessionAndExits) {
  auto process = RunOn("data");
  const auto channel = Connect(AddressOf(process->ReadLine()));
  SendSteps(channel, 3);
  const auto stub = v1::Query::NewStub(channel);
  grpc::ClientContext context;
  v1::WatchRequest request;
  request.set_run("run");
  const auto reader = stub->Watch(&context, request);
  v1::WatchResponse message;
  ASSERT_TRUE(reader->Read(&message));
  process->Signal(SIGTERM);
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(process->Wait(), 0);
}

TEST_F(GradtapdTest, APortInUseIsOneLineAndOne) {
  auto first = RunOn("one");
  const std::string address = AddressOf(first->ReadLine());
  ExpectFailure(RunOn("two", address).get(), 1, "Address already in use");
}

TEST_F(GradtapdTest, ALockedFolderIsOneLineAndOne) {
  auto first = RunOn("data");
  first->ReadLine();
  ExpectFailure(RunOn("data").get(), 1, "locked");
}

TEST_F(GradtapdTest, AFolderThatCannotBeWrittenIsOneLineAndOne) {
  std::ofstream(dir_.path() + "/file") << "in the way";
  ExpectFailure(RunOn("file/data").get(), 1, dir_.path() + "/file");
}

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
  ExpectFailure(Run({"--config", dir_.path() + "/none"}).get(), 2, "/none");
}

// What the package brings is what this program reads.
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

TEST_F(GradtapdTest, AFolderIsVerifiedAndMigratedOnceNoCollectorHasItOpen) {
  const std::string folder = dir_.path() + "/data";
  {
    auto process = RunOn("data");
    SendSteps(Connect(AddressOf(process->ReadLine())), 20);
    ExpectFailure(Run({"verify", "--data-dir", folder}).get(), 1, "locked");
    ExpectFailure(Run({"migrate", "--data-dir", folder}).get(), 1, "locked");
    process->Signal(SIGKILL);
    process->Wait();
  }
  const auto last_line = [](Gradtapd* process) {
    std::string last;
    for (std::string line; !(line = process->ReadLine()).empty();) last = line;
    return last;
  };
  auto verify = Run({"verify", "--data-dir", folder});
  EXPECT_EQ(last_line(verify.get()), "all is well");
  EXPECT_EQ(verify->Wait(), 0);
  auto migrate = Run({"--data-dir", folder, "migrate"});
  EXPECT_THAT(migrate->ReadLine(),
              HasSubstr("format 3 to 3, 20 rows sealed into 1 window"));
  EXPECT_EQ(migrate->Wait(), 0);
  std::filesystem::remove(folder + "/db/CURRENT");
  auto damaged = Run({"verify", "--data-dir", folder});
  EXPECT_THAT(damaged->ReadLine(), MatchesRegex("PROBLEM database: .*"));
  EXPECT_EQ(last_line(damaged.get()), "1 problem");
  EXPECT_EQ(damaged->Wait(), 1);
  ExpectFailure(Run({"verify", "--data-dir", folder + "/none"}).get(), 1,
                folder + "/none");
}

TEST_F(GradtapdTest, ABackupFolderWithinTheDataIsRefused) {
  const std::string folder = dir_.path() + "/data";
  ExpectFailure(Run({"--data-dir", folder, "--backup-dir", folder + "/copies",
                     "--grpc-listen", "127.0.0.1:0"})
                    .get(),
                2, "--backup-dir");
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
