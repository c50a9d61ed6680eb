// The one thread that writes to the store for all sessions.
//
// While a synced write runs, what arrives waits; when it has ended, as much of
// that as one write takes (4 MiB) goes into the next one, whose turn it is by
// CommitQueue, and one stream is opened. There is no timer: a lone batch is
// written at once, and under load the groups grow by themselves. So neither
// batches wait for many openings, nor openings for many batches, nor who sends
// little for who sends much.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_COMMITTER_H_
#define GRADTAP_SERVER_INGEST_COMMITTER_H_

#include <deque>
#include <memory>
#include <thread>

#include "core/clock.h"
#include "core/sync.h"
#include "server/ingest/commit_queue.h"
#include "server/ingest/commit_runner.h"
#include "server/ingest/ingest.h"
#include "server/ingest/validate.h"
#include "server/store/store.h"

namespace gradtap::server {

// Thread-safe. What is queued is bounded by its callers: each session stops
// reading at its credit.
class Committer {
 public:
  using OpenDone = CommitTask::OpenDone;
  using CommitDone = CommitTask::CommitDone;

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
  void Run() ABSL_LOCKS_EXCLUDED(mu_);
  void Submit(CommitTask task) ABSL_LOCKS_EXCLUDED(mu_);
  void Sort(std::deque<CommitTask> come);
  // Waits for tasks: a group of batches, then one opening. Empty: stopped, and
  // nothing is left.
  std::deque<CommitTask> TakeSome() ABSL_LOCKS_EXCLUDED(mu_);

  // The thread's.
  CommitRunner runner_;
  CommitQueue batches_;
  std::deque<CommitTask> openings_;

  Mutex mu_;
  CondVar work_;  // Something queued, or stopping.
  std::deque<CommitTask> queue_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  std::thread thread_;  // Last: it uses all the others.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_COMMITTER_H_
