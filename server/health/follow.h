// What the rules do with every record: the loops, and what they remember.
//
// Plain arithmetic over columns, one place after another without a branch, so
// that the compiler makes vectors of it. Sizes are those of the columns.
//
// Layer: server/health. This file: std. Pure functions over their arguments; no
// allocation.

#ifndef GRADTAP_SERVER_HEALTH_FOLLOW_H_
#define GRADTAP_SERVER_HEALTH_FOLLOW_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gradtap::server {

// About log2(x) of a positive finite float: exact for powers of two, linear
// between them, at most 0.09 below the true one. Rises with x.
inline float FastLog2(float x) {
  return static_cast<float>(std::bit_cast<std::int32_t>(x)) * 0x1p-23F - 127.0F;
}

// A row counts captured steps in a row: above a limit > 0, below one < 0. A
// step without a value leaves it as it is.
struct RowEnds {
  std::int32_t lowest = 0;
  std::int32_t highest = 0;
};

struct LevelLimits {
  float rate = 0.01F;   // By which a settled level moves.
  float warm_up = 100;  // Values before it is judged.
  // How far above is too far, as a logarithm and in usual distances: both.
  float high_log2 = 5;
  float high_spreads = 10;
  float low_log2 = 10;  // And below.
  float low_spreads = 10;
};

// The running level of a gradient's magnitude, max(|mean|, std), as a
// logarithm, and its usual distance from there. A value moves the level by no
// more than three of these distances.
struct Levels {
  std::vector<float> level, spread, seen;
  std::vector<std::int32_t> row;

  // New places have seen nothing.
  void Resize(std::size_t n) {
    level.resize(n);
    spread.resize(n, 1.0F);
    seen.resize(n);
    row.resize(n);
  }
};

// `mean` and `std` of a role's places, NaN where there is none. What is zero
// throughout has no logarithm, and counts as no value.
RowEnds FollowLevels(const LevelLimits& limits, const float* mean,
                     const float* std, Levels* levels);

// How long a parameter has not been updated, of those that once were.
struct Stillness {
  std::vector<std::int32_t> row;
  std::vector<std::int32_t> moved;  // 1: it was updated at some step.

  void Resize(std::size_t n) {
    row.resize(n);
    moved.resize(n);
  }
};

// `mean` and `std` are an update's; `counts` is 1 where there was a gradient: a
// place without one starts anew.
std::int32_t FollowStillness(const float* mean, const float* std,
                             const std::int32_t* counts, Stillness* stillness);

// update.l2 / weight.l2, squared. Where `checked` is 0 there is no row.
struct RatioLimits {
  double min_squared = 0;
  double max_squared = 0;
};
RowEnds FollowRatios(const RatioLimits& limits, const float* update_mean,
                     const float* update_std, const float* weight_mean,
                     const float* weight_std, const std::int32_t* checked,
                     std::vector<std::int32_t>* rows);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_FOLLOW_H_
