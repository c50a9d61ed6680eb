// Calls of which nothing comes but the head, by a peer that keeps no rule.

#include <gmock/gmock.h>

#include <chrono>
#include <filesystem>
#include <string>

#include "server/service/bytes_call.h"
#include "server/service/raw_peer.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kGetRun[] = "/gradtap.v1.Query/GetRun";

class HeadsAloneTest : public ServiceTest {
 protected:
  // Asked over a connection of its own, until it is answered: its address may
  // be shut, or have all the calls that it may have.
  std::uint64_t Refused(const std::string& name) {
    v1::GetStatusResponse answer;
    grpc::Status status;
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::seconds(60);
    do {
      grpc::ClientContext context;
      context.set_wait_for_ready(true);
      context.set_deadline(std::chrono::system_clock::now() +
                           std::chrono::seconds(60));
      status = stub_->GetStatus(&context, v1::GetStatusRequest(), &answer);
    } while (!status.ok() && std::chrono::steady_clock::now() < end);
    EXPECT_TRUE(status.ok()) << status.error_message();
    for (const v1::LimitFigures& limit : answer.figures().limits()) {
      if (limit.limit() == name) return limit.refused();
    }
    return 0;
  }
};

TEST_F(HeadsAloneTest, TheyTakePlacesAndWhoWantsMoreLosesTheConnection) {
  CollectorOptions options;
  options.max_calls = 8;
  Start(options);
  RawPeer peer(collector_->grpc_address(), kGetRun);
  peer.SendHeads(10);  // Six have a place; it is refused five times.
  EXPECT_TRUE(peer.AwaitClosed());
  EXPECT_EQ(Refused("open_calls"), 5u);
}

TEST_F(HeadsAloneTest, AConnectionIsToldHowManyItMayHave) {
  CollectorOptions options;
  options.max_streams = 7;
  Start(options);
  RawPeer peer(collector_->grpc_address(), kGetRun);
  EXPECT_EQ(peer.AwaitMaxStreams(), 7u);
}

TEST_F(HeadsAloneTest,
       TheyAreBoundedWhereTheirPeerDoesNotHearHowManyItMayHave) {
  Start();
  RawPeer peer(collector_->grpc_address(), kGetRun);
  peer.SendHeads(40'000);
  EXPECT_TRUE(peer.AwaitClosed());
  EXPECT_GE(Refused("open_calls"), 5u);
}

TEST_F(HeadsAloneTest, ARequestThatDoesNotComeInTimeEndsTheConnection) {
  CollectorOptions options;
  options.connections.request_time = std::chrono::seconds(1);
  Start(options);
  for (const char* path :
       {kGetRun, "/gradtap.v1.Query/Watch", "/gradtap.v1.Query/WatchAlerts",
        "/gradtap.v1.Upkeep/Backup"}) {
    RawPeer peer(collector_->grpc_address(), path);
    EXPECT_TRUE(peer.AwaitClosed()) << path;
  }
  EXPECT_EQ(Refused("request_time"), 4u);
}

TEST_F(HeadsAloneTest, WithoutARequestNothingIsDone) {
  CollectorOptions options;
  options.backup_dir = dir_.path() + "/backups";
  Start(options);
  for (const char* path :
       {kGetRun, "/gradtap.v1.Query/ListRuns", "/gradtap.v1.Query/Watch",
        "/gradtap.v1.Upkeep/Backup", "/gradtap.v1.Upkeep/Compact"}) {
    BytesCall call(channel_, path);
    call.WritesDone();
    std::string answer;
    EXPECT_FALSE(call.Read(&answer)) << path;
    const grpc::Status status = call.Finish();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << path;
    EXPECT_THAT(status.error_message(), HasSubstr("no request")) << path;
  }
  EXPECT_FALSE(std::filesystem::exists(options.backup_dir));
}

}  // namespace
}  // namespace gradtap::server::testing
