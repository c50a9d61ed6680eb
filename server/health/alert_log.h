// All alerts of all runs: stored beside their run, in memory for those who list
// them, wait for them, or pass them on.
//
// A beginning or an end is durable before anybody hears of it, in one write
// with the state that it came from; unless the disk refuses, when it is told
// all the same and written later. What an active alert says meanwhile (its
// newest step, its worst) is written with the next state.
//
// Layer: server/health. This file: std, absl, store, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_HEALTH_ALERT_LOG_H_
#define GRADTAP_SERVER_HEALTH_ALERT_LOG_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "gradtap/v1/alert.pb.h"
#include "server/store/store.h"

namespace gradtap::server {

// To whom alerts are passed on. Bits of StoredAlert.told.
enum class Destination : std::uint32_t { kAlertmanager = 1, kWebhook = 4 };

// Calls to a destination, since the start.
struct CallCounts {
  std::uint64_t sent = 0;
  std::uint64_t failed = 0;
};

// Thread-safe.
class AlertLog {
 public:
  // Of one run. The oldest that have ended go first.
  static constexpr std::size_t kMaxAlertsOfRun = 1000;

  // Both must outlive the log.
  AlertLog(Store* store, const Clock* clock) : store_(store), clock_(clock) {}

  // Reads what is stored. Before anything else.
  absl::Status Load() ABSL_LOCKS_EXCLUDED(mu_);

  // What has begun or ended in a run, those that are active, and what else is
  // to be written with them. An error: nothing of it is written; alerts are
  // told, and written with the next call.
  absl::Status Write(const RunEntry& run, const std::vector<v1::Alert>& changes,
                     const std::vector<v1::Alert>& active,
                     std::vector<Attachment> others)
      ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  // What active alerts say now: told, not written. True: some has changed.
  bool Update(const std::vector<v1::Alert>& active) ABSL_LOCKS_EXCLUDED(mu_);
  // The run has been deleted.
  void Forget(const std::string& run) ABSL_LOCKS_EXCLUDED(mu_);

  // The newest first. kInvalidArgument: no such rule, or a time before 1970.
  absl::Status List(const v1::ListAlertsRequest& request,
                    v1::ListAlertsResponse* response) const
      ABSL_LOCKS_EXCLUDED(mu_);
  // Of an attempt's rule the newest; false: there is none.
  bool Newest(const std::string& run, std::uint32_t attempt,
              v1::HealthRule rule, v1::Alert* alert) const
      ABSL_LOCKS_EXCLUDED(mu_);
  // Those that have changed after a change, the oldest change first, at most
  // `most`; of one run unless `run` is empty.
  std::vector<v1::Alert> After(std::uint64_t change, const std::string& run,
                               std::size_t most) const ABSL_LOCKS_EXCLUDED(mu_);
  std::uint64_t change() const ABSL_LOCKS_EXCLUDED(mu_);

  // Waits until something has changed after `change`, or Wake() has been called
  // since wakes() was `wakes`, or the deadline passes.
  void Wait(std::uint64_t change, std::uint64_t wakes,
            std::chrono::steady_clock::time_point deadline) const
      ABSL_LOCKS_EXCLUDED(mu_);
  void Wake() ABSL_LOCKS_EXCLUDED(mu_);
  std::uint64_t wakes() const ABSL_LOCKS_EXCLUDED(mu_);

  // ---- Passing on. ----
  struct ToTell {
    v1::Alert alert;
    bool begin_told = false;
  };
  // Alerts whose beginning or end a destination has not been told, in order.
  // Nobody is told of one that ended before `ended_since_unix_ns`.
  std::vector<ToTell> Untold(Destination to,
                             std::int64_t ended_since_unix_ns) const
      ABSL_LOCKS_EXCLUDED(mu_);
  std::vector<v1::Alert> Active() const ABSL_LOCKS_EXCLUDED(mu_);
  // Durably, if it can be.
  absl::Status SetTold(Destination to, const std::string& run, std::uint64_t id,
                       bool ended) ABSL_LOCKS_EXCLUDED(write_mu_, mu_);
  void CountCall(Destination to, bool ok) ABSL_LOCKS_EXCLUDED(mu_);
  CallCounts calls(Destination to) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Entry {
    v1::Alert alert;
    std::uint32_t told = 0;
    bool written = false;
  };
  using Entries = std::map<std::uint64_t, Entry>;  // By id.

  void PutLocked(const v1::Alert& alert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TrimLocked(Entries* entries, std::vector<Attachment>* writes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::uint64_t NextChangeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Store* const store_;
  const Clock* const clock_;

  // Held across a write, so that what is stored is never older than what was.
  Mutex write_mu_;  // Before mu_.
  mutable Mutex mu_;
  mutable CondVar changed_;
  std::map<std::string, Entries> runs_ ABSL_GUARDED_BY(mu_);
  // Which alert changed when.
  std::map<std::uint64_t, std::pair<std::string, std::uint64_t>> order_
      ABSL_GUARDED_BY(mu_);
  std::uint64_t change_ ABSL_GUARDED_BY(mu_) = 0;
  std::uint64_t wakes_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<Destination, CallCounts> calls_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_ALERT_LOG_H_
