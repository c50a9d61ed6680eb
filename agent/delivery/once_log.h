// Says each distinct problem once, for a person.
//
// Layer: agent/delivery. This file: std, core; no grpc, no *.pb.h.

#ifndef GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_
#define GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
      if (!sink_ || cut_) return;
      speakers_.push_back(std::this_thread::get_id());
    }
    const Speech speech(this);
    sink_(message);
  }

  // The sink is not called any more. Waits at most `patience` for threads that
  // are in it, not for the caller's own; false if one still is, and then the
  // sink stays as it is. Else it is destroyed.
  bool Cut(std::chrono::milliseconds patience) ABSL_LOCKS_EXCLUDED(mu_) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    Sink gone;  // Destroyed without the lock.
    MutexLock lock(mu_);
    cut_ = true;
    while (OthersSpeak() && std::chrono::steady_clock::now() < deadline) {
      silence_.WaitUntil(mu_, deadline);
    }
    if (OthersSpeak()) return false;
    if (speakers_.empty()) gone.swap(sink_);
    return true;
  }

 private:
  static constexpr std::size_t kMaxKeys = 64;

  // A call of the sink, which may throw.
  class Speech {
   public:
    explicit Speech(OnceLog* log) : log_(log) {}
    ~Speech() {
      MutexLock lock(log_->mu_);
      log_->speakers_.erase(std::find(log_->speakers_.begin(),
                                      log_->speakers_.end(),
                                      std::this_thread::get_id()));
      log_->silence_.NotifyAll();
    }
    Speech(const Speech&) = delete;
    Speech& operator=(const Speech&) = delete;

   private:
    OnceLog* const log_;
  };

  bool OthersSpeak() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return std::any_of(
        speakers_.begin(), speakers_.end(),
        [](std::thread::id id) { return id != std::this_thread::get_id(); });
  }

  Mutex mu_;
  CondVar silence_;
  std::set<std::string> said_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread::id> speakers_ ABSL_GUARDED_BY(mu_);  // In the sink.
  bool cut_ ABSL_GUARDED_BY(mu_) = false;
  Sink sink_;  // Not changed while somebody is in it.
};

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_ONCE_LOG_H_
