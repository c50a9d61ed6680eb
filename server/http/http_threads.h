// The threads of the HTTP server, one a connection: made when they are needed,
// gone when they have been idle.
//
// Layer: server/http. This file: std, core, cpp-httplib.

#ifndef GRADTAP_SERVER_HTTP_HTTP_THREADS_H_
#define GRADTAP_SERVER_HTTP_HTTP_THREADS_H_

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "core/sync.h"

namespace gradtap::server {

// Nothing, or with newer versions of the library whether it was taken.
using Enqueued = decltype(std::declval<httplib::TaskQueue&>().enqueue(nullptr));

// Thread-safe. shutdown() comes before the end.
class HttpThreads final : public httplib::TaskQueue {
 public:
  // At most `max_threads` at a time; one that has had nothing to do for
  // `idle_time` ends.
  HttpThreads(std::size_t max_threads, std::chrono::milliseconds idle_time);
  ~HttpThreads() override;

  // Waits while max_threads connections wait for a thread: whoever comes then
  // waits in the system's queue.
  Enqueued enqueue(std::function<void()> connection) override
      ABSL_LOCKS_EXCLUDED(mu_);
  // Runs what waits, and joins.
  void shutdown() override ABSL_LOCKS_EXCLUDED(mu_);

  std::size_t threads() const ABSL_LOCKS_EXCLUDED(mu_);
  // Calls of enqueue() that wait.
  std::size_t held_back() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  void Work(std::size_t id) ABSL_LOCKS_EXCLUDED(mu_);

  const std::size_t max_threads_;
  const std::chrono::milliseconds idle_time_;
  mutable Mutex mu_;
  CondVar changed_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mu_);
  std::size_t idle_ ABSL_GUARDED_BY(mu_) = 0;
  std::size_t held_back_ ABSL_GUARDED_BY(mu_) = 0;
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::size_t next_id_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::size_t, std::thread> threads_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> ended_ ABSL_GUARDED_BY(mu_);  // To be joined.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_THREADS_H_
