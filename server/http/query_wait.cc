#include "server/http/query_wait.h"

#include <utility>

namespace gradtap::server {

Cancelled LookForClient(Cancelled gone,
                        std::chrono::milliseconds between_looks) {
  using Clock = std::chrono::steady_clock;
  if (!gone) return [] { return false; };
  return [gone = std::move(gone), between_looks, next = Clock::time_point(),
          has_gone = false]() mutable {
    if (const auto now = Clock::now(); !has_gone && now >= next) {
      next = now + between_looks;
      has_gone = gone();
    }
    return has_gone;
  };
}

}  // namespace gradtap::server
