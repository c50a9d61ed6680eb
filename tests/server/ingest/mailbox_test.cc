// Whose thread runs a call's events.

#include "server/ingest/mailbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <latch>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

using ::testing::ElementsAre;

class MailboxTest : public ::testing::Test {
 protected:
  // An event that notes its name and the thread that runs it.
  Mailbox::Event Note(const std::string& name) {
    return [this, name] {
      ran_.push_back(name);
      by_.push_back(std::this_thread::get_id());
    };
  }
  // One that does not end before it may.
  Mailbox::Event Long(const std::string& name) {
    return [this, name] {
      Note(name)();
      begun_.count_down();
      may_end_.wait();
    };
  }

  Mailbox mailbox_;
  std::latch begun_{1};
  std::latch may_end_{1};
  // Of the one thread at a time that runs events.
  std::vector<std::string> ran_;
  std::vector<std::thread::id> by_;
};

TEST_F(MailboxTest, WhoPostsWhileNobodyRunsRunsAllThatComesMeanwhile) {
  std::thread first([this] { mailbox_.Post(Long("one")); });
  const auto id = first.get_id();
  begun_.wait();
  mailbox_.Post(Note("two"));
  mailbox_.PostShort(Note("three"));
  may_end_.count_down();
  first.join();
  EXPECT_THAT(ran_, ElementsAre("one", "two", "three"));
  EXPECT_THAT(by_, ElementsAre(id, id, id));
}

TEST_F(MailboxTest, AShortEventsThreadRunsNoOther) {
  std::thread committer([this] { mailbox_.PostShort(Long("short")); });
  const auto id = committer.get_id();
  begun_.wait();
  std::atomic<bool> posted{false};
  std::thread reader([this, &posted] {
    mailbox_.Post(Note("long"));
    posted = true;
  });
  // The reader's event is there before the short one ends.
  while (mailbox_.WaitingForTest() == 0 && !posted) std::this_thread::yield();
  may_end_.count_down();
  const auto reader_id = reader.get_id();
  reader.join();
  committer.join();
  EXPECT_THAT(ran_, ElementsAre("short", "long"));
  EXPECT_THAT(by_, ElementsAre(id, reader_id));
}

TEST_F(MailboxTest, AShortEventIsRunByWhoRunsAlready) {
  std::thread reader([this] { mailbox_.Post(Long("long")); });
  const auto id = reader.get_id();
  begun_.wait();
  // Returns at once, though the other has not ended.
  mailbox_.PostShort(Note("short"));
  may_end_.count_down();
  reader.join();
  EXPECT_THAT(ran_, ElementsAre("long", "short"));
  EXPECT_THAT(by_, ElementsAre(id, id));
}

TEST_F(MailboxTest, WhatAnEventPostsComesAfterIt) {
  mailbox_.PostShort([this] {
    mailbox_.Post(Note("within"));
    mailbox_.PostShort(Note("too"));
    Note("first")();
  });
  EXPECT_THAT(ran_, ElementsAre("first", "within", "too"));
}

// No event is lost, none is run twice or beside another, and the committer's
// thread runs only its own, whoever comes when.
TEST_F(MailboxTest, ManyThreadsRunEachEventOnce) {
  constexpr int kEach = 20'000;
  std::atomic<int> inside{0};
  int ran = 0;
  int beside = 0;
  int foreign = 0;
  std::thread::id committer_id;
  const auto event = [&](bool is_short) {
    return [&, is_short] {
      if (inside.exchange(1) != 0) ++beside;
      if (!is_short && std::this_thread::get_id() == committer_id) ++foreign;
      ++ran;
      inside = 0;
    };
  };
  std::latch go(1);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      go.wait();
      for (int n = 0; n < kEach; ++n) {
        i == 0 ? mailbox_.PostShort(event(true)) : mailbox_.Post(event(false));
      }
    });
  }
  committer_id = threads[0].get_id();
  go.count_down();
  for (std::thread& thread : threads) thread.join();
  mailbox_.Post([] {});
  EXPECT_EQ(ran, 3 * kEach);
  EXPECT_EQ(beside, 0);
  EXPECT_EQ(foreign, 0);
}

}  // namespace
}  // namespace gradtap::server
