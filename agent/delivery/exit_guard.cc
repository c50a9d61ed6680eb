#include "agent/delivery/exit_guard.h"

#include <cstdlib>
#include <set>

#include "agent/delivery/fork_guard.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

struct Registry {
  const ForkGuard fork;
  Mutex mu;
  std::set<ExitGuard::Client*> clients ABSL_GUARDED_BY(mu);
};

void AtExit();

// Never destroyed.
Registry& TheRegistry() {
  static Registry* const registry = [] {
    auto* const made = new Registry;
    std::atexit(&AtExit);
    return made;
  }();
  return *registry;
}

void AtExit() {
  Registry& registry = TheRegistry();
  if (registry.fork.forked()) return;  // Its lock may be held for ever.
  MutexLock lock(registry.mu);
  for (ExitGuard::Client* client : registry.clients) client->OnExit();
  registry.clients.clear();
}

}  // namespace

void ExitGuard::Add(Client* client) {
  Registry& registry = TheRegistry();
  if (registry.fork.forked()) return;
  MutexLock lock(registry.mu);
  registry.clients.insert(client);
}

void ExitGuard::Remove(Client* client) {
  Registry& registry = TheRegistry();
  if (registry.fork.forked()) return;
  MutexLock lock(registry.mu);
  registry.clients.erase(client);
}

}  // namespace gradtap::agent
