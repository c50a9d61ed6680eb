// A few threads and a short queue for queries.
//
// Queries read the disk; gRPC's own threads also carry the agents' sessions,
// whose acknowledgements must not wait for somebody's plot. Hence a pool of its
// own, small, with a queue that refuses when it is full.
//
// Layer: server/service. This file: std, absl, core; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_WORKER_POOL_H_
#define GRADTAP_SERVER_SERVICE_WORKER_POOL_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "core/sync.h"

namespace gradtap::server {

// Thread-safe.
class WorkerPool {
 public:
  WorkerPool(std::size_t threads, std::size_t max_queued);
  // Runs what is queued, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False if the queue is full: `task` has not been and will not be run. Never
  // waits. Tasks must not throw.
  [[nodiscard]] bool TrySubmit(std::function<void()> task)
      ABSL_LOCKS_EXCLUDED(mu_);

  std::size_t queued() const ABSL_LOCKS_EXCLUDED(mu_);

  // Returns when nothing is queued or running, or at the deadline.
  void WaitIdle(std::chrono::steady_clock::time_point deadline)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Work() ABSL_LOCKS_EXCLUDED(mu_);

  const std::size_t max_queued_;
  mutable Mutex mu_;
  CondVar work_;  // A task, or closed.
  CondVar idle_;  // No task any more.
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mu_);
  std::size_t running_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::thread> threads_;  // Last: they use all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_WORKER_POOL_H_
