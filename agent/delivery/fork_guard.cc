#include "agent/delivery/fork_guard.h"

#include <pthread.h>

namespace gradtap::agent {

std::atomic<std::uint64_t> ForkGuard::generation_{0};

void ForkGuard::OnChild() noexcept {
  generation_.fetch_add(1, std::memory_order_relaxed);
}

ForkGuard::ForkGuard() : mine_(generation_.load(std::memory_order_relaxed)) {
  static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { OnChild(); });
  (void)registered;
}

}  // namespace gradtap::agent
