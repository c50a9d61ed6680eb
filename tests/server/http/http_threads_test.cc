#include "server/http/http_threads.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>
#include <vector>

namespace gradtap::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;

// A connection that stays until it is let go.
class Held {
 public:
  std::function<void()> Connection() {
    return [this] {
      ++open_;
      gate_.get_future().wait();
    };
  }
  void LetGo() { gate_.set_value(); }
  void AwaitOpen() const {
    while (open_ == 0) std::this_thread::yield();
  }

 private:
  std::promise<void> gate_;
  std::atomic<int> open_{0};
};

TEST(HttpThreadsTest, AConnectionHasAThreadOfItsOwn) {
  HttpThreads threads(8, hours(1));
  EXPECT_EQ(threads.threads(), 0u);
  Held first, second;
  threads.enqueue(first.Connection());
  first.AwaitOpen();
  threads.enqueue(second.Connection());
  second.AwaitOpen();
  EXPECT_EQ(threads.threads(), 2u);
  first.LetGo();
  second.LetGo();
  threads.shutdown();
  EXPECT_EQ(threads.threads(), 0u);
}

TEST(HttpThreadsTest, WhoComesBeyondTheLimitWaitsForAThread) {
  HttpThreads threads(2, hours(1));
  Held first, second;
  threads.enqueue(first.Connection());
  threads.enqueue(second.Connection());
  first.AwaitOpen();
  second.AwaitOpen();
  std::promise<void> served;
  threads.enqueue([&served] { served.set_value(); });
  EXPECT_EQ(threads.threads(), 2u);
  first.LetGo();
  served.get_future().wait();
  second.LetGo();
  threads.shutdown();
}

TEST(HttpThreadsTest, AFullQueueHoldsTheListenerBack) {
  HttpThreads threads(1, hours(1));
  Held held;
  threads.enqueue(held.Connection());
  held.AwaitOpen();
  std::atomic<int> served{0};
  threads.enqueue([&served] { ++served; });  // Waits.
  std::atomic<bool> taken{false};
  std::thread listener([&] {
    threads.enqueue([&served] { ++served; });
    taken = true;
  });
  // Held back is who has looked at the queue; without that this has no end.
  while (threads.held_back() == 0) std::this_thread::yield();
  EXPECT_FALSE(taken);
  held.LetGo();
  listener.join();
  threads.shutdown();
  EXPECT_EQ(served, 2);
}

TEST(HttpThreadsTest, IdleThreadsEnd) {
  HttpThreads threads(8, milliseconds(1));
  for (int i = 0; i < 8; ++i) threads.enqueue([] {});
  while (threads.threads() > 0) std::this_thread::yield();
  std::promise<void> served;
  threads.enqueue([&served] { served.set_value(); });
  served.get_future().wait();
}

TEST(HttpThreadsTest, ShutdownRunsWhatWaits) {
  std::atomic<int> served{0};
  {
    HttpThreads threads(2, hours(1));
    for (int i = 0; i < 4; ++i) threads.enqueue([&served] { ++served; });
    threads.shutdown();
    EXPECT_EQ(served, 4);
  }
}

TEST(HttpThreadsTest, ManyShortConnectionsAreAllServed) {
  std::atomic<int> served{0};
  {
    HttpThreads threads(4, milliseconds(1));
    for (int i = 0; i < 2000; ++i) threads.enqueue([&served] { ++served; });
  }
  EXPECT_EQ(served, 2000);
}

}  // namespace
}  // namespace gradtap::server
