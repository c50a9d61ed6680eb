// Copies of a folder in use, and its compaction.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/store/faulty_fs.h"
#include "server/store/rocksdb_store.h"
#include "server/store/run_of_steps.h"
#include "server/store/store_testing.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::server {
namespace {

namespace fs = std::filesystem;

using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::testing::_;
using testing::CheckStore;
using testing::CommitSteps;
using testing::FaultyEnv;
using ::testing::HasSubstr;
using testing::kStepsPerCommit;
using testing::MakeHello;

constexpr std::int64_t kNow = 1'700'000'000'000'000'000;

class StoreUpkeepTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto store = RocksdbStore::Open({data_}, env_.env());
    GRADTAP_ASSERT_OK(store);
    store_ = *std::move(store);
    const auto stream = store_->OpenStream(MakeHello(), kNow);
    GRADTAP_ASSERT_OK(stream);
    id_ = stream->id;
  }

  // What a copy holds: its durable seq. All checks of CheckStore() are made.
  static std::uint64_t Holds(const std::string& dir) {
    const auto copy = RocksdbStore::Open({dir}, nullptr);
    EXPECT_TRUE(copy.ok()) << copy.status();
    return copy.ok() ? CheckStore(copy->get()) : 0;
  }

  // Nothing but what is expected lies in the folder of the backups.
  std::size_t FilesOfBackups() const {
    std::error_code error;
    std::size_t n = 0;
    for (fs::directory_iterator it(backups_, error), end; !error && it != end;
         it.increment(error)) {
      ++n;
    }
    return n;
  }

  TempDir temp_;
  const std::string data_ = temp_.path() + "/data";
  const std::string backups_ = temp_.path() + "/backups";
  FaultyEnv env_;
  std::unique_ptr<RocksdbStore> store_;
  StreamId id_ = 0;
  std::atomic<bool> cancelled_{false};
};

TEST_F(StoreUpkeepTest, ACopyHoldsWhatWasCommittedAndNothingLater) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  const auto made = store_->Backup(backups_ + "/one", cancelled_);
  GRADTAP_ASSERT_OK(made);
  EXPECT_EQ(made->runs, 1u);
  EXPECT_EQ(made->rows, 3u);
  EXPECT_GT(made->bytes, 0u);
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 3));
  EXPECT_EQ(Holds(backups_ + "/one"), 3u);
  EXPECT_EQ(CheckStore(store_.get()), 6u);
  struct stat info;
  ASSERT_EQ(::stat((backups_ + "/one").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(StoreUpkeepTest, WhatIsWrittenToACopyIsNotInTheOriginal) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  GRADTAP_ASSERT_OK(store_->Backup(backups_ + "/one", cancelled_));
  {
    auto copy = RocksdbStore::Open({backups_ + "/one"}, nullptr);
    GRADTAP_ASSERT_OK(copy);
    GRADTAP_ASSERT_OK(CommitSteps(copy->get(), id_, 3));
    std::atomic<bool> cancelled{false};
    GRADTAP_ASSERT_OK((*copy)->Compact(&cancelled));
    GRADTAP_ASSERT_OK((*copy)->DeleteRun("run"));
  }
  EXPECT_EQ(CheckStore(store_.get()), 3u);
}

TEST_F(StoreUpkeepTest, WhileIngestGoesOnACopyHasAllThatWasAcknowledged) {
  std::atomic<std::uint64_t> acknowledged{0};
  std::atomic<bool> stop{false};
  std::thread ingest([&] {
    for (std::int64_t first = 0; !stop; first += kStepsPerCommit) {
      const absl::Status status = CommitSteps(store_.get(), id_, first);
      GRADTAP_EXPECT_OK(status);
      if (!status.ok()) stop = true;
      acknowledged = static_cast<std::uint64_t>(first + kStepsPerCommit);
    }
  });
  std::vector<std::uint64_t> least;
  for (int round = 0; round < 5; ++round) {
    const std::uint64_t wanted = acknowledged + 60;
    while (acknowledged < wanted && !stop) std::this_thread::yield();
    least.push_back(acknowledged);
    GRADTAP_EXPECT_OK(
        store_->Backup(backups_ + "/" + std::to_string(round), cancelled_));
  }
  const bool failed = stop.exchange(true);
  ingest.join();
  ASSERT_FALSE(failed);
  for (std::size_t round = 0; round < least.size(); ++round) {
    EXPECT_GE(Holds(backups_ + "/" + std::to_string(round)), least[round]);
  }
  EXPECT_EQ(CheckStore(store_.get()), acknowledged);
}

TEST_F(StoreUpkeepTest, ANameThatIsTakenIsRefusedAndLeftAsItIs) {
  fs::create_directories(backups_ + "/one");
  std::ofstream(backups_ + "/one/file") << "precious";
  std::ofstream(backups_ + "/two") << "a file";
  fs::create_symlink("/nowhere", backups_ + "/three");
  for (const char* name : {"/one", "/two", "/three"}) {
    EXPECT_THAT(
        store_->Backup(backups_ + name, cancelled_),
        StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr(backups_ + name)));
  }
  EXPECT_TRUE(fs::exists(backups_ + "/one/file"));
  EXPECT_EQ(FilesOfBackups(), 3u);
}

