// The one thread that writes to the store for all sessions.
//
// While a synced write runs, what arrives waits; when it has ended, all that
// has come meanwhile goes into the next one. There is no timer: a lone batch is
// written at once, and under load the groups grow by themselves.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_COMMITTER_H_
#define GRADTAP_SERVER_INGEST_COMMITTER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "server/ingest/ingest.h"
#include "server/ingest/validate.h"
#include "server/store/store.h"

namespace gradtap::server {

// Thread-safe. What is queued is bounded by its callers: each session stops
// reading at its credit.
//
// Callbacks: [Threading] the committer's thread, in the order of the calls.
// [Locking] none held. [Exceptions] must not throw. Must not block: everybody's
// commits wait for it.
class Committer {
 public:
  // Why a stream cannot be opened; its code says what the agent is told:
  // kResourceExhausted: a limit of this collector; any other: unavailable.
  using OpenDone = std::function<void(absl::StatusOr<OpenedStream>)>;
  using CommitDone = std::function<void(const ValidatedBatch&, absl::Status)>;

  // Starts the thread. `store` and `clock` must outlive it.
  Committer(Store* store, const Clock* clock, const IngestLimits& limits);
  // Does what is queued, then ends the thread.
  ~Committer();

  Committer(const Committer&) = delete;
  Committer& operator=(const Committer&) = delete;

  void Open(StreamHello hello, OpenDone done) ABSL_LOCKS_EXCLUDED(mu_);

  // Everything of the batch becomes durable, or nothing and `done` gets the
  // store's error. Batches of a stream are committed in order; after one has
  // failed the later ones fail, too (their cursor does not fit).
  void Commit(std::unique_ptr<ValidatedBatch> batch, CommitDone done)
      ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Task {
    std::unique_ptr<ValidatedBatch> batch;  // Null: open.
    StreamHello hello;
    CommitDone commit_done;
    OpenDone open_done;
  };

  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  void Submit(Task task) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits for tasks; empty: stopped, and nothing is left.
  std::deque<Task> TakeAll() ABSL_LOCKS_EXCLUDED(mu_);
  void RunTasks(std::deque<Task> tasks);
  void CommitGroup(std::vector<Task>* group);
  absl::StatusOr<OpenedStream> OpenStream(const StreamHello& hello);

  Store* const store_;
  const Clock* const clock_;
  const IngestLimits limits_;

  Mutex mu_;
  CondVar work_;  // Something queued, or stopping.
  std::deque<Task> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_COMMITTER_H_
