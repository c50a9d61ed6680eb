#include "agent/delivery/once_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace gradtap::agent {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

TEST(OnceLogTest, EachProblemIsSaidOnce) {
  std::vector<std::string> said;
  OnceLog log([&](const std::string& line) { said.push_back(line); });
  log.Say("a", "first");
  log.Say("a", "second");
  log.Say("b", "third");
  EXPECT_THAT(said, ElementsAre("first", "third"));
}

TEST(OnceLogTest, OnceItIsCutNothingIsSaidAndTheSinkIsGone) {
  auto captured = std::make_shared<int>(0);
  const std::weak_ptr<int> alive = captured;
  OnceLog log([captured](const std::string&) { ++*captured; });
  captured.reset();
  log.Say("a", "first");
  EXPECT_EQ(*alive.lock(), 1);
  EXPECT_TRUE(log.Cut(seconds(60)));
  EXPECT_TRUE(alive.expired());
  log.Say("b", "second");
  EXPECT_TRUE(log.Cut(seconds(60)));
}

TEST(OnceLogTest, CuttingWaitsForWhoIsInTheSink) {
  std::latch entered(1);
  std::latch release(1);
  std::atomic<bool> left{false};
  OnceLog log([&](const std::string&) {
    entered.count_down();
    release.wait();
    left = true;
  });
  std::thread speaker([&] { log.Say("a", "first"); });
  entered.wait();
  EXPECT_FALSE(log.Cut(milliseconds(1)));
  release.count_down();
  EXPECT_TRUE(log.Cut(seconds(600)));
  EXPECT_TRUE(left);
  speaker.join();
}

TEST(OnceLogTest, TheSinkItselfMayCut) {
  OnceLog* the_log = nullptr;
  bool cut = false;
  OnceLog log([&](const std::string&) { cut = the_log->Cut(seconds(600)); });
  the_log = &log;
  log.Say("a", "first");
  EXPECT_TRUE(cut);
}

TEST(OnceLogTest, ASinkThatThrowsIsNotInItAnyMore) {
  OnceLog log([](const std::string&) { throw std::runtime_error("full"); });
  EXPECT_THROW(log.Say("a", "first"), std::runtime_error);
  EXPECT_TRUE(log.Cut(seconds(600)));
}

}  // namespace
}  // namespace gradtap::agent