TEST_F(StoreUpkeepTest, ARelativePathIsRefused) {
  for (const char* path : {"one", "", "./one", "/"}) {
    EXPECT_THAT(store_->Backup(path, cancelled_),
                StatusIs(absl::StatusCode::kInvalidArgument, _));
  }
}

TEST_F(StoreUpkeepTest, ACancelledOrFailedCopyLeavesNothing) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  cancelled_ = true;
  EXPECT_THAT(store_->Backup(backups_ + "/one", cancelled_),
              StatusIs(absl::StatusCode::kCancelled, _));
  EXPECT_EQ(FilesOfBackups(), 0u);
  cancelled_ = false;
  env_.fs().SetFull(true);
  EXPECT_THAT(store_->Backup(backups_ + "/one", cancelled_),
              StatusIs(absl::StatusCode::kResourceExhausted, _));
  EXPECT_EQ(FilesOfBackups(), 0u);
  env_.fs().SetFull(false);
  // Ingest goes on by itself, and so do backups.
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 3));
  GRADTAP_ASSERT_OK(store_->Backup(backups_ + "/one", cancelled_));
  EXPECT_EQ(Holds(backups_ + "/one"), 6u);
}

TEST_F(StoreUpkeepTest, WhatAKilledCollectorLeftIsReplaced) {
  fs::create_directories(backups_ + "/.one.partial/db");
  std::ofstream(backups_ + "/.one.partial/db/CURRENT") << "half";
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  GRADTAP_ASSERT_OK(store_->Backup(backups_ + "/one", cancelled_));
  EXPECT_EQ(Holds(backups_ + "/one"), 3u);
  EXPECT_EQ(FilesOfBackups(), 1u);
}

TEST_F(StoreUpkeepTest, CompactionGivesBackWhatWasReplacedAndKeepsTheRest) {
  for (std::int64_t first = 0; first < 600; first += kStepsPerCommit) {
    GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, first));
  }
  const auto done = store_->Compact(&cancelled_);
  GRADTAP_ASSERT_OK(done);
  ASSERT_EQ(done->families.size(), 7u);
  EXPECT_EQ(done->families[1].name, "rows");
  EXPECT_GT(done->families[1].bytes_after, 0u);
  EXPECT_EQ(CheckStore(store_.get()), 600u);
  // Twice changes nothing, and says so.
  const auto again = store_->Compact(&cancelled_);
  GRADTAP_ASSERT_OK(again);
  EXPECT_EQ(again->families[3].bytes_before, done->families[3].bytes_after);
}

TEST_F(StoreUpkeepTest, CompactionStopsWhenItIsCancelled) {
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 0));
  cancelled_ = true;
  EXPECT_THAT(store_->Compact(&cancelled_),
              StatusIs(absl::StatusCode::kCancelled, _));
  GRADTAP_ASSERT_OK(CommitSteps(store_.get(), id_, 3));
  EXPECT_EQ(CheckStore(store_.get()), 6u);
}

}  // namespace
}  // namespace gradtap::server
