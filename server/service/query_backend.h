// What every door to the queries shares: the environment, the threads that run
// them, and what is known of the calls so far.
//
// Layer: server/service. This file: std, absl, query; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_QUERY_BACKEND_H_
#define GRADTAP_SERVER_SERVICE_QUERY_BACKEND_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/limits/client_places.h"
#include "server/query/environment.h"
#include "server/query/run_query.h"
#include "server/service/call_meter.h"
#include "server/service/worker_pool.h"

namespace gradtap::server {

class HealthWatch;

struct QueryBackendOptions {
  std::uint32_t threads = 2;  // That run queries.
  // Queries that wait for one of them; of one client three quarters.
  std::uint32_t max_queued = 64;
  // Of one query, from when it is begun.
  std::chrono::nanoseconds max_time = std::chrono::seconds(30);
  // Of it, for matching names with the query's patterns; of the processor.
  std::chrono::nanoseconds max_match_time = std::chrono::seconds(2);
};

// Thread-safe.
class QueryBackend {
 public:
  using Task = std::function<absl::Status(const Cancelled& cancelled)>;
  using Done = std::function<void(const absl::Status& status)>;

  // What `environment` points to must outlive the backend. Its open_watches and
  // calls are set here.
  QueryBackend(QueryEnvironment environment,
               const QueryBackendOptions& options = {});
  // Runs what is queued.
  ~QueryBackend();
  QueryBackend(const QueryBackend&) = delete;
  QueryBackend& operator=(const QueryBackend&) = delete;

  // Runs `task` on one of the threads and tells `done`, there; never waits. If
  // it cannot it tells `done` at once: kUnavailable after Stop(),
  // kResourceExhausted if too many wait, or too many of `client`
  // (ClientName()), whose query counts until it is begun. What takes longer
  // than max_time is told to give up and is kDeadlineExceeded, what matches for
  // longer than max_match_time kResourceExhausted. `method` is a literal;
  // `gone` is asked whether anybody still waits for the answer.
  void Submit(const char* method, const std::string& client, Cancelled gone,
              Task task, Done done);

  // The same, and waits. Not for the backend's own threads.
  absl::Status Run(const char* method, const std::string& client,
                   Cancelled gone, Task task);

  // Refuses what comes from now on and tells tasks that run to give up.
  void Stop();
  // Returns when nothing is queued or running, or at the deadline.
  void WaitIdle(std::chrono::steady_clock::time_point deadline);

  // What evaluates rules; null: nothing does. Before the first call.
  void SetHealth(HealthWatch* health) { health_ = health; }
  HealthWatch* health() const { return health_; }

  // Adds to the open watches that GetStatus tells. Before the first call.
  void CountWatches(std::function<std::uint32_t()> open);

  const QueryEnvironment& environment() const { return environment_; }
  OverheadCache* overheads() { return &overheads_; }

 private:
  absl::Status RunTask(const Task& task, const Cancelled& gone) const;

  const QueryBackendOptions options_;
  QueryEnvironment environment_;
  HealthWatch* health_ = nullptr;
  OverheadCache overheads_;
  CallMeter meter_;
  std::vector<std::function<std::uint32_t()>> watches_;
  ClientPlaces places_;  // Of those that wait.
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint32_t> running_{0};  // Tasks that have not answered.
  std::unique_ptr<WorkerPool> pool_;  // Last: its tasks use all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_QUERY_BACKEND_H_
