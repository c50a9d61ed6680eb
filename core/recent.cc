#include "core/recent.h"

#include <algorithm>
#include <bit>

namespace gradtap {
namespace {

using std::chrono::duration_cast;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kSlot{10};
constexpr int kSlots = 7;

// log2 of the buckets for each power of two.
constexpr int kFineBits = 4;
constexpr std::uint64_t kMostNs = (std::uint64_t{1} << 43) - 1;

std::int64_t SlotNumber(steady_clock::time_point now) {
  return std::max<std::int64_t>(now.time_since_epoch() / kSlot, 0);
}

// The slot at hand, empty if it was about another time.
template <typename Slots>
auto& SlotAt(Slots* slots, std::int64_t number) {
  auto& slot = (*slots)[static_cast<std::size_t>(number % kSlots)];
  if (slot.number != number) {
    slot = {};
    slot.number = number;
  }
  return slot;
}

bool IsRecent(std::int64_t number, std::int64_t now) {
  return number >= 0 && number <= now && number > now - kSlots;
}

}  // namespace

// Below 2^kFineBits each value has a bucket of its own; above, the first five
// bits of a value and how many follow name it.
std::size_t LatencyHistogram::BucketOf(std::uint64_t ns) {
  const std::uint64_t value = std::min(ns, kMostNs);
  const int width = static_cast<int>(std::bit_width(value));
  const int shift = std::max(width - (kFineBits + 1), 0);
  return (static_cast<std::size_t>(shift) << kFineBits) + (value >> shift);
}

std::uint64_t LatencyHistogram::HighestOf(std::size_t bucket) {
  constexpr std::size_t kFine = std::size_t{1} << kFineBits;
  if (bucket < 2 * kFine) return bucket;
  const std::size_t shift = bucket / kFine - 1;
  return ((bucket % kFine + kFine + 1) << shift) - 1;
}

void LatencyHistogram::Record(nanoseconds took, TimePoint now) {
  const std::int64_t ns = std::max<std::int64_t>(took.count(), 0);
  MutexLock lock(mu_);
  ++count_;
  sum_ns_ += ns;
  Slot& slot = SlotAt(&slots_, SlotNumber(now));
  slot.max_ns = std::max(slot.max_ns, ns);
  ++slot.counts[BucketOf(static_cast<std::uint64_t>(ns))];
}

LatencyFigures LatencyHistogram::Figures(TimePoint now) const {
  const std::int64_t current = SlotNumber(now);
  std::array<std::uint64_t, kBuckets> counts{};
  LatencyFigures figures;
  {
    MutexLock lock(mu_);
    figures.count = count_;
    figures.sum_ns = sum_ns_;
    for (const Slot& slot : slots_) {
      if (!IsRecent(slot.number, current)) continue;
      figures.max_ns = std::max(figures.max_ns, slot.max_ns);
      for (std::size_t i = 0; i < kBuckets; ++i) counts[i] += slot.counts[i];
    }
  }
  for (const std::uint64_t n : counts) figures.recent += n;
  const auto quantile = [&](std::uint64_t rank) {
    std::size_t bucket = 0;
    for (std::uint64_t below = counts[0]; below < rank;) {
      below += counts[++bucket];
    }
    return std::min(static_cast<std::int64_t>(HighestOf(bucket)),
                    figures.max_ns);
  };
  if (figures.recent > 0) {
    figures.p50_ns = quantile((figures.recent + 1) / 2);
    figures.p99_ns = quantile((figures.recent * 99 + 99) / 100);
  }
  return figures;
}

void RecentSum::Add(std::uint64_t amount, TimePoint now) {
  MutexLock lock(mu_);
  SlotAt(&slots_, SlotNumber(now)).sum += amount;
}

double RecentSum::PerSecond(TimePoint now) const {
  const std::int64_t current = SlotNumber(now);
  std::uint64_t sum = 0;
  {
    MutexLock lock(mu_);
    for (const Slot& slot : slots_) {
      if (IsRecent(slot.number, current)) sum += slot.sum;
    }
  }
  const nanoseconds since_begin =
      now.time_since_epoch() - kSlot * (current - kSlots + 1);
  const nanoseconds over = std::min(since_begin, nanoseconds(now - start_));
  const double seconds =
      std::max(std::chrono::duration<double>(over).count(), 1e-3);
  return static_cast<double>(sum) / seconds;
}

}  // namespace gradtap
