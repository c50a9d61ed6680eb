#include "agent/problem_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace gradtap::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

TEST(ProblemLogTest, EachMessageIsEmittedAndKeptOnce) {
  std::vector<std::string> emitted;
  ProblemLog log([&](const std::string& m) { emitted.push_back(m); });
  log.Report("a");
  log.Report("b");
  log.Report("a");
  EXPECT_THAT(emitted, ElementsAre("a", "b"));
  EXPECT_THAT(log.problems(), ElementsAre("a", "b"));
}

TEST(ProblemLogTest, ANoteIsEmittedOnceAndIsNoProblem) {
  std::vector<std::string> emitted;
  ProblemLog log([&](const std::string& m) { emitted.push_back(m); });
  log.Note("a step takes 3 bytes");
  log.Note("a step takes 3 bytes");
  log.Report("b");
  EXPECT_THAT(emitted, ElementsAre("a step takes 3 bytes", "b"));
  EXPECT_THAT(log.problems(), ElementsAre("b"));
}

TEST(ProblemLogTest, TheNewestSixtyFourAreKept) {
  ProblemLog log(nullptr);
  for (int i = 0; i < 100; ++i) log.Report(std::to_string(i));
  const std::vector<std::string> kept = log.problems();
  ASSERT_THAT(kept, SizeIs(64));
  EXPECT_EQ(kept.front(), "36");
  EXPECT_EQ(kept.back(), "99");
}

TEST(ProblemLogTest, EmissionsAreBounded) {
  std::size_t emitted = 0;
  ProblemLog log([&](const std::string&) { ++emitted; });
  for (int i = 0; i < 5000; ++i) log.Report(std::to_string(i));
  EXPECT_EQ(emitted, ProblemLog::kMaxEmitted);
}

TEST(ProblemLogTest, HostileTextIsOneShortSafeLine) {
  ProblemLog log(nullptr);
  log.Report("a\nb\x1b[2J\xff" + std::string(100'000, 'x'));
  const std::string line = log.problems().at(0);
  EXPECT_LT(line.size(), 2 * ProblemLog::kMaxMessageBytes);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST(ProblemLogTest, ASinkThatThrowsIsSwallowedAndCalledAgain) {
  int calls = 0;
  ProblemLog log([&](const std::string&) {
    ++calls;
    throw std::runtime_error("no");
  });
  log.Report("a");
  log.Report("b");
  EXPECT_EQ(calls, 2);
}

TEST(ProblemLogTest, ASinkMayReportAndReadWithoutDeadlock) {
  std::vector<std::string> emitted;
  ProblemLog* self = nullptr;
  ProblemLog log([&](const std::string& m) {
    emitted.push_back(m);
    if (m == "outer") {
      self->Report("inner");
      EXPECT_THAT(self->problems(), SizeIs(2));
    }
  });
  self = &log;
  log.Report("outer");
  EXPECT_THAT(emitted, ElementsAre("outer", "inner"));
}

TEST(ProblemLogTest, ThreadsAreEmittedOneAtATimeAndNoneIsLost) {
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  int inside = 0;  // Not atomic: a data race is a failure.
  int emitted = 0;
  ProblemLog log([&](const std::string&) {
    EXPECT_EQ(++inside, 1);
    ++emitted;
    --inside;
  });
  std::latch start(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      start.arrive_and_wait();
      for (int i = 0; i < kEach; ++i) {
        log.Report(std::to_string(t) + " " + std::to_string(i));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(emitted, kThreads * kEach);
}

}  // namespace
}  // namespace gradtap::agent
