#include "agent/process_guard.h"

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <set>

#include "absl/base/thread_annotations.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

std::atomic<bool> forked{false};
// Of the process that installed the guards: catches a fork that ran no handler.
std::atomic<pid_t> installed_in{0};

struct Registry {
  Mutex mu;
  std::set<ExitGuarded*> objects ABSL_GUARDED_BY(mu);
};

// Never destroyed: agents may outlive static destructors.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

void AtExit() {
  // A child's copy of the lock may be held by a thread that it does not have.
  if (IsForkedChild()) return;
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  for (ExitGuarded* object : registry.objects) object->OnExit();
}

}  // namespace

void InstallProcessGuards() {
  static const bool once = [] {
    TheRegistry();
    installed_in.store(::getpid());
    ::pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
    std::atexit(AtExit);
    return true;
  }();
  static_cast<void>(once);
}

bool IsForkedChild() {
  if (forked.load(std::memory_order_relaxed)) return true;
  const pid_t pid = installed_in.load(std::memory_order_relaxed);
  return pid != 0 && pid != ::getpid();
}

void RegisterForExit(ExitGuarded* object) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  registry.objects.insert(object);
}

void DeregisterForExit(ExitGuarded* object) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  registry.objects.erase(object);
}

}  // namespace gradtap::agent
