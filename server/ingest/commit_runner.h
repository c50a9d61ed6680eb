// What the committer does with all that has queued up, without its thread: the
// grouping of commits into synced writes, and the opening of streams.
//
// Layer: server/ingest. This file: std, absl, core, store's interface; no grpc,
// no *.pb.h.

#ifndef GRADTAP_SERVER_INGEST_COMMIT_RUNNER_H_
#define GRADTAP_SERVER_INGEST_COMMIT_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "core/clock.h"
#include "server/ingest/ingest.h"
#include "server/ingest/stream_room.h"
#include "server/ingest/validate.h"
#include "server/store/store.h"

namespace gradtap::server {

// Callbacks: [Threading] the one that runs the tasks, in their order. [Locking]
// none held. [Exceptions] must not throw. Must not block: everybody's commits
// wait for it.
struct CommitTask {
  // Why a stream cannot be opened; its code says what the agent is told:
  // kResourceExhausted: a limit of this collector; any other: unavailable.
  using OpenDone = std::function<void(absl::StatusOr<OpenedStream>)>;
  using CommitDone = std::function<void(const ValidatedBatch&, absl::Status)>;

  std::unique_ptr<ValidatedBatch> batch;  // Null: open.
  StreamHello hello;
  CommitDone commit_done;
  OpenDone open_done;
  StreamId stream = 0;  // Of an opening; 0: it is a new one.
};

// Of one synced write: a group beyond it would only make its members wait.
inline constexpr std::size_t kCommitGroupBytes = std::size_t{4} << 20;

// What a commit adds to a write: its bytes, and keys for each thing in it.
std::size_t WriteBytes(const StreamCommit& commit);

// [Threading] One thread at a time.
class CommitRunner {
 public:
  // `store` and `clock` must outlive it.
  CommitRunner(Store* store, const Clock* clock, const IngestLimits& limits)
      : store_(store),
        clock_(clock),
        limits_(limits),
        room_(std::make_shared<StreamRoom>(RoomOf(limits))) {}

  // In order. Commits between two openings share a synced write, up to 4 MiB.
  void Run(std::deque<CommitTask> tasks);

  // The stream of a Hello; 0: the store has none.
  StreamId FindStream(const StreamHello& hello) const;

 private:
  static std::uint64_t RoomOf(const IngestLimits& limits);
  void CommitGroup(std::vector<CommitTask>* group);
  // kResourceExhausted: a stream that is not known would be too many, or a
  // known one would have too many tags. `*taken`: of the room for streams.
  absl::Status TakeRoom(const StreamHello& hello, std::uint64_t* taken);
  absl::Status CheckCounts(const RunEntry* run) const;
  absl::StatusOr<OpenedStream> OpenStream(const StreamHello& hello);
  // Reads one part at most.
  absl::Status LookForUnfinished(OpenedStream* opened);

  Store* const store_;
  const Clock* const clock_;
  const IngestLimits limits_;
  const std::shared_ptr<StreamRoom> room_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_INGEST_COMMIT_RUNNER_H_
