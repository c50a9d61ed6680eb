#include "server/store/rollup/statistic.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap::server {
namespace {

std::optional<RollupStatistic> Itself(Field field) {
  for (const RollupStatistic statistic : kRollupStatistics) {
    if (FieldOf(statistic) == field) return statistic;
  }
  return std::nullopt;
}

// Of a tensor with no element every record is without a finite one.
std::optional<RollupSource> SourceOfNothing(Field field) {
  switch (field) {
    case Field::kRms:
    case Field::kVariance:
    case Field::kFiniteFraction:
      return RollupSource{.statistic = RollupStatistic::kStd};
    case Field::kL1:
    case Field::kSum:
      return RollupSource{.statistic = RollupStatistic::kL2};
    default:
      return std::nullopt;
  }
}

}  // namespace

bool HasRollup(Role role, RollupStatistic statistic) {
  if (role == Role::kUnspecified) return false;
  if (statistic != RollupStatistic::kRatio) return true;
  return role == Role::kUpdate || role == Role::kGrad;
}

Field FieldOf(RollupStatistic statistic) {
  switch (statistic) {
    case RollupStatistic::kMean:
      return Field::kMean;
    case RollupStatistic::kStd:
      return Field::kStd;
    case RollupStatistic::kAbsMean:
      return Field::kAbsMean;
    case RollupStatistic::kMin:
      return Field::kMin;
    case RollupStatistic::kMax:
      return Field::kMax;
    case RollupStatistic::kL2:
      return Field::kL2;
    case RollupStatistic::kRatio:
      return Field::kRatio;
    case RollupStatistic::kNonfinite:
      return Field::kNonfinite;
    case RollupStatistic::kAbsMax:
      return Field::kAbsMax;
  }
  return Field::kMean;
}

double RollupSource::Apply(double value) const {
  switch (map) {
    case RollupMap::kSame:
      return value;
    case RollupMap::kTimesN:
      return n * value;
    case RollupMap::kOverSqrtN:
      return value / std::sqrt(n);
    case RollupMap::kSquare:
      return value * value;
    case RollupMap::kFiniteFraction:
      return std::max(n - value, 0.0) / n;
  }
  return value;
}

bool RollupSource::HoldsFor(const RollupEntry& entry,
                            const RollupEntry* nonfinite) const {
  if (map == RollupMap::kOverSqrtN && entry.finite != 0 &&
      entry.max >= std::numeric_limits<float>::max()) {
    return false;
  }
  if (!if_all_finite) return true;
  return nonfinite != nullptr &&
         (nonfinite->finite == 0 || nonfinite->max == 0.0f);
}

std::optional<RollupSource> RollupSourceOf(Role role, Field field,
                                           std::uint64_t numel) {
  const double n = static_cast<double>(numel);
  if (const auto itself = Itself(field); itself.has_value()) {
    if (!HasRollup(role, *itself)) return std::nullopt;
    return RollupSource{.statistic = *itself, .n = n};
  }
  if (role == Role::kUnspecified) return std::nullopt;
  if (numel == 0) {
    if (auto source = SourceOfNothing(field); source.has_value()) return source;
  }
  switch (field) {
    case Field::kVariance:
      return RollupSource{RollupStatistic::kStd, RollupMap::kSquare, n, false};
    case Field::kRms:
      return RollupSource{RollupStatistic::kL2, RollupMap::kOverSqrtN, n, true};
    case Field::kL1:
      return RollupSource{RollupStatistic::kAbsMean, RollupMap::kTimesN, n,
                          true};
    case Field::kSum:
      return RollupSource{RollupStatistic::kMean, RollupMap::kTimesN, n, true};
    case Field::kNan:
    case Field::kPosInf:
    case Field::kNegInf:
      return RollupSource{RollupStatistic::kNonfinite, RollupMap::kSame, n,
                          true};
    case Field::kFiniteFraction:
      return RollupSource{RollupStatistic::kNonfinite,
                          RollupMap::kFiniteFraction, n, false};
    default:
      return std::nullopt;
  }
}

}  // namespace gradtap::server
