#include "server/ingest/commit_queue.h"

#include <algorithm>
#include <utility>

namespace gradtap::server {
namespace {

constexpr std::size_t kFewStreams = 1024;

// With what it costs besides its records: a cursor, an entry of the catalog.
std::uint64_t CostOf(const CommitTask& task) {
  return 1024 + WriteBytes(task.batch->commit);
}

}  // namespace

bool CommitQueue::Has(StreamId stream) const {
  const auto found = streams_.find(stream);
  return found != streams_.end() && found->second.waiting > 0;
}

void CommitQueue::Add(CommitTask task) {
  Stream& stream = streams_[task.batch->commit.stream];
  stream.end = std::max(stream.end, now_) + CostOf(task);
  ++stream.waiting;
  waiting_.emplace(std::make_pair(stream.end, come_++), std::move(task));
}

std::deque<CommitTask> CommitQueue::TakeGroup() {
  std::deque<CommitTask> group;
  std::size_t bytes = 0;
  while (!waiting_.empty() && bytes < kCommitGroupBytes) {
    const auto next = waiting_.begin();
    // Its beginning, not its end: else who comes now would stand behind all
    // that wait for turns as long as this one's.
    now_ = std::max(now_, next->first.first - CostOf(next->second));
    const StreamCommit& commit = next->second.batch->commit;
    bytes += WriteBytes(commit);
    --streams_[commit.stream].waiting;
    group.push_back(std::move(next->second));
    waiting_.erase(next);
  }
  ForgetThoseBehind();
  return group;
}

void CommitQueue::ForgetThoseBehind() {
  if (streams_.size() <= 2 * kept_streams_ + kFewStreams) return;
  std::erase_if(streams_, [this](const auto& one) {
    return one.second.waiting == 0 && one.second.end <= now_;
  });
  kept_streams_ = streams_.size();
}

}  // namespace gradtap::server
