#include "server/limits/request_rate.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

// At most so often a full table is walked for whom to forget.
constexpr std::chrono::seconds kForgetEvery{1};

}  // namespace

int RetryAfterSeconds(std::chrono::nanoseconds wait) {
  return static_cast<int>(std::max<std::int64_t>(
      1, std::chrono::ceil<std::chrono::seconds>(wait).count()));
}

RequestRate::TimePoint& RequestRate::BucketOf(std::string_view client,
                                              TimePoint now) {
  const std::string key(client);
  const auto found = full_at_.find(key);
  if (found != full_at_.end()) return found->second;
  if (full_at_.size() >= limit_.max_clients && now >= forget_at_) {
    std::erase_if(full_at_,
                  [now](const auto& entry) { return entry.second <= now; });
    forget_at_ = now + kForgetEvery;
  }
  if (full_at_.size() >= limit_.max_clients) return others_full_at_;
  return full_at_[key];
}

std::optional<std::chrono::nanoseconds> RequestRate::Take(
    std::string_view client, bool session) {
  const TimePoint now = clock_->Steady();
  const std::chrono::nanoseconds pace =
      std::chrono::nanoseconds(std::chrono::seconds(1)) / limit_.per_second;
  const std::chrono::seconds burst(limit_.burst_seconds);
  // Never more than a bucket holds.
  const std::chrono::nanoseconds cost = std::min<std::chrono::nanoseconds>(
      session ? limit_.of_a_session * pace : pace, burst);
  MutexLock lock(mu_);
  // Apart: who asks without end must not keep agents from the same place out.
  TimePoint& full_at =
      session ? BucketOf(absl::StrCat(std::string(client), " sessions"), now)
              : BucketOf(client, now);
  const TimePoint after = std::max(full_at, now) + cost;
  const std::chrono::nanoseconds wait = after - now - burst;
  if (wait.count() > 0) {
    if (refused_ != nullptr) refused_->Refused(Limit::kClientRequests);
    return wait;
  }
  full_at = after;
  return std::nullopt;
}

absl::Status RequestRate::TooOften(std::string_view client,
                                   std::chrono::nanoseconds wait) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "more than ", limit_.per_second, " requests a second from ",
      EscapeForTerminal(client.substr(0, 100)),
      ", the limit of this collector (--max-requests); try again in ",
      RetryAfterSeconds(wait), " s"));
}

std::size_t RequestRate::clients() const {
  MutexLock lock(mu_);
  return full_at_.size();
}

}  // namespace gradtap::server
