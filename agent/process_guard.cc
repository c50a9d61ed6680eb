#include "agent/process_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>

namespace gradtap::agent {
namespace {

std::atomic<bool> forked{false};
// Of the process that watches: catches a fork that ran no handler.
std::atomic<pid_t> watcher{0};

}  // namespace

void WatchForForks() {
  static const int once = [] {
    watcher.store(::getpid());
    return ::pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
  }();
  static_cast<void>(once);
}

bool IsForkedChild() {
  if (forked.load(std::memory_order_relaxed)) return true;
  const pid_t pid = watcher.load(std::memory_order_relaxed);
  return pid != 0 && pid != ::getpid();
}

}  // namespace gradtap::agent
