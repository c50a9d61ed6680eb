// How long things took and how many there were, over the last minute: what a
// person wants to know of a program that has run for weeks.
//
// Time goes by slots of ten seconds; the last minute is the slot at hand and
// the six before it, so it is 60 to 70 seconds long.
//
// Layer: core. Thread-safe: each call holds a lock for some ten nanoseconds, to
// read longer.

#ifndef GRADTAP_CORE_RECENT_H_
#define GRADTAP_CORE_RECENT_H_

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "core/sync.h"

namespace gradtap {

// Plain data. Quantiles are never below the true ones, and at most a sixteenth
// above; the maximum is exact.
struct LatencyFigures {
  // Since the start; each only grows.
  std::uint64_t count = 0;
  std::int64_t sum_ns = 0;
  // Of the last minute; zero if there was nothing.
  std::uint64_t recent = 0;
  std::int64_t p50_ns = 0;
  std::int64_t p99_ns = 0;
  std::int64_t max_ns = 0;
};

// Counts by logarithmic buckets, sixteen for each power of two: 18 KB.
class LatencyHistogram {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  LatencyHistogram() = default;
  LatencyHistogram(const LatencyHistogram&) = delete;
  LatencyHistogram& operator=(const LatencyHistogram&) = delete;

  // Something that ended at `now`. Below zero counts as zero, beyond two hours
  // as two hours in quantiles.
  void Record(std::chrono::nanoseconds took, TimePoint now)
      ABSL_LOCKS_EXCLUDED(mu_);

  LatencyFigures Figures(TimePoint now) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // Of values below 2^43 ns.
  static constexpr std::size_t kBuckets = 640;
  struct Slot {
    std::int64_t number = -1;  // Of the ten seconds that it is about.
    std::int64_t max_ns = 0;
    std::array<std::uint32_t, kBuckets> counts{};
  };
  static std::size_t BucketOf(std::uint64_t ns);
  static std::uint64_t HighestOf(std::size_t bucket);

  mutable Mutex mu_;
  std::uint64_t count_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t sum_ns_ ABSL_GUARDED_BY(mu_) = 0;
  std::array<Slot, 7> slots_ ABSL_GUARDED_BY(mu_);
};

// How much of something there was.
class RecentSum {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  explicit RecentSum(TimePoint start) : start_(start) {}

  void Add(std::uint64_t amount, TimePoint now) ABSL_LOCKS_EXCLUDED(mu_);

  // Over the last minute, or the time since the start if that is less.
  double PerSecond(TimePoint now) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Slot {
    std::int64_t number = -1;
    std::uint64_t sum = 0;
  };

  const TimePoint start_;
  mutable Mutex mu_;
  std::array<Slot, 7> slots_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap

#endif  // GRADTAP_CORE_RECENT_H_
