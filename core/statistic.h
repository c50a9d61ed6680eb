// Statistics by name: "grad.l2", "weight.mean", "update.ratio", "grad.p99",
// "scalar.loss".
//
// Layer: core. Pure functions; any thread may call them.

#ifndef GRADTAP_CORE_STATISTIC_H_
#define GRADTAP_CORE_STATISTIC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "core/quantile.h"
#include "core/record.h"

namespace gradtap {

enum class Field : std::uint8_t {
  // Stored.
  kMean,
  kStd,
  kAbsMean,
  kMin,
  kMax,
  kZero,
  kNan,
  kPosInf,
  kNegInf,
  // Derived from one record.
  kL2,
  kL1,
  kSum,
  kRms,
  kAbsMax,
  kVariance,
  kZeroFraction,
  kNonfinite,
  kFiniteFraction,
  // Derived from two records of one snapshot; roles update and grad only:
  // this role's l2 over the weight's l2.
  kRatio,
  // From a histogram, for the steps that have them: "p50", "p99.9".
  kQuantile,
};

// "weight", "grad", "grad_local", "update", "buffer"; "" for kUnspecified.
std::string_view RoleName(Role role);
// "mean", "abs_mean", "pos_inf", "ratio", ...; "pXX" for kQuantile.
std::string_view FieldName(Field field);

// A statistic that somebody asked for.
struct Statistic {
  enum class Source : std::uint8_t {
    kRecord,  // role and field.
    kScalar,  // A scalar handed over with the step: "scalar.NAME".
    kAgent,   // The agent's own scalar: "agent.NAME".
  };
  Source source = Source::kRecord;
  Role role = Role::kUnspecified;
  Field field = Field::kMean;
  MicroPercent quantile = 0;  // With kQuantile.
  // For kScalar and kAgent: the name on the wire ("loss";
  // "agent.step_seconds"), or "*" for all of that source.
  std::string scalar;
  // As it was asked for: "grad.l2", "scalar.loss".
  std::string name;
};

// kInvalidArgument if `name` has no known role before its first dot (the
// message lists them) or a quantile is malformed; kNotFound if the role has no
// such field (the message names the nearest one). Any non-empty scalar name is
// accepted.
absl::StatusOr<Statistic> ParseStatistic(std::string_view name);

// All names that ParseStatistic knows, in a useful order; without scalars, and
// without the quantiles that each role has.
std::vector<std::string> AllStatisticNames();

// The value of `field` (not kRatio, not kQuantile) of a record of a tensor with
// `numel` elements, in double. With no finite element: NaN for what is derived
// from floats, 0 for l2, l1 and sum; with numel == 0 the fractions are NaN.
double Derive(Field field, const Record& record, std::uint64_t numel);

// The same from moments that were not rounded (merged groups).
double Derive(Field field, const Moments& moments);

}  // namespace gradtap

#endif  // GRADTAP_CORE_STATISTIC_H_
