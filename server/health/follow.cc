#include "server/health/follow.h"

#include <cmath>
#include <limits>

namespace gradtap::server {
namespace {

// Longer rows are as good as this one.
constexpr std::int32_t kLongestRow = 1 << 24;
// Values after which a spread weighs as much as what it began with.
constexpr float kSpreadPrior = 10;

std::int32_t Continue(std::int32_t row, bool above, bool below) {
  const std::int32_t up = std::min(std::max(row, 0) + 1, kLongestRow);
  const std::int32_t down = std::max(std::min(row, 0) - 1, -kLongestRow);
  return above ? up : below ? down : 0;
}

// After `most` values neither rate depends on how many there were. `kSettled`:
// all places have had so many; the same arithmetic without what is known then.
template <bool kSettled>
RowEnds Follow(const LevelLimits& limits, float most, const float* mean,
               const float* std, Levels* levels) {
  const std::size_t n = levels->level.size();
  float* __restrict level = levels->level.data();
  float* __restrict spread = levels->spread.data();
  float* __restrict seen = levels->seen.data();
  std::int32_t* __restrict row = levels->row.data();
  const LevelLimits l = limits;
  std::int32_t lowest = 0;
  std::int32_t highest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float m = std::fabs(mean[i]);
    const float s = std[i];
    const float magnitude = m > s ? m : s;
    const bool valid =
        (magnitude > 0) & (magnitude <= std::numeric_limits<float>::max());
    const float x = FastLog2(valid ? magnitude : 1.0F);
    const float old_seen = kSettled ? most : seen[i];
    const float old_spread = spread[i];
    const float old_level = old_seen > 0 ? level[i] : x;
    const float d = x - old_level;
    const float away = std::fabs(d);
    const bool warm = old_seen >= l.warm_up;
    const bool above =
        warm & (d > l.high_log2) & (d > l.high_spreads * old_spread);
    const bool below =
        warm & (-d > l.low_log2) & (-d > l.low_spreads * old_spread);
    const std::int32_t next = Continue(row[i], above, below);
    row[i] = valid ? next : row[i];
    lowest = std::min(lowest, row[i]);
    highest = std::max(highest, row[i]);
    const float reach = 3 * old_spread + 0.1F;
    const float level_rate =
        kSettled ? l.rate : std::max(l.rate, 1 / (old_seen + 1));
    const float spread_rate =
        kSettled ? l.rate : std::max(l.rate, 1 / (old_seen + kSpreadPrior));
    const float moved = std::min(std::max(d, -reach), reach);
    level[i] = valid ? old_level + level_rate * moved : level[i];
    const float wider = std::min(away, reach) - old_spread;
    spread[i] = valid ? old_spread + spread_rate * wider : old_spread;
    if (!kSettled) seen[i] = valid ? std::min(old_seen + 1, most) : old_seen;
  }
  return {lowest, highest};
}

}  // namespace

RowEnds FollowLevels(const LevelLimits& limits, const float* mean,
                     const float* std, Levels* levels) {
  const float most = std::max(1 / limits.rate, limits.warm_up) + kSpreadPrior;
  float least = most;
  for (const float seen : levels->seen) least = std::min(least, seen);
  return least >= most ? Follow<true>(limits, most, mean, std, levels)
                       : Follow<false>(limits, most, mean, std, levels);
}

std::int32_t FollowStillness(const float* mean, const float* std,
                             const std::int32_t* counts, Stillness* stillness) {
  const std::size_t n = stillness->row.size();
  std::int32_t* __restrict row = stillness->row.data();
  std::int32_t* __restrict moved = stillness->moved.data();
  std::int32_t highest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float m = std::fabs(mean[i]);
    const float s = std[i];
    const bool moves = (m > 0) | (s > 0);
    const bool still = (m == 0) & (s == 0);
    const bool ever = (moved[i] != 0) | moves;
    const std::int32_t longer = std::min(row[i] + 1, kLongestRow);
    const std::int32_t next = still ? longer : moves ? 0 : row[i];
    row[i] = ((counts[i] != 0) & ever) ? next : 0;
    moved[i] = ever ? 1 : 0;
    highest = std::max(highest, row[i]);
  }
  return highest;
}

RowEnds FollowRatios(const RatioLimits& limits, const float* update_mean,
                     const float* update_std, const float* weight_mean,
                     const float* weight_std, const std::int32_t* checked,
                     std::vector<std::int32_t>* rows) {
  const std::size_t n = rows->size();
  std::int32_t* __restrict row = rows->data();
  const RatioLimits l = limits;
  std::int32_t lowest = 0;
  std::int32_t highest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double um = update_mean[i];
    const double us = update_std[i];
    const double wm = weight_mean[i];
    const double ws = weight_std[i];
    const double update = um * um + us * us;
    const double weight = wm * wm + ws * ws;
    const bool valid = (update > 0) & (weight > 0);
    const bool above = update > l.max_squared * weight;
    const bool below = update < l.min_squared * weight;
    const std::int32_t next = Continue(row[i], above, below);
    row[i] = checked[i] == 0 ? 0 : valid ? next : row[i];
    lowest = std::min(lowest, row[i]);
    highest = std::max(highest, row[i]);
  }
  return {lowest, highest};
}

}  // namespace gradtap::server
