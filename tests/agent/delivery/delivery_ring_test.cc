// Where the ring of a delivery is, and what of it stays.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/ring_file.h"
#include "agent/delivery/test_server.h"
#include "agent/spool/folder.h"
#include "agent/spool/spool.h"
#include "core/sync.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::EntriesOf;
using ::gradtap::testing::EntryCopy;
using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::StatusIs;
using ::gradtap::testing::TempDir;
using ::gradtap::testing::TestServer;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr seconds kPatience{60};

class DeliveryRingTest : public ::testing::Test {
 protected:
  // Nobody listens at that port.
  void Create(const std::string& collector = "127.0.0.1:1",
              std::uint64_t ring_bytes = 1 << 20) {
    DeliveryOptions options;
    options.collector = collector;
    options.run = "ring-test";
    options.rank = 1;
    options.world_size = 2;
    options.tags = {{"team", "vision"}};
    options.ring_bytes = ring_bytes;
    options.ring_folder = folder_;
    options.token_file = token_file_;
    options.log = [this](const std::string& line) { Hear(line); };
    auto delivery = Delivery::Create(options);
    GRADTAP_ASSERT_OK(delivery);
    delivery_ = *std::move(delivery);
  }
  void Hear(const std::string& line) {
    MutexLock lock(mu_);
    lines_.push_back(line);
  }
  std::vector<std::string> Lines() {
    MutexLock lock(mu_);
    return lines_;
  }
  void PutSteps(int count) {
    delivery_->PutSchema(MakeSchema(1, 10));
    for (int i = 0; i < count; ++i) delivery_->PutStep(MakeStep(i, 1, 10));
  }
  std::vector<std::string> Files() {
    auto files = FindRingFiles(folder_);
    GRADTAP_EXPECT_OK(files);
    return files.ok() ? *files : std::vector<std::string>();
  }
  // What the only file of the folder holds, as whoever delivers it sees it.
  std::vector<EntryCopy> Left() {
    const auto files = Files();
    EXPECT_THAT(files, SizeIs(1));
    if (files.size() != 1) return {};
    auto left = OpenRingFile(files[0]);
    // A thread that was left behind lets go of it a moment later.
    const auto give_up = std::chrono::steady_clock::now() + kPatience;
    while (absl::IsFailedPrecondition(left.status()) &&
           std::chrono::steady_clock::now() < give_up) {
      std::this_thread::yield();
      left = OpenRingFile(files[0]);
    }
    GRADTAP_EXPECT_OK(left);
    if (!left.ok()) return {};
    EXPECT_THAT((*left)->problems(), IsEmpty());
    identity_ = (*left)->identity();
    return EntriesOf(*(*left)->TakeRing());
  }

  TempDir dir_;
  std::string folder_ = dir_.path() + "/rings";
  std::string token_file_;
  Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Delivery> delivery_;  // Its log is this.
  SpoolIdentity identity_;
};

TEST_F(DeliveryRingTest, TheRingIsAFileThatSurvivesTheProcess) {
  Create();
  EXPECT_THAT(Files(), SizeIs(1));
  EXPECT_EQ(delivery_->ring_place(), Files()[0] + ", survives the process");
}

TEST_F(DeliveryRingTest, WhatWasNotDeliveredStaysWithWhoItIsOf) {
  Create();
  PutSteps(7);
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kStopped, milliseconds(10));
  EXPECT_FALSE(outcome.delivered);
  EXPECT_EQ(outcome.undelivered_steps, 7u);
  EXPECT_TRUE(outcome.kept);
  // Still ours while the object lives.
  EXPECT_THAT(OpenRingFile(Files()[0]),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("")));
  delivery_.reset();
  const auto left = Left();
  ASSERT_THAT(left, SizeIs(9));
  EXPECT_EQ(left[0].meta.kind, EntryKind::kSchema);
  for (std::size_t i = 1; i <= 7; ++i) {
    EXPECT_EQ(left[i].seq, i + 1);
    EXPECT_EQ(left[i].meta.kind, EntryKind::kStep);
    EXPECT_EQ(left[i].meta.step, static_cast<std::int64_t>(i) - 1);
  }
  EXPECT_EQ(left[8].meta.kind, EntryKind::kEnd);
  EXPECT_EQ(identity_.run, "ring-test");
  EXPECT_EQ(identity_.rank, 1u);
  EXPECT_EQ(identity_.world_size, 2u);
  EXPECT_EQ(identity_.pid, ::getpid());
  EXPECT_EQ(identity_.collector, "127.0.0.1:1");
  EXPECT_EQ(identity_.tags.at("team"), "vision");
  EXPECT_GT(identity_.start_time_unix_ns, 0);
  EXPECT_FALSE(identity_.launch.empty());
}

