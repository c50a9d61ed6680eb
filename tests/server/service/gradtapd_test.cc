// The program gradtapd: its first line, its signals, what it survives, and who
// may have its folder.

#include <gmock/gmock.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "server/service/gradtapd_testing.h"
#include "server/service/raw_peer.h"

namespace gradtap::server::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

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

// What the package brings is what this program reads.
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

}  // namespace
}  // namespace gradtap::server::testing
