// Says each distinct problem once, for a person.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_
#define GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_

#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <utility>

#include "core/sync.h"

namespace gradtap::agent {

// Thread-safe. The sink is called with no lock held.
class OnceLog {
 public:
  using Sink = std::function<void(const std::string& message)>;

  explicit OnceLog(Sink sink) : sink_(std::move(sink)) {}

  // The first call with `key` passes `message` on; at most 64 keys.
  void Say(const std::string& key, const std::string& message)
      ABSL_LOCKS_EXCLUDED(mu_) {
    {
      MutexLock lock(mu_);
      if (said_.size() >= kMaxKeys || !said_.insert(key).second) return;
    }
    if (sink_) sink_(message);
  }

 private:
  static constexpr std::size_t kMaxKeys = 64;

  const Sink sink_;
  Mutex mu_;
  std::set<std::string> said_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_