TEST_F(DeliveryRingTest, OnceAllIsAcknowledgedTheFileGoes) {
  TestServer server;
  server.Start();
  Create(server.address());
  PutSteps(20);
  EXPECT_TRUE(delivery_->Flush(kPatience).delivered);
  EXPECT_THAT(Files(), SizeIs(1));
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kFinished, kPatience);
  EXPECT_TRUE(outcome.delivered);
  EXPECT_FALSE(outcome.kept);
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(DeliveryRingTest, ADeliveryThatWasNeverUsedLeavesNoFile) {
  Create();
  delivery_->PutSchema(MakeSchema(1, 10));
  delivery_.reset();
  EXPECT_THAT(Files(), IsEmpty());
}

TEST_F(DeliveryRingTest, ALargerRingTakesThePlaceOfTheFirstFile) {
  Create("127.0.0.1:1", DeliveryOptions().ring_bytes);
  const std::string first = delivery_->ring_place();
  const std::uint64_t small = delivery_->ring_bytes();
  delivery_->ReserveForSteps(5 << 20);
  EXPECT_GE(delivery_->ring_bytes(), std::uint64_t{80} << 20);
  EXPECT_GT(delivery_->ring_bytes(), small);
  EXPECT_EQ(delivery_->ring_place(), first);
  ASSERT_THAT(Files(), SizeIs(1));
  EXPECT_GT(std::filesystem::file_size(Files()[0]), delivery_->ring_bytes());
  PutSteps(3);
  delivery_.reset();
  EXPECT_THAT(Left(), SizeIs(5));
}

TEST_F(DeliveryRingTest, WhereNoFileCanBeMadeItIsMemoryAndSaysWhy) {
  folder_ = dir_.path() + "/missing/rings";
  Create();
  EXPECT_THAT(delivery_->ring_place(), StartsWith("memory only: "));
  EXPECT_THAT(delivery_->ring_place(), HasSubstr("missing"));
  PutSteps(3);
  EXPECT_EQ(delivery_->counters().steps_recorded, 3u);

  std::filesystem::create_directory(dir_.path() + "/real");
  folder_ = dir_.path() + "/link";
  std::filesystem::create_symlink(dir_.path() + "/real", folder_);
  Create();
  EXPECT_THAT(delivery_->ring_place(), HasSubstr("symbolic link"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path() + "/real"));
}

TEST_F(DeliveryRingTest, ARingThatShouldBeAFileAndIsNotIsSaidOnceWithItsWhy) {
  std::filesystem::create_directory(folder_);
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  Create();
  EXPECT_THAT(Lines(), IsEmpty()) << "nothing is lost yet";
  PutSteps(3);
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr("the ring is memory only: "),
                                      HasSubstr(folder_), HasSubstr("0755"),
                                      HasSubstr("the process is killed")))
                           .Times(1));
}

TEST_F(DeliveryRingTest, ALargerRingThatIsNoFileAnyMoreIsSaid) {
  Create("127.0.0.1:1", DeliveryOptions().ring_bytes);
  std::filesystem::permissions(folder_, std::filesystem::perms(0755));
  delivery_->ReserveForSteps(5 << 20);
  PutSteps(1);
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr("the ring is memory only: "),
                                      HasSubstr(folder_), HasSubstr("0755"))));
}

TEST_F(DeliveryRingTest, ARingInItsFileOrInMemoryThatWasAskedForIsNotSaid) {
  for (const std::string& folder : {folder_, std::string()}) {
    folder_ = folder;
    Create();
    PutSteps(3);
    delivery_->Shutdown(EndReason::kFinished, milliseconds(10));
    EXPECT_THAT(Lines(), Not(Contains(HasSubstr("memory only"))));
  }
}

TEST_F(DeliveryRingTest, WithoutAFolderTheRingIsMemory) {
  folder_ = "";
  Create("127.0.0.1:1", DeliveryOptions().ring_bytes);
  EXPECT_THAT(delivery_->ring_place(), StartsWith("memory only: no folder"));
  delivery_->ReserveForSteps(5 << 20);
  EXPECT_THAT(delivery_->ring_place(), StartsWith("memory only: no folder"));
  PutSteps(3);
  EXPECT_EQ(delivery_->counters().steps_recorded, 3u);
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kFinished, milliseconds(10));
  EXPECT_EQ(outcome.undelivered_steps, 3u);
  EXPECT_FALSE(outcome.kept);
}

