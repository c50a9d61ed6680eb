#include "server/keeping/disk_growth.h"

#include <cmath>
#include <limits>

namespace gradtap::server {

void DiskGrowth::Add(Time now, std::uint64_t used_bytes,
                     std::uint64_t removed_bytes) {
  samples_.push_back({now, static_cast<double>(used_bytes) +
                               static_cast<double>(removed_bytes)});
  while (samples_.size() > 2 && now - samples_[1].time >= kSpan) {
    samples_.pop_front();
  }
}

double DiskGrowth::BytesPerDay() const {
  if (samples_.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  const auto span = samples_.back().time - samples_.front().time;
  if (span < kLeast) return std::numeric_limits<double>::quiet_NaN();
  constexpr std::chrono::duration<double> kDay = std::chrono::hours(24);
  return (samples_.back().bytes - samples_.front().bytes) *
         (kDay / std::chrono::duration<double>(span));
}

double DaysUntilFull(std::uint64_t free_bytes, std::uint64_t reserve_bytes,
                     double bytes_per_day) {
  if (free_bytes <= reserve_bytes) return 0;
  if (std::isnan(bytes_per_day)) return bytes_per_day;
  if (bytes_per_day <= 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(free_bytes - reserve_bytes) / bytes_per_day;
}

}  // namespace gradtap::server
