// The batches that wait for the committer, and whose turn it is.
//
// Turns are of bytes, not of batches: each stream's batches follow one another
// as if all streams wrote at once and each as fast as any other (start-time
// fair queueing). Who has sent little goes before who has sent much, though
// that waits already, and nobody waits for ever.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h. Not thread-safe. A call costs the logarithm of what waits.

#ifndef GRADTAP_SERVER_INGEST_COMMIT_QUEUE_H_
#define GRADTAP_SERVER_INGEST_COMMIT_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <utility>

#include "server/ingest/commit_runner.h"
#include "server/store/store.h"

namespace gradtap::server {

class CommitQueue {
 public:
  // `task` has a batch. It goes after those of its stream that wait already.
  void Add(CommitTask task);

  // The next ones, as many as share a synced write: at least one if there is
  // one, and no further one once they have 4 MiB.
  std::deque<CommitTask> TakeGroup();

  // Whether a batch of this stream waits.
  bool Has(StreamId stream) const;
  bool empty() const { return waiting_.empty(); }

 private:
  struct Stream {
    std::uint64_t end = 0;  // Of its last batch, in bytes of its own turns.
    std::size_t waiting = 0;
  };

  void ForgetThoseBehind();

  // By the end of each, then in the order in which they came.
  std::map<std::pair<std::uint64_t, std::uint64_t>, CommitTask> waiting_;
  // Those that wait, and those that have had more than others lately.
  std::unordered_map<StreamId, Stream> streams_;
  std::size_t kept_streams_ = 0;  // After they were looked through.
  std::uint64_t come_ = 0;        // Batches, ever.
  std::uint64_t now_ = 0;  // Where a stream begins that has not been there.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_COMMIT_QUEUE_H_
