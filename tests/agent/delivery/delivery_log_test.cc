// What the program's log hears of a delivery thread that was left behind.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "agent/delivery/delivery.h"
#include "agent/delivery/delivery_fixtures.h"
#include "support/status_matchers.h"
#include "support/temp_dir.h"

namespace gradtap::agent {
namespace {

using ::gradtap::testing::MakeSchema;
using ::gradtap::testing::MakeStep;
using ::gradtap::testing::TempDir;
using std::chrono::milliseconds;
using SteadyClock = std::chrono::steady_clock;

bool DeliveryThreadRuns() {
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, name);
    if (name == "gradtap") return true;
  }
  return false;
}

TEST(DeliveryLogTest, AThreadThatOutlivesTheDeliveryDoesNotCallTheLog) {
  TempDir dir;
  const std::string token = dir.path() + "/token";
  ASSERT_EQ(::mkfifo(token.c_str(), 0600), 0);
  auto lines = std::make_shared<int>(0);
  DeliveryOptions options;
  options.collector = "127.0.0.1:1";
  options.run = "log-test";
  options.ring_bytes = 1 << 20;
  options.token_file = token;
  options.log = [lines](const std::string&) { ++*lines; };
  auto delivery = Delivery::Create(std::move(options));
  GRADTAP_ASSERT_OK(delivery);
  (*delivery)->PutSchema(MakeSchema(1, 3));
  (*delivery)->PutStep(MakeStep(0, 1, 3));
  // Opened once the thread reads from it; then it waits for this end to close.
  const int end = ::open(token.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(end, 0);
  (*delivery)->Shutdown(EndReason::kFinished, milliseconds(0));
  delivery->reset();
  EXPECT_TRUE(DeliveryThreadRuns()) << "it was to be left behind";
  EXPECT_EQ(*lines, 0);
  EXPECT_EQ(lines.use_count(), 1) << "what the log holds is let go";
  // What it says of such a token nobody hears.
  ASSERT_EQ(::write(end, "a b", 3), 3);
  ::close(end);
  const auto give_up = SteadyClock::now() + std::chrono::seconds(120);
  while (DeliveryThreadRuns() && SteadyClock::now() < give_up) {
    std::this_thread::yield();
  }
  EXPECT_FALSE(DeliveryThreadRuns());
  EXPECT_EQ(*lines, 0);
}

}  // namespace
}  // namespace gradtap::agent
