// What can be seen from outside a process alone: its threads and its exit. The
// server runs in another process, which is this program again.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/delivery/child.h"
#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"
#include "agent/delivery/ring_file.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::TempDir;
using std::chrono::seconds;

// With a first step. The ring's file is in `folder`.
std::unique_ptr<Delivery> CreateOrDie(const std::string& port,
                                      const std::string& folder) {
  DeliveryOptions options;
  options.collector = "127.0.0.1:" + port;
  options.run = "process-test";
  options.ring_bytes = 1 << 20;
  options.ring_folder = folder;
  auto delivery = Delivery::Create(options);
  if (!delivery.ok()) std::abort();
  (*delivery)->PutSchema(MakeSchema(1, 5));
  (*delivery)->PutStep(MakeStep(0, 1, 5));
  return *std::move(delivery);
}

void PutTheRest(Delivery* delivery) {
  for (int i = 1; i < 50; ++i) delivery->PutStep(MakeStep(i, 1, 5));
}

// The time that an exit has is for the records, not for the first connection.
void AwaitStreaming(const Delivery& delivery) {
  const auto give_up = std::chrono::steady_clock::now() + seconds(60);
  while (delivery.state() != DeliveryState::kStreaming &&
         std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
}

Delivery* volatile left_behind = nullptr;

// Leaves main() with everything still running.
int Leave(std::unique_ptr<Delivery> delivery) {
  PutTheRest(delivery.get());
  left_behind = delivery.release();
  return 0;
}
int LeaveStreaming(const std::string& port, const std::string& folder) {
  auto delivery = CreateOrDie(port, folder);
  AwaitStreaming(*delivery);
  return Leave(std::move(delivery));
}
int LeaveAtOnce(const std::string& port, const std::string& folder) {
  return Leave(CreateOrDie(port, folder));
}

// The same with a static, made before gRPC's first use.
std::unique_ptr<Delivery>& TheStatic() {
  static std::unique_ptr<Delivery> delivery;
  return delivery;
}
int LeaveStatic(const std::string& port, const std::string& folder) {
  TheStatic() = nullptr;
  TheStatic() = CreateOrDie(port, folder);
  AwaitStreaming(*TheStatic());
  PutTheRest(TheStatic().get());
  return 0;
}

// Begins with two file descriptors, and gets more once it has said so.
int BeginShortOfDescriptors(const std::string& port,
                            const std::string& folder) {
  std::atomic<bool> said{false};
  DeliveryOptions options;
  options.collector = "127.0.0.1:" + port;
  options.run = "process-test";
  options.ring_bytes = 1 << 20;
  options.ring_folder = folder;
  options.log = [&said](const std::string& line) {
    if (line.find("file descriptors are free") != std::string::npos) {
      said = true;
    }
  };
  auto delivery = Delivery::Create(options);
  if (!delivery.ok()) return 2;
  struct rlimit all {};
  ::getrlimit(RLIMIT_NOFILE, &all);
  struct rlimit few = all;
  const int lowest = ::dup(0);
  ::close(lowest);
  few.rlim_cur = static_cast<rlim_t>(lowest) + 2;
  ::setrlimit(RLIMIT_NOFILE, &few);
  (*delivery)->PutSchema(MakeSchema(1, 5));
  (*delivery)->PutStep(MakeStep(0, 1, 5));
  const auto give_up = std::chrono::steady_clock::now() + seconds(60);
  while (!said && std::chrono::steady_clock::now() < give_up) {
    std::this_thread::yield();
  }
  ::setrlimit(RLIMIT_NOFILE, &all);
  if (!said) return 3;
  AwaitStreaming(**delivery);
  PutTheRest(delivery->get());
  const bool delivered =
      (*delivery)->Shutdown(EndReason::kFinished, seconds(60)).delivered;
  return delivered ? 0 : 1;
}

std::ptrdiff_t Threads() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

TEST(DeliveryProcessTest, FewThreadsAreAdded) {
  Child server({"--serve"});
  const std::string port = server.ReadLine();
  const std::ptrdiff_t before = Threads();
  auto delivery = CreateOrDie(port, "");
  EXPECT_TRUE(delivery->Flush(seconds(60)).delivered);
  const std::ptrdiff_t extra = Threads() - before;
  std::cout << "threads added: " << extra << " on "
            << std::thread::hardware_concurrency() << " cores\n";
  // One is ours. gRPC 1.51 makes about as many as there are cores.
  const auto cores =
      static_cast<std::ptrdiff_t>(std::thread::hardware_concurrency());
  EXPECT_LE(extra, std::max<std::ptrdiff_t>(10, cores + 8));
  EXPECT_TRUE(delivery->Shutdown(EndReason::kFinished, seconds(60)).delivered);
}

TEST(DeliveryProcessTest, CreateStartsNoThread) {
  const std::ptrdiff_t before = Threads();
  DeliveryOptions options;
  options.collector = "127.0.0.1:1";
  options.run = "process-test";
  auto delivery = Delivery::Create(options);
  ASSERT_TRUE(delivery.ok());
  (*delivery)->PutSchema(MakeSchema(1, 5));
  (*delivery)->ReserveForSteps(100);
  EXPECT_EQ(Threads(), before);
}

void ExpectCleanExit(const std::string& how) {
  Child server({"--serve"});
  const std::string port = server.ReadLine();
  ASSERT_NE(port, "");
  const TempDir rings;
  Child trainer({how, port, rings.path()});
  const int status = trainer.Wait();
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  server.CloseInput();
  EXPECT_EQ(server.ReadLine(), "50 finished 0");
  EXPECT_TRUE(std::filesystem::is_empty(rings.path()));
}

TEST(DeliveryProcessTest, LeavingMainWithoutAWordDeliversAndExits) {
  ExpectCleanExit("--leave");
}

TEST(DeliveryProcessTest, AStaticIsDestroyedInGoodOrder) {
  ExpectCleanExit("--leave-static");
}

TEST(DeliveryProcessTest, WithoutFileDescriptorsItWaitsForThem) {
  ExpectCleanExit("--short-of-descriptors");
}

TEST(DeliveryProcessTest, LeavingWithAnUnreachableCollectorLeavesTheRing) {
  const TempDir rings;
  Child trainer({"--leave-at-once", "1", rings.path()});
  EXPECT_EQ(trainer.Wait(), 0);
  const auto files = FindRingFiles(rings.path());
  GRADTAP_ASSERT_OK(files);
  ASSERT_EQ(files->size(), 1u);
  auto left = OpenRingFile(files->front());
  GRADTAP_ASSERT_OK(left);
  // The schema, the steps and the end.
  EXPECT_EQ((*left)->TakeRing()->last_seq(), 52u);
}

}  // namespace
}  // namespace gradtap::agent

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  if (how == "--serve") return gradtap::agent::Serve();
  if (how == "--leave") return gradtap::agent::LeaveStreaming(argv[2], argv[3]);
  if (how == "--leave-at-once")
    return gradtap::agent::LeaveAtOnce(argv[2], argv[3]);
  if (how == "--short-of-descriptors")
    return gradtap::agent::BeginShortOfDescriptors(argv[2], argv[3]);
  if (how == "--leave-static")
    return gradtap::agent::LeaveStatic(argv[2], argv[3]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
