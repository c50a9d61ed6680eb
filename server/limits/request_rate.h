// How often one client may ask: a bucket of requests for each, that fills up at
// a steady pace.
//
// A request is a query, a watch that begins or a session that begins, over
// either door; what an agent sends within its session is none. A client is a
// token, or the address where nobody is asked for one.
//
// The table is bounded. A client whose bucket is full is forgotten, for it is
// as good as a new one; while the table is full of others, those that are not
// in it share one bucket. So nobody who has a bucket loses it to somebody else.
//
// Layer: server/limits. This file: std, absl, core.

#ifndef GRADTAP_SERVER_LIMITS_REQUEST_RATE_H_
#define GRADTAP_SERVER_LIMITS_REQUEST_RATE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "absl/status/status.h"
#include "core/clock.h"
#include "core/sync.h"
#include "server/limits/limit_counters.h"

namespace gradtap::server {

struct RateLimit {
  std::uint32_t per_second = 1'000;  // Of one client; at least 1.
  // What a bucket holds, in seconds of that pace.
  std::uint32_t burst_seconds = 10;
  // What a session that begins counts for: it is a synced write, and more.
  std::uint32_t of_a_session = 20;
  std::size_t max_clients = 10'000;
};

// Thread-safe. A call holds a lock for a look-up; one in max_clients walks the
// table.
class RequestRate {
 public:
  // Both must outlive it; `refused` may be null.
  RequestRate(const RateLimit& limit, const Clock* clock,
              LimitCounters* refused)
      : limit_(limit), clock_(clock), refused_(refused) {}

  // Takes a request of that client's, or a session. Not empty: there is not
  // enough left, which is counted; so long until there is.
  std::optional<std::chrono::nanoseconds> Take(std::string_view client,
                                               bool session = false)
      ABSL_LOCKS_EXCLUDED(mu_);

  // What to tell who came too often: kResourceExhausted.
  absl::Status TooOften(std::string_view client,
                        std::chrono::nanoseconds wait) const;

  std::size_t clients() const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using TimePoint = std::chrono::steady_clock::time_point;

  // When the bucket is full again.
  TimePoint& BucketOf(std::string_view client, TimePoint now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const RateLimit limit_;
  const Clock* const clock_;
  LimitCounters* const refused_;

  mutable Mutex mu_;
  std::unordered_map<std::string, TimePoint> full_at_ ABSL_GUARDED_BY(mu_);
  TimePoint others_full_at_ ABSL_GUARDED_BY(mu_);
  // No earlier is there anybody to forget.
  TimePoint forget_at_ ABSL_GUARDED_BY(mu_);
};

// In whole seconds, at least one: as Retry-After has it.
int RetryAfterSeconds(std::chrono::nanoseconds wait);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_LIMITS_REQUEST_RATE_H_
