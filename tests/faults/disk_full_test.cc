// Disks that fill up, on either side.

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

// A file system of few bytes, in memory. What is not allowed is said.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& mebibytes) {
    const std::string options = "size=" + mebibytes + "m,mode=0700";
    if (::mount("tmpfs", dir_.path().c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
                options.c_str()) != 0) {
      why_not_ = std::strerror(errno);
    }
  }
  ~SmallDisk() {
    if (why_not_.empty()) ::umount2(dir_.path().c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  const std::string& path() const { return dir_.path(); }
  const std::string& why_not() const { return why_not_; }

  void Fill() {
    std::ofstream out(path() + "/filler", std::ios::binary);
    const std::string block(4096, 'x');
    while (out.write(block.data(), static_cast<std::streamsize>(block.size()))
               .flush()) {
    }
  }
  void Free() { std::filesystem::remove(path() + "/filler"); }

 private:
  TempDir dir_;
  std::string why_not_;
};

// Until `done` says so; false after a minute.
template <typename Done>
bool Await(Done done) {
  const auto give_up = SteadyClock::now() + std::chrono::seconds(60);
  while (!done()) {
    if (SteadyClock::now() > give_up) return false;
    std::this_thread::sleep_for(milliseconds(20));
  }
  return true;
}

TEST(DiskFullTest, TheCollectorsDiskFullAcknowledgesNothingFalselyAndRecovers) {
  SmallDisk disk("512");
  if (!disk.why_not().empty()) {
    GTEST_SKIP() << "no file system can be mounted here: " << disk.why_not();
  }
  const TempDir dir;
  // A reserve would have old steps shrink before the disk is full.
  const std::vector<std::string> no_reserve = {"--disk-reserve", "0"};
  auto collector =
      std::make_unique<Collector>(disk.path() + "/data", 0, no_reserve);
  ASSERT_NE(collector->address(), "");
  Feed feed({{"collector", collector->address()},
             {"run", "full"},
             {"places", "200"},
             {"pace_us", "1000"},
             {"ring_bytes", "268435456"}});
  for (int turn = 0; turn < ShortOrLong(2, 4) && !::testing::Test::HasFailure();
       ++turn) {
    const std::uint64_t before = feed.Status().acknowledged;
    ASSERT_TRUE(Await([&] { return feed.Status().acknowledged > before; }));
    disk.Fill();
    // What is left of the log's own space is used up first; then nothing moves
    // while 3,000 steps are put.
    std::uint64_t stuck = feed.Status().acknowledged;
    ASSERT_TRUE(Await([&] {
      const FeedCounts now = feed.Status();
      const bool stands = now.acknowledged == stuck && now.seen > stuck + 3000;
      stuck = now.acknowledged;
      return stands;
    }));
    disk.Free();
    const auto freed = SteadyClock::now();
    ASSERT_TRUE(Await([&] { return feed.Status().acknowledged > stuck; }));
    std::cout << "acknowledges again "
              << std::chrono::duration_cast<milliseconds>(SteadyClock::now() -
                                                          freed)
                     .count()
              << " ms after there is room\n";
  }
  const FeedCounts end = feed.End();
  EXPECT_EQ(end.lost, 0u);
  EXPECT_EQ(end.acknowledged, end.seen);
  EXPECT_EQ(CheckSteps(collector->address(), "full", 0), end.seen);
  // And so on disk.
  EXPECT_EQ(collector->Terminate(), 0);
  collector = std::make_unique<Collector>(disk.path() + "/data", 0, no_reserve);
  EXPECT_EQ(CheckSteps(collector->address(), "full", 0), end.seen);
}

TEST(DiskFullTest, TheAgentsDiskFullCostsDeclaredStepsAndRecovers) {
  SmallDisk disk("4");
  if (!disk.why_not().empty()) {
    GTEST_SKIP() << "no file system can be mounted here: " << disk.why_not();
  }
  const TempDir dir;
  const int port = FreePort();
  Feed feed({{"collector", "127.0.0.1:" + std::to_string(port)},
             {"run", "full"},
             {"places", "200"},
             {"pace_us", "1000"},
             {"spool", disk.path() + "/spool"},
             {"ring_bytes", "1048576"}});
  ASSERT_TRUE(Await([&] { return feed.Status().lost > 100; }));
  Collector collector(dir.path() + "/data", port);
  const std::uint64_t recorded = feed.Status().recorded;
  ASSERT_TRUE(Await([&] { return feed.Status().acknowledged >= recorded; }));
  const FeedCounts end = feed.End();
  EXPECT_EQ(end.acknowledged, end.recorded);
  EXPECT_EQ(end.seen, end.recorded + end.lost);
  const RunRow row = FindRun(collector.address(), "full");
  EXPECT_EQ(row.stored_steps, end.recorded);
  EXPECT_EQ(row.lost_steps, end.lost);
  std::cout << end.recorded << " steps stored, " << end.lost
            << " declared lost\n";
}

}  // namespace
}  // namespace gradtap::testing
