#include "server/store/rollup/entry.h"

#include <algorithm>
#include <cmath>

#include "server/store/rollup/sums.h"

namespace gradtap::server {
namespace {

// Takes in the next value, which is finite.
void TakeFinite(float value, std::size_t at, RollupEntry* entry) {
  const auto offset = static_cast<std::uint16_t>(at);
  if (entry->finite++ == 0) {
    entry->min = entry->max = value;
    entry->min_at = entry->max_at = offset;
    return;
  }
  if (value < entry->min) {
    entry->min = value;
    entry->min_at = offset;
  }
  if (value > entry->max) {
    entry->max = value;
    entry->max_at = offset;
  }
}

// `earlier` steps come before those of `run`.
void Join(const RollupEntry& run, std::uint32_t earlier, RollupEntry* all) {
  const auto later = [earlier](std::uint16_t offset) {
    return static_cast<std::uint16_t>(earlier + offset);
  };
  if (run.finite != 0) {
    if (all->finite == 0 || run.min < all->min) {
      all->min = run.min;
      all->min_at = later(run.min_at);
    }
    if (all->finite == 0 || run.max > all->max) {
      all->max = run.max;
      all->max_at = later(run.max_at);
    }
  }
  if (run.nonfinite != 0 && all->nonfinite == 0) {
    all->first_nonfinite = run.first_nonfinite;
    all->nonfinite_at = later(run.nonfinite_at);
  }
  if (run.absent != 0 && all->absent == 0) {
    all->absent_at = later(run.absent_at);
  }
  all->finite += run.finite;
  all->nonfinite += run.nonfinite;
  all->absent += run.absent;
}

}  // namespace

RollupEntry MergeRollups(std::span<const RollupEntry> runs) {
  RollupEntry all;
  double sum = 0;
  for (const RollupEntry& run : runs) {
    Join(run, all.steps(), &all);
    if (run.finite != 0) sum += static_cast<double>(run.mean) * run.finite;
  }
  if (all.finite != 0) all.mean = rollup::MeanOf(sum, all);
  return all;
}

RollupEntry RollupOf(const float* values, const std::uint8_t* present,
                     std::size_t steps) {
  RollupEntry entry;
  rollup::EightSums sums;
  for (std::size_t i = 0; i < steps; ++i) {
    if (present != nullptr && present[i] == 0) {
      if (entry.absent++ == 0) entry.absent_at = static_cast<std::uint16_t>(i);
    } else if (!std::isfinite(values[i])) {
      if (entry.nonfinite++ == 0) {
        entry.first_nonfinite = values[i];
        entry.nonfinite_at = static_cast<std::uint16_t>(i);
      }
    } else {
      sums.sums[i % sums.sums.size()] += static_cast<double>(values[i]);
      TakeFinite(values[i], i, &entry);
    }
  }
  if (entry.finite != 0) entry.mean = rollup::MeanOf(sums.Total(), entry);
  return entry;
}

}  // namespace gradtap::server