TEST_F(DeliveryRingTest, WhatWentToTheSpoolAtTheEndIsInNoRing) {
  DeliveryOptions options;
  options.run = "ring-test";
  options.ring_bytes = 1 << 20;
  options.ring_folder = folder_;
  options.spool_folder = dir_.path() + "/spool";
  options.offline = true;
  auto delivery = Delivery::Create(options);
  GRADTAP_ASSERT_OK(delivery);
  delivery_ = *std::move(delivery);
  PutSteps(5);
  EXPECT_TRUE(delivery_->Shutdown(EndReason::kFinished, kPatience).kept);
  EXPECT_THAT(Files(), IsEmpty());
  const auto spools = FindSpools(options.spool_folder);
  GRADTAP_ASSERT_OK(spools);
  ASSERT_THAT(*spools, SizeIs(1));
  delivery_.reset();
  const auto spool = Spool::Open(spools->front(), SpoolUse::kCopy);
  GRADTAP_ASSERT_OK(spool);
  EXPECT_EQ((*spool)->identity().run, "ring-test");
  EXPECT_EQ((*spool)->identity().collector, "") << "none was named";
}

TEST_F(DeliveryRingTest, OfflineWhatTheSpoolDidNotTakeIsKeptInTheRing) {
  std::ofstream(dir_.path() + "/file") << "no folder";
  std::vector<std::string> lines;
  DeliveryOptions options;
  options.run = "ring-test";
  options.ring_bytes = 1 << 20;
  options.ring_folder = folder_;
  options.spool_folder = dir_.path() + "/file/spool";
  options.offline = true;
  options.log = [&lines](const std::string& line) { lines.push_back(line); };
  auto delivery = Delivery::Create(options);
  GRADTAP_ASSERT_OK(delivery);
  delivery_ = *std::move(delivery);
  PutSteps(15);
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kFinished, kPatience);
  EXPECT_EQ(outcome.undelivered_steps, 15u);
  EXPECT_TRUE(outcome.kept);
  delivery_.reset();
  EXPECT_THAT(Left(), SizeIs(17));
  EXPECT_THAT(lines, Contains(AllOf(HasSubstr(Files()[0]),
                                    HasSubstr("`gradtap drain`"))));
}

// Of the threads that begin while it lives none does.
class NoThreads {
 public:
  NoThreads() {
    ::pthread_getattr_default_np(&before_);
    ::pthread_attr_t none = before_;
    // More than there are addresses for.
    EXPECT_EQ(::pthread_attr_setstacksize(&none, std::size_t{1} << 60), 0);
    EXPECT_EQ(::pthread_setattr_default_np(&none), 0);
  }
  ~NoThreads() {
    ::pthread_setattr_default_np(&before_);
    ::pthread_attr_destroy(&before_);
  }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  ::pthread_attr_t before_;
};

TEST_F(DeliveryRingTest, WithoutAThreadAllStaysInTheRingAndIsSaidToBeThere) {
  Create();
  {
    const NoThreads none;
    PutSteps(5);
  }
  EXPECT_EQ(delivery_->state(), DeliveryState::kStopped);
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kFinished, kPatience);
  EXPECT_EQ(outcome.undelivered_steps, 5u);
  EXPECT_TRUE(outcome.kept);
  EXPECT_THAT(Lines(), Contains(HasSubstr("gives no thread")));
  EXPECT_THAT(Lines(), Contains(AllOf(HasSubstr(Files()[0]),
                                      HasSubstr("--collector 127.0.0.1:1"),
                                      HasSubstr("drain`"))));
  delivery_.reset();
  EXPECT_THAT(Left(), SizeIs(7));
}

TEST_F(DeliveryRingTest, WhatAThreadThatIsLeftBehindDidNotDeliverIsKept) {
  const std::string token = dir_.path() + "/token";
  ASSERT_EQ(::mkfifo(token.c_str(), 0600), 0);
  token_file_ = token;
  Create();
  PutSteps(5);
  // Opened once the thread reads from it; then it waits for this end to close.
  const int end = ::open(token.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(end, 0);
  const FlushOutcome outcome =
      delivery_->Shutdown(EndReason::kFinished, milliseconds(0));
  EXPECT_EQ(outcome.undelivered_steps, 5u);
  EXPECT_TRUE(outcome.kept);
  EXPECT_THAT(Lines(),
              Contains(AllOf(HasSubstr(Files()[0]), HasSubstr("drain`"))));
  delivery_.reset();
  ::close(end);
  EXPECT_THAT(Left(), SizeIs(7));
}

TEST_F(DeliveryRingTest, AForkedChildThatEndsLeavesTheFileToItsParent) {
  Create();
  PutSteps(2);
  const pid_t child = ::fork();
  if (child == 0) {
    delivery_->Shutdown(EndReason::kStopped, milliseconds(0));
    const bool other = delivery_->ring_place() != Files()[0];
    delivery_.reset();
    ::_exit(other ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_THAT(Files(), SizeIs(1));
  delivery_->PutStep(MakeStep(2, 1, 10));
  delivery_.reset();
  EXPECT_THAT(Left(), SizeIs(5));
}

}  // namespace
}  // namespace gradtap::agent
