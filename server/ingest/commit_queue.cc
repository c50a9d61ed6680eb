#include "server/ingest/commit_queue.h"

#include <algorithm>

namespace gradtap::server {
namespace {

// What a batch costs besides its records: a cursor, an entry of the catalog.
constexpr std::uint64_t kOfABatch = 1024;

}  // namespace

void CommitQueue::Add(CommitTask task) {
  Stream& stream = streams_[task.batch->commit.stream];
  stream.end =
      std::max(stream.end, turn_) + kOfABatch + WriteBytes(task.batch->commit);
  ++stream.waiting;
  waiting_.emplace(std::make_pair(stream.end, come_++), std::move(task));
}

std::deque<CommitTask> CommitQueue::TakeGroup() {
  std::deque<CommitTask> group;
  std::size_t bytes = 0;
  while (!waiting_.empty() && bytes < kCommitGroupBytes) {
    const auto next = waiting_.begin();
    turn_ = next->first.first;
    const StreamCommit& commit = next->second.batch->commit;
    bytes += WriteBytes(commit);
    const auto stream = streams_.find(commit.stream);
    if (--stream->second.waiting == 0) streams_.erase(stream);
    group.push_back(std::move(next->second));
    waiting_.erase(next);
  }
  return group;
}

}  // namespace gradtap::server
