#include "server/ingest/committer.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

namespace gradtap::server {
namespace {

// Each stream's first batch, then each one's second: nobody waits for all that
// another one has sent. Those of a stream stay in their order.
void TakeTurns(std::deque<CommitTask>* tasks) {
  std::map<StreamId, std::size_t> of_stream;
  std::vector<std::pair<std::size_t, CommitTask>> turns;
  turns.reserve(tasks->size());
  for (CommitTask& task : *tasks) {
    const std::size_t turn = of_stream[task.batch->commit.stream]++;
    turns.emplace_back(turn, std::move(task));
  }
  std::stable_sort(
      turns.begin(), turns.end(),
      [](const auto& a, const auto& b) { return a.first < b.first; });
  tasks->clear();
  for (auto& [turn, task] : turns) tasks->push_back(std::move(task));
}

}  // namespace

Committer::Committer(Store* store, const Clock* clock,
                     const IngestLimits& limits)
    : runner_(store, clock, limits) {
  thread_ = std::thread([this] { Run(); });
}

Committer::~Committer() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
    work_.NotifyAll();
  }
  thread_.join();
}

void Committer::Open(StreamHello hello, OpenDone done) {
  Submit({nullptr, std::move(hello), nullptr, std::move(done)});
}

void Committer::Commit(std::unique_ptr<ValidatedBatch> batch, CommitDone done) {
  Submit({std::move(batch), {}, std::move(done), nullptr});
}

void Committer::Submit(CommitTask task) {
  MutexLock lock(mu_);
  queue_.push_back(std::move(task));
  work_.NotifyOne();
}

std::deque<CommitTask> Committer::TakeSome() {
  std::deque<CommitTask> come;
  {
    MutexLock lock(mu_);
    while (queue_.empty() && openings_.empty() && !stopping_) {
      work_.WaitUntil(
          mu_, std::chrono::steady_clock::now() + std::chrono::seconds(60));
    }
    come.swap(queue_);
  }
  // An opening is a synced write of its own, as a group of batches is: there
  // are no more of them than groups, but one. So neither waits for long,
  // however many of the other there are. No batch that came before an opening
  // stands behind it: it may be of that stream.
  std::deque<CommitTask> tasks;
  std::size_t bytes = 0;
  for (CommitTask& task : come) {
    if (task.batch != nullptr) bytes += WriteBytes(task.batch->commit);
    (task.batch != nullptr ? tasks : openings_).push_back(std::move(task));
  }
  TakeTurns(&tasks);
  for (std::size_t left = 1 + bytes / kCommitGroupBytes;
       left > 0 && !openings_.empty(); --left) {
    tasks.push_back(std::move(openings_.front()));
    openings_.pop_front();
  }
  return tasks;
}

void Committer::Run() {
  for (;;) {
    std::deque<CommitTask> tasks = TakeSome();
    if (tasks.empty()) return;
    runner_.Run(std::move(tasks));
  }
}

}  // namespace gradtap::server
