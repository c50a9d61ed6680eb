// What an agent costs a process in threads, descriptors and memory, on machines
// of many sizes.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <thread>
#include <utility>

#include "faults/feed.h"
#include "integration/collector.h"
#include "support/temp_dir.h"

namespace gradtap::testing {
namespace {

// The names of its threads; a program's own are called after it.
std::map<std::string, int> ThreadsOf(pid_t pid) {
  std::map<std::string, int> names;
  for (const auto& task : std::filesystem::directory_iterator(
           "/proc/" + std::to_string(pid) + "/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    ++names[name];
  }
  return names;
}

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
  std::map<std::string, int> threads = ThreadsOf(pid);
  const int descriptors = CountIn(pid, "fd") - 3;
  // The feeder's own are its loop and its main thread.
  EXPECT_EQ(threads["gradtap_test_fe"], 2);
  threads.erase("gradtap_test_fe");
  int total = 0;
  for (const auto& [name, count] : threads) total += count;
  std::cout << cores << " cores: " << total << " threads, " << descriptors
            << " descriptors, " << ResidentKib(pid) / 1024 << " MiB\n";
  EXPECT_EQ(std::exchange(threads["gradtap"], 0), 1);
  // All others are gRPC's: its pool, of which as many may wait as there are
  // cores, and at least two or three, beside one that is at work; and five.
  EXPECT_LE(std::exchange(threads["event_engine"], 0),
            std::max(3, std::min(cores, 32)) + 1);
  for (const char* one :
       {"default-executo", "resolver-execut", "timer_manager"}) {
    EXPECT_LE(std::exchange(threads[one], 0), 1) << one;
  }
  EXPECT_LE(std::exchange(threads["grpc_global_tim"], 0), 2);
  for (const auto& [name, count] : threads) EXPECT_EQ(count, 0) << name;
  EXPECT_LE(descriptors, 16);
  EXPECT_LE(ResidentKib(pid), (1 + 48) * 1024);
  const FeedCounts counts = feed.End();
  EXPECT_EQ(counts.acknowledged, counts.seen);
}

INSTANTIATE_TEST_SUITE_P(Cores, FootprintTest,
                         ::testing::Values(1, 2, 8, 64, 256));

}  // namespace
}  // namespace gradtap::testing
