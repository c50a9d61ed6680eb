// Tells a forked child from the process that it was forked from.
//
// Layer: agent/delivery. This file: std; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_FORK_GUARD_H_
#define GRADTAP_AGENT_DELIVERY_FORK_GUARD_H_

#include <atomic>
#include <cstdint>

namespace gradtap::agent {

// Made in the process that owns something; forked() is true in its children by
// fork(). No system call after construction.
class ForkGuard {
 public:
  ForkGuard();
  bool forked() const noexcept {
    return generation_.load(std::memory_order_relaxed) != mine_;
  }

 private:
  static std::atomic<std::uint64_t> generation_;
  static void OnChild() noexcept;

  const std::uint64_t mine_;
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_FORK_GUARD_H_
