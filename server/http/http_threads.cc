#include "server/http/http_threads.h"

#include <system_error>
#include <utility>

#include "server/limits/thread_priority.h"

namespace gradtap::server {
namespace {

// From now on; waits are in loops.
std::chrono::steady_clock::time_point Soon() {
  return std::chrono::steady_clock::now() + std::chrono::seconds(1);
}

}  // namespace

HttpThreads::HttpThreads(std::size_t max_threads,
                         std::chrono::milliseconds idle_time)
    : max_threads_(max_threads), idle_time_(idle_time) {}

HttpThreads::~HttpThreads() { shutdown(); }

Enqueued HttpThreads::enqueue(std::function<void()> connection) {
  std::vector<std::thread> ended;
  std::function<void()> here;  // Nobody else can.
  {
    MutexLock lock(mu_);
    ++held_back_;
    while (waiting_.size() >= max_threads_ && !closed_) {
      changed_.WaitUntil(mu_, Soon());
    }
    --held_back_;
    waiting_.push_back(std::move(connection));
    ended.swap(ended_);
    if (waiting_.size() > idle_ && threads_.size() < max_threads_) {
      const std::size_t id = next_id_++;
      try {
        threads_[id] = std::thread([this, id] { Work(id); });
      } catch (const std::system_error&) {  // One of the others takes it.
        threads_.erase(id);
        if (threads_.empty()) {
          here = std::move(waiting_.back());
          waiting_.pop_back();
        }
      }
    }
  }
  changed_.NotifyAll();
  for (std::thread& thread : ended) thread.join();
  if (here) here();
  return static_cast<Enqueued>(true);
}

void HttpThreads::shutdown() {
  std::vector<std::thread> ended;
  {
    MutexLock lock(mu_);
    closed_ = true;
    changed_.NotifyAll();
    while (!threads_.empty()) changed_.WaitUntil(mu_, Soon());
    ended.swap(ended_);
  }
  for (std::thread& thread : ended) thread.join();
}

std::size_t HttpThreads::threads() const {
  MutexLock lock(mu_);
  return threads_.size();
}

std::size_t HttpThreads::held_back() const {
  MutexLock lock(mu_);
  return held_back_;
}

void HttpThreads::Work(std::size_t id) {
  LetAgentsGoFirst();
  for (;;) {
    std::function<void()> connection;
    {
      MutexLock lock(mu_);
      const auto until = std::chrono::steady_clock::now() + idle_time_;
      ++idle_;
      while (waiting_.empty() && !closed_ && changed_.WaitUntil(mu_, until)) {
      }
      --idle_;
      if (waiting_.empty()) {
        ended_.push_back(std::move(threads_.at(id)));
        threads_.erase(id);
        changed_.NotifyAll();
        return;
      }
      connection = std::move(waiting_.front());
      waiting_.pop_front();
    }
    changed_.NotifyAll();
    connection();
  }
}

}  // namespace gradtap::server
