#include "server/ingest/committer.h"

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

std::deque<CommitTask> Committer::TakeAll() {
  MutexLock lock(mu_);
  while (queue_.empty() && !stopping_) {
    work_.WaitUntil(
        mu_, std::chrono::steady_clock::now() + std::chrono::seconds(60));
  }
  return std::exchange(queue_, {});
}

void Committer::Run() {
  for (;;) {
    std::deque<CommitTask> tasks = TakeAll();
    if (tasks.empty()) return;
    runner_.Run(std::move(tasks));
  }
}

}  // namespace gradtap::server
