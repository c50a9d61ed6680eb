#include "server/ingest/committer.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace gradtap::server {

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
  CommitTask task;
  task.hello = std::move(hello);
  task.open_done = std::move(done);
  Submit(std::move(task));
}

void Committer::Commit(std::unique_ptr<ValidatedBatch> batch, CommitDone done) {
  CommitTask task;
  task.batch = std::move(batch);
  task.commit_done = std::move(done);
  Submit(std::move(task));
}

void Committer::Submit(CommitTask task) {
  MutexLock lock(mu_);
  queue_.push_back(std::move(task));
  work_.NotifyOne();
}

void Committer::Sort(std::deque<CommitTask> come) {
  for (CommitTask& task : come) {
    if (task.batch != nullptr) {
      batches_.Add(std::move(task));
    } else {
      task.stream = runner_.FindStream(task.hello);
      openings_.push_back(std::move(task));
    }
  }
}

std::deque<CommitTask> Committer::TakeSome() {
  std::deque<CommitTask> come;
  {
    MutexLock lock(mu_);
    while (queue_.empty() && batches_.empty() && openings_.empty() &&
           !stopping_) {
      work_.WaitUntil(
          mu_, std::chrono::steady_clock::now() + std::chrono::seconds(60));
    }
    come.swap(queue_);
  }
  Sort(std::move(come));
  std::deque<CommitTask> tasks = batches_.TakeGroup();
  // Not before what the stream's last session has sent: its cursor is told.
  const auto next = std::find_if(
      openings_.begin(), openings_.end(),
      [this](const CommitTask& task) { return !batches_.Has(task.stream); });
  if (next != openings_.end()) {
    tasks.push_back(std::move(*next));
    openings_.erase(next);
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
