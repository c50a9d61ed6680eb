// What was refused because of a limit, counted by limit.
//
// Whoever refuses something counts it here, on the spot; the answer itself says
// which limit it was. Calls that were refused for want of a token are counted
// by the gate (server/auth).
//
// Layer: server/limits. This file: std.

#ifndef GRADTAP_SERVER_LIMITS_LIMIT_COUNTERS_H_
#define GRADTAP_SERVER_LIMITS_LIMIT_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gradtap::server {

// The label of each is in the .cc file; labels never change.
enum class Limit {
  kParameters,
  kNameBytes,
  kSchemaBytes,
  kStepBytes,
  kBatchBytes,
  kRuns,
  kStreams,
  kSessions,
  kCalls,  // Of Telemetry.Session.
  kHelloTime,
  kIdleTime,
  kConnections,
  kClientConnections,
  kHeldBytes,
  kLeftBytes,
  kClientRequests,
  kWaitingQueries,
  kQueryWork,
  kWatches,
  kLiveStreams,
  kRequestBytes,
  kRequestTime,
  kAnswerBytes,
  kAnswerTime,
  kBatchRecords,
  kBranches,
  kStreamBytes,
  kOpenCalls,  // Of all methods but Telemetry.Session.
};
inline constexpr std::size_t kLimits = 28;

// "parameters".
std::string_view NameOf(Limit limit);

// Thread-safe; no call waits. Each counter only grows.
class LimitCounters {
 public:
  void Refused(Limit limit) {
    counts_[static_cast<std::size_t>(limit)].fetch_add(
        1, std::memory_order_relaxed);
  }
  std::uint64_t refused(Limit limit) const {
    return counts_[static_cast<std::size_t>(limit)].load(
        std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kLimits> counts_{};
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_LIMIT_COUNTERS_H_
