// Backups and compaction over gRPC, by a whole collector.

#include "server/service/upkeep_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "gradtap/v1/upkeep.grpc.pb.h"
#include "server/service/service_testing.h"

namespace gradtap::server::testing {
namespace {

namespace fs = std::filesystem;

using ::gradtap::testing::StatusIs;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class UpkeepTest : public ServiceTest {
 protected:
  grpc::Status Backup(const std::string& name, v1::BackupResponse* response) {
    grpc::ClientContext context;
    SetDeadline(&context);
    v1::BackupRequest request;
    request.set_name(name);
    return v1::Upkeep::NewStub(channel_)->Backup(&context, request, response);
  }

  std::string backups() const { return dir_.path() + "/data.backups"; }
};

TEST_F(UpkeepTest, ABackupIsADataFolderThatACollectorServes) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  for (int i = 0; i < 10; ++i) feeder.Step(i, static_cast<float>(i));
  v1::BackupResponse made;
  const grpc::Status status = Backup("before-upgrade", &made);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(made.path(), backups() + "/before-upgrade");
  EXPECT_EQ(made.runs(), 1u);
  EXPECT_EQ(made.rows(), 10u);
  EXPECT_GT(made.bytes(), 0u);
  EXPECT_GE(made.took_ns(), 0);
  // The restore: the folder is lost, and its copy takes its place.
  collector_->Shutdown();
  fs::remove_all(dir_.path() + "/data");
  fs::copy(made.path(), dir_.path() + "/data", fs::copy_options::recursive);
  Start();
  v1::GetSeriesRequest request;
  request.add_runs("run");
  request.add_statistics("weight.mean");
  v1::GetSeriesResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(stub_->GetSeries(&context, request, &response).ok());
  ASSERT_EQ(response.series(0).value_size(), 10);
  EXPECT_EQ(response.series(0).value(9), 9);
}

TEST_F(UpkeepTest, WithoutANameItIsTheTime) {
  Start();
  v1::BackupResponse made;
  ASSERT_TRUE(Backup("", &made).ok());
  EXPECT_THAT(fs::path(made.path()).filename().string(),
              MatchesRegex("[0-9]{8}-[0-9]{6}Z"));
}

TEST_F(UpkeepTest, NoNameLeadsOutOfTheFolderOfBackups) {
  Start();
  for (const char* name :
       {"../out", "/tmp/out", "a/b", ".", "..", ".hidden", "a\nb", "~", "*"}) {
    v1::BackupResponse made;
    const grpc::Status status = Backup(name, &made);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << name;
    EXPECT_THAT(status.error_message(), HasSubstr("--backup-dir"));
    EXPECT_THAT(status.error_message(), HasSubstr(backups()));
  }
  EXPECT_FALSE(fs::exists(backups()));
  EXPECT_FALSE(fs::exists(dir_.path() + "/out"));
}

TEST_F(UpkeepTest, ANameThatIsTakenIsRefused) {
  Start();
  v1::BackupResponse made;
  ASSERT_TRUE(Backup("one", &made).ok());
  const grpc::Status status = Backup("one", &made);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(status.error_message(), HasSubstr("choose another name"));
}

TEST_F(UpkeepTest, ACollectorMaySwitchBackupsOff) {
  CollectorOptions options;
  options.backup_dir = "off";
  Start(options);
  v1::BackupResponse made;
  const grpc::Status status = Backup("one", &made);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("--backup-dir off"));
}

TEST_F(UpkeepTest, CompactionTellsWhatItGaveBack) {
  Start();
  Feeder feeder(&collector_->store(), "run");
  for (int i = 0; i < 50; ++i) feeder.Step(i, 1);
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::CompactResponse done;
  const grpc::Status status =
      v1::Upkeep::NewStub(channel_)->Compact(&context, {}, &done);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_GT(done.bytes_after(), 0u);
  EXPECT_EQ(done.families_size(), 7);
}

TEST(BackupFolderTest, ByDefaultIsBesideTheData) {
  for (const char* data : {"/srv/gradtap", "/srv/gradtap/", "/srv//gradtap/.",
                           "/srv/x/../gradtap"}) {
    const auto folder = BackupFolder("", data);
    GRADTAP_ASSERT_OK(folder);
    EXPECT_EQ(*folder, "/srv/gradtap.backups") << data;
  }
  EXPECT_EQ(*BackupFolder("off", "/srv/gradtap"), "");
  EXPECT_EQ(*BackupFolder("/copies", "/srv/gradtap"), "/copies");
}

TEST(BackupFolderTest, WithinTheDataItIsRefused) {
  const gradtap::testing::TempDir temp;
  fs::create_directories(temp.path() + "/data");
  fs::create_directory_symlink(temp.path() + "/data", temp.path() + "/link");
  const std::string data = temp.path() + "/data";
  for (const std::string& folder :
       {data, data + "/", data + "/backups", temp.path() + "/x/../data/b",
        temp.path() + "/link/backups"}) {
    EXPECT_THAT(
        BackupFolder(folder, data),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--backup-dir")))
        << folder;
  }
  GRADTAP_EXPECT_OK(BackupFolder(data + "-backups", data));
}

}  // namespace
}  // namespace gradtap::server::testing
