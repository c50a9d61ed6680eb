#include "agent/run_claim.h"

#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

struct Registry {
  Mutex mu;
  std::multiset<std::string> claimed ABSL_GUARDED_BY(mu);
};

// Never destroyed: agents may be as static as it.
Registry& TheRegistry() {
  static Registry* const registry = new Registry;
  return *registry;
}

}  // namespace

RunClaim::RunClaim(std::string what) : what_(std::move(what)) {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  shared_ = registry.claimed.count(what_) > 0;
  registry.claimed.insert(what_);
}

RunClaim::~RunClaim() {
  Registry& registry = TheRegistry();
  MutexLock lock(registry.mu);
  registry.claimed.erase(registry.claimed.find(what_));
}

}  // namespace gradtap::agent
