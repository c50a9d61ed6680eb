#include "server/store/sealer.h"

#include <chrono>
#include <utility>

namespace gradtap::server {
namespace {

// Between two looks without a wake, and after an error.
constexpr std::chrono::seconds kPatience{5};

}  // namespace

Sealer::Sealer(std::function<absl::StatusOr<bool>()> work)
    : work_(std::move(work)), thread_([this] { Run(); }) {}

Sealer::~Sealer() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  thread_.join();
}

void Sealer::Wake() {
  MutexLock lock(mu_);
  if (std::exchange(woken_, true)) return;
  changed_.NotifyAll();
}

void Sealer::Run() {
  for (bool failed = false;;) {
    {
      MutexLock lock(mu_);
      const auto deadline = std::chrono::steady_clock::now() + kPatience;
      while (!stopping_ && (failed || !woken_) &&
             changed_.WaitUntil(mu_, deadline)) {
      }
      if (stopping_) return;
      woken_ = false;
    }
    const absl::StatusOr<bool> did = work_();
    // Damage is set aside: there may be something else to do.
    const bool damaged = absl::IsDataLoss(did.status());
    failed = !did.ok() && !damaged;
    if (damaged || (did.ok() && *did)) Wake();
  }
}

}  // namespace gradtap::server
