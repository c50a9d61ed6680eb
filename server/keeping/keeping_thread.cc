#include "server/keeping/keeping_thread.h"

#include <chrono>

namespace gradtap::server {

KeepingThread::KeepingThread(Keeper* keeper)
    : keeper_(keeper), thread_([this] { Run(); }) {}

KeepingThread::~KeepingThread() {
  keeper_->Stop();
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  stopped_.NotifyAll();
  thread_.join();
}

void KeepingThread::Run() {
  for (;;) {
    keeper_->Look();
    MutexLock lock(mu_);
    const auto next = std::chrono::steady_clock::now() + Keeper::kBetweenLooks;
    while (!stopping_ && stopped_.WaitUntil(mu_, next)) {
    }
    if (stopping_) return;
  }
}

}  // namespace gradtap::server
