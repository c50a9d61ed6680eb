// What an agent costs a process in threads, descriptors and memory, on machines
// of many sizes.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>

#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

int CountIn(pid_t pid, const char* what) {
  const std::filesystem::directory_iterator entries(
      "/proc/" + std::to_string(pid) + "/" + what);
  return static_cast<int>(std::distance(begin(entries), end(entries)));
}

long ResidentKib(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  long kib = 0;
  while (in >> word) {
    if (word == "VmRSS:" && in >> kib) break;
  }
  return kib;
}

class FootprintTest : public ::testing::TestWithParam<int> {};

// The bounds are those of the README of agent/delivery.
TEST_P(FootprintTest, ThreadsDescriptorsAndMemoryAreBounded) {
  const int cores = GetParam();
  const TempDir dir;
  Collector collector(dir.path() + "/data");
  Feed feed(
      {{"collector", collector.address()},
       {"run", "small"},
       {"ring_bytes", "1048576"}},
      {{"LD_PRELOAD", FAKE_CORES_PATH}, {"FAKE_CORES", std::to_string(cores)}});
  const auto give_up =
      std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (feed.Status().acknowledged < 500) {
    ASSERT_LT(std::chrono::steady_clock::now(), give_up);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const pid_t pid = feed.process().pid();
  const int threads = CountIn(pid, "task") - 2;  // The feeder's own.
  const int descriptors = CountIn(pid, "fd") - 3;
  std::cout << cores << " cores: " << threads << " threads, " << descriptors
            << " descriptors, " << ResidentKib(pid) / 1024 << " MiB\n";
  // gRPC 1.51 has eight of its own on however few cores.
  EXPECT_LE(threads, std::max(9, 5 + std::min(cores, 32)));
  EXPECT_LE(descriptors, 16);
  EXPECT_LE(ResidentKib(pid), (1 + 48) * 1024);
  const FeedCounts counts = feed.End();
  EXPECT_EQ(counts.acknowledged, counts.seen);
}

INSTANTIATE_TEST_SUITE_P(Cores, FootprintTest,
                         ::testing::Values(1, 2, 8, 64, 256));

}  // namespace
}  // namespace gradtap::testing
