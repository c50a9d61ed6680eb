// Which statistics are rolled up, and which others follow from those.
//
// Layer: server/store/rollup. Pure functions; any thread may call them.

#ifndef GRADTAP_SERVER_STORE_ROLLUP_STATISTIC_H_
#define GRADTAP_SERVER_STORE_ROLLUP_STATISTIC_H_

#include <array>
#include <cstdint>
#include <optional>

#include "core/record.h"
#include "core/statistic.h"
#include "server/store/rollup/entry.h"

namespace gradtap::server {

// Values may stand in keys and never change. The first five are TileField's.
enum class RollupStatistic : std::uint8_t {
  kMean = 1,
  kStd = 2,
  kAbsMean = 3,
  kMin = 4,
  kMax = 5,
  kL2 = 6,
  kRatio = 7,      // This role's l2 over the weight's.
  kNonfinite = 8,  // Elements: nan + pos_inf + neg_inf.
  kAbsMax = 9,
};
inline constexpr std::array<RollupStatistic, 9> kRollupStatistics = {
    RollupStatistic::kMean,    RollupStatistic::kStd,
    RollupStatistic::kAbsMean, RollupStatistic::kMin,
    RollupStatistic::kMax,     RollupStatistic::kL2,
    RollupStatistic::kRatio,   RollupStatistic::kNonfinite,
    RollupStatistic::kAbsMax};

// kRatio is update's and grad's; every role has the others; kUnspecified none.
bool HasRollup(Role role, RollupStatistic statistic);

Field FieldOf(RollupStatistic statistic);

// How a field's values follow from those that are rolled up.
enum class RollupMap : std::uint8_t {
  kSame,            // x
  kTimesN,          // n x
  kOverSqrtN,       // x / sqrt(n)
  kSquare,          // x^2, x not being negative
  kFiniteFraction,  // (n - x) / n, not below 0: falls where x rises
};

// A field of a tensor with `n` elements, as a monotone map of a statistic that
// is rolled up. Smallest and largest value of a run are the map of the run's
// (swapped if the map falls), at the same steps; the mean is the map of the
// mean, but for kSquare.
struct RollupSource {
  RollupStatistic statistic = RollupStatistic::kMean;
  RollupMap map = RollupMap::kSame;
  double n = 0;
  // Holds for runs in which no element was ever non-finite, no others: the
  // finite ones, which the formulas count, are all n then.
  bool if_all_finite = false;

  double Apply(double value) const;
  bool falls() const { return map == RollupMap::kFiniteFraction; }

  // Whether the map holds for the run of which `entry` is the statistic's and
  // `nonfinite` that of kNonfinite. Where it does not, the steps themselves
  // must be read. `nonfinite` may be null if `if_all_finite` is false.
  bool HoldsFor(const RollupEntry& entry, const RollupEntry* nonfinite) const;
};

// Where to find the field of a tensor of this role with `numel` elements;
// nullopt for what must be read step by step: zero, zero_fraction, quantiles,
// and ratio where there is none.
//
//   field                            of           as               if
//   mean, std, abs_mean, min, max,
//   l2, ratio, nonfinite, abs_max    itself       x
//   variance                         std          x^2
//   rms                              l2           x / sqrt(n)      all finite
//   l1                               abs_mean     n x              all finite
//   sum                              mean         n x              all finite
//   nan, pos_inf, neg_inf            nonfinite    x, which is 0    all finite
//   finite_fraction                  nonfinite    (n - x) / n
//
// A tensor without elements has NaN for rms and finite_fraction and 0 for l1
// and sum, as std has and l2 has: those are named then, without a condition.
//
// What Apply() gives is what Derive() gives for the step, but for two roundings
// of derived statistics to float32: rms is within 2^-23 of its value (and
// 2^-149), its extremes at a step whose l2 is the same as float32; a
// finite_fraction within 2^-24 once a step has more than 2^24 non-finite
// elements. An l2 that exceeds float32 was cut; HoldsFor() refuses an rms of
// it.
std::optional<RollupSource> RollupSourceOf(Role role, Field field,
                                           std::uint64_t numel);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_STORE_ROLLUP_STATISTIC_H_
