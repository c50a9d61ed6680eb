// Forwards chosen series, every step, to whoever takes Prometheus's remote
// write: a thread that follows what is committed.
//
// At least once while the collector runs: what cannot be sent now waits in the
// store. How far each run has been forwarded is stored every few seconds, so
// that a collector that starts goes on from there; the last seconds may be sent
// twice, which the receiver refuses, and then takes step by step. Runs that
// were there before forwarding was asked for begin with what comes from now on.
// What a receiver refuses (too old, out of order) is counted and left out: a
// job that goes back to a checkpoint is in order again by its times.
//
// Layer: server/forward. This file: std, absl, core, store.

#ifndef GRADTAP_SERVER_FORWARD_REMOTE_WRITER_H_
#define GRADTAP_SERVER_FORWARD_REMOTE_WRITER_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "core/sync.h"
#include "server/forward/forwarded_rows.h"
#include "server/notify/http_post.h"
#include "server/notify/notify_url.h"
#include "server/query/environment.h"
#include "server/store/store.h"

namespace gradtap::server {

struct RemoteWriteOptions {
  NotifyUrl url;              // With its path, such as /api/v1/write.
  MetricSelection selection;  // And all scalars.
  std::size_t samples_a_request = 5'000;
  std::chrono::milliseconds first_retry{1'000};
  std::chrono::milliseconds last_retry{30'000};
  std::chrono::milliseconds timeout{30'000};
  // After which the store is told how far each run has got.
  std::chrono::milliseconds remember{5'000};
  // Of a run of which nothing has come for so long, and nothing waits, no
  // series are kept. By then a reader takes its values for absent, without a
  // mark.
  std::chrono::milliseconds forget_after = std::chrono::minutes(5);
  // One line for whoever operates the collector. Any thread; may be unset.
  std::function<void(const std::string& line)> say;
};

class RemoteWriter {
 public:
  // `store` must outlive it.
  RemoteWriter(Store* store, RemoteWriteOptions options);
  // Sends nothing more, and remembers how far it has got. What is on its way is
  // given up within two seconds.
  ~RemoteWriter();
  RemoteWriter(const RemoteWriter&) = delete;
  RemoteWriter& operator=(const RemoteWriter&) = delete;

  ForwardFigures figures() const;

 private:
  struct FollowedRun {
    std::shared_ptr<const RunEntry> entry;  // Of its life.
    // Null: nothing has come for a while, or yet.
    std::unique_ptr<ForwardedRows> rows;
    std::chrono::steady_clock::time_point read;  // Some, last.
    std::uint64_t sent = 0;                      // Ordinal.
    std::uint64_t remembered = 0;                // The same, in the store.
    // What could not be sent, up to that ordinal.
    std::vector<promql::SampledSeries> waiting;
    std::uint64_t waiting_until = 0;
  };

  void Loop();
  bool stopping() ABSL_LOCKS_EXCLUDED(mu_);
  // True: something was sent, and there may be more.
  absl::StatusOr<bool> SendSome();
  absl::StatusOr<bool> SendOf(FollowedRun* run);
  ForwardedRows* RowsOf(FollowedRun* run);
  // Into run->waiting; false: it cannot be read.
  bool Read(FollowedRun* run);
  absl::Status Send(const std::vector<promql::SampledSeries>& series,
                    bool may_split);
  absl::Status Refused(const std::vector<promql::SampledSeries>& series,
                       bool may_split, const absl::Status& why);
  void Follow();
  void Begin(const std::shared_ptr<const RunEntry>& entry, FollowedRun* run);
  void Remember(bool at_once);
  void Wait(std::chrono::milliseconds time);
  void Say(const std::string& line) const;

  Store* const store_;
  const RemoteWriteOptions options_;
  std::map<std::string, FollowedRun> runs_;  // Of the thread.
  bool first_look_ = true;
  bool away_ = false;
  std::chrono::steady_clock::time_point next_remember_;
  std::uint64_t refusals_said_ = 0;
  std::atomic<std::uint64_t> sent_{0}, refused_{0}, failed_{0};

  Mutex mu_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  bool news_ ABSL_GUARDED_BY(mu_) = true;
  int listener_ = 0;
  HttpPoster poster_;
  std::thread thread_;  // Last: it uses all of the above.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_FORWARD_REMOTE_WRITER_H_
