// What a PromQL expression is at some times, as Prometheus 2 computes it.
//
// Layer: server/promql. This file: std, absl.

#ifndef GRADTAP_SERVER_PROMQL_EVALUATOR_H_
#define GRADTAP_SERVER_PROMQL_EVALUATOR_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "server/promql/source.h"

namespace gradtap::server::promql {

// How long a sample stands for what comes after it.
inline constexpr std::int64_t kLookbackMs = 300'000;

// Values that an evaluation holds of one selector: series x times.
inline constexpr std::size_t kMostCells = 12'000'000;

// Values at some of the times.
struct Column {
  Labels labels;
  std::vector<double> values;         // One for each of the times.
  std::vector<std::uint8_t> present;  // 1: there is a value.
};

struct Result {
  Type type = Type::kScalar;
  // Of a scalar one column without labels, of a vector one for each series.
  std::vector<Column> columns;
  // Of a range, which is evaluated at one time alone.
  std::vector<SampledSeries> ranges;
};

// kInvalidArgument: a range at more than one time; two series of one result
// have the same labels. kResourceExhausted: more than kMostCells. What `source`
// returns passes through.
absl::StatusOr<Result> Evaluate(const Expression& expression,
                                const Times& times, SampleSource* source);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_EVALUATOR_H_
