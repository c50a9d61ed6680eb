// How long each method of a service takes, and how often it fails.
//
// Layer: server/service. This file: std, core, query's plain data; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_CALL_METER_H_
#define GRADTAP_SERVER_SERVICE_CALL_METER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/recent.h"
#include "core/sync.h"
#include "server/query/environment.h"

namespace gradtap::server {

// Thread-safe.
class CallMeter {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `method` is one of a few names of ours, never a peer's.
  void Ended(std::string_view method, TimePoint arrived, TimePoint now, bool ok)
      ABSL_LOCKS_EXCLUDED(mu_) {
    MutexLock lock(mu_);
    auto found = methods_.find(method);
    if (found == methods_.end()) {
      found = methods_.try_emplace(std::string(method)).first;
    }
    found->second.latency.Record(now - arrived, now);
    if (!ok) ++found->second.failed;
  }

  // Those that have ended at least once, by name.
  std::vector<CallFigures> Figures(TimePoint now) const
      ABSL_LOCKS_EXCLUDED(mu_) {
    std::vector<CallFigures> figures;
    MutexLock lock(mu_);
    for (const auto& [name, of] : methods_) {
      figures.push_back({name, of.latency.Figures(now), of.failed});
    }
    return figures;
  }

 private:
  struct Method {
    LatencyHistogram latency;
    std::uint64_t failed = 0;
  };
  mutable Mutex mu_;
  std::map<std::string, Method, std::less<>> methods_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_CALL_METER_H_
