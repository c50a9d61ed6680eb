// The rules of all runs, evaluated as data arrives: one thread that reads what
// the store tells of, and the runs' state.
//
// Every row is looked at, in order; who is behind reads from the store what is
// not in its tail any more. Ingest never waits for any of this. A run's state
// is written with each change of an alert, and every half a minute; a collector
// that starts goes on from there, and comes to the same alerts. A run that is
// over is forgotten but for that.
//
// Layer: server/health. This file: std, absl, store, query, gradtap_proto; no
// grpc.

#ifndef GRADTAP_SERVER_HEALTH_HEALTH_WATCH_H_
#define GRADTAP_SERVER_HEALTH_HEALTH_WATCH_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "gradtap/v1/alert.pb.h"
#include "server/health/alert_log.h"
#include "server/health/rules.h"
#include "server/health/run_health.h"
#include "server/query/environment.h"
#include "server/query/row_reader.h"
#include "server/store/store.h"

namespace gradtap::server {

struct HealthOptions {
  std::shared_ptr<const Rules> rules;
  // Between two looks at what has come, so that one look has more than a row.
  std::chrono::milliseconds pace{20};
  // Between two writes of a run's state, if no alert changes.
  std::chrono::seconds checkpoint{30};
  // How long a stop goes on with what has come. What is left is looked at after
  // the next start.
  std::chrono::milliseconds last_look{2'000};
  // One line for whoever operates the collector. Any thread; may be unset.
  std::function<void(const std::string& line)> say;
};

// Since the start.
struct HealthFigures {
  std::uint64_t rows = 0;         // Looked at.
  std::uint64_t unread_rows = 0;  // That could not be read.
  std::uint64_t failed_writes = 0;
  std::int64_t busy_ns = 0;  // CPU time of its thread.
  std::uint64_t behind = 0;  // Now: rows and gaps of all runs.
  std::uint32_t runs = 0;    // Now: with a state in memory.
};

// Thread-safe, but for Start() and Stop().
class HealthWatch {
 public:
  // What is pointed to must outlive it. Errors: stored alerts that cannot be
  // read.
  static absl::StatusOr<std::unique_ptr<HealthWatch>> Start(
      Store* store, const Clock* clock, Connected connected,
      HealthOptions options);
  ~HealthWatch();
  HealthWatch(const HealthWatch&) = delete;
  HealthWatch& operator=(const HealthWatch&) = delete;

  // From now on silence means nothing: sessions are being ended.
  void BeginShutdown() { ending_ = true; }
  // Looks at all that is stored, writes the states, ends the thread.
  // Idempotent.
  void Stop();

  const std::shared_ptr<const Rules>& rules() const { return options_.rules; }
  AlertLog& log() { return log_; }
  const AlertLog& log() const { return log_; }
  HealthFigures figures() const;

  // As rules_replay.h has it, with these rules if the request brings none.
  // kResourceExhausted while another test runs: each takes a query's thread for
  // as long as the run is.
  absl::Status TestRules(const QueryEnvironment& environment,
                         const v1::TestRulesRequest& request,
                         const Cancelled& cancelled,
                         v1::TestRulesResponse* response);
  // kNotFound as of other queries; kInvalidArgument: max_names over 100,000.
  absl::Status GetHealth(const v1::GetHealthRequest& request,
                         v1::GetHealthResponse* response);
  absl::Status ListAlerts(const v1::ListAlertsRequest& request,
                          v1::ListAlertsResponse* response) const;

 private:
  // A run that goes on, or has just ended.
  struct Watched {
    std::unique_ptr<RunHealth> health;
    std::int64_t created_unix_ns = 0;
    std::vector<v1::Alert> unwritten;
    bool dirty = false;  // It has seen rows since it was written.
    std::chrono::steady_clock::time_point written_at;
  };

  HealthWatch(Store* store, const Clock* clock, Connected connected,
              HealthOptions options);

  void Run();
  void MarkDue(const std::string& run) ABSL_LOCKS_EXCLUDED(due_mu_);
  // True: there is more of them. Not after `until`, when false.
  bool LookAtDue(std::chrono::steady_clock::time_point until)
      ABSL_LOCKS_EXCLUDED(due_mu_);
  std::set<std::string> TakeDue() ABSL_LOCKS_EXCLUDED(due_mu_);
  bool stopping() const ABSL_LOCKS_EXCLUDED(due_mu_);
  // True: there is more to look at.
  bool LookAt(const std::string& run) ABSL_LOCKS_EXCLUDED(runs_mu_);
  void LookAtClocks() ABSL_LOCKS_EXCLUDED(runs_mu_);
  // Null: the rules are not about it, or it is over and all of it looked at.
  Watched* Find(const std::shared_ptr<const RunEntry>& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(runs_mu_);
  std::unique_ptr<RunHealth> Open(const std::shared_ptr<const RunEntry>& entry);
  bool IsDone(const RunEntry& entry, const v1::RunHealthState& state) const;
  absl::StatusOr<bool> Read(const RunEntry& entry, RunHealth* health)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(runs_mu_);
  void LookAtClock(RunHealth* health);
  void Write(const std::shared_ptr<const RunEntry>& entry, bool at_once)
      ABSL_LOCKS_EXCLUDED(runs_mu_);
  void WriteAll() ABSL_LOCKS_EXCLUDED(runs_mu_);
  void SayOnce(const std::string& line);

  Store* const store_;
  const Clock* const clock_;
  const Connected connected_;
  const HealthOptions options_;
  const std::int64_t since_unix_ns_;
  AlertLog log_;

  std::atomic<bool> ending_{false};
  std::atomic<bool> testing_{false};

  mutable Mutex due_mu_;
  CondVar due_changed_;
  std::set<std::string> due_ ABSL_GUARDED_BY(due_mu_);
  // The thread waits for a run that is due, and not only for its pace.
  bool idle_ ABSL_GUARDED_BY(due_mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(due_mu_) = false;

  // Held while rows are looked at, a block at a time.
  mutable Mutex runs_mu_;
  std::map<std::string, Watched> runs_ ABSL_GUARDED_BY(runs_mu_);
  HealthFigures figures_ ABSL_GUARDED_BY(runs_mu_);

  // Of the thread: runs that were there when it began, by when they were made,
  // and what it has said.
  std::map<std::string, std::int64_t> old_;
  std::set<std::string> said_;

  int listener_ = 0;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_HEALTH_WATCH_H_
