#include "server/service/worker_pool.h"

#include <chrono>
#include <utility>

#include "server/limits/thread_priority.h"

namespace gradtap::server {

WorkerPool::WorkerPool(std::size_t threads, std::size_t max_queued)
    : max_queued_(max_queued) {
  threads_.reserve(threads);
  for (std::size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { Work(); });
  }
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(mu_);
    closed_ = true;
  }
  work_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

bool WorkerPool::TrySubmit(std::function<void()> task) {
  {
    MutexLock lock(mu_);
    if (closed_ || queue_.size() >= max_queued_) return false;
    queue_.push_back(std::move(task));
  }
  work_.NotifyOne();
  return true;
}

std::size_t WorkerPool::queued() const {
  MutexLock lock(mu_);
  return queue_.size();
}

void WorkerPool::WaitIdle(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while ((running_ > 0 || !queue_.empty()) && idle_.WaitUntil(mu_, deadline)) {
  }
}

void WorkerPool::Work() {
  LetAgentsGoFirst();
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mu_);
      while (queue_.empty() && !closed_) {
        work_.WaitUntil(
            mu_, std::chrono::steady_clock::now() + std::chrono::hours(1));
      }
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
      ++running_;
    }
    task();
    task = nullptr;
    MutexLock lock(mu_);
    if (--running_ == 0 && queue_.empty()) idle_.NotifyAll();
  }
}

}  // namespace gradtap::server
