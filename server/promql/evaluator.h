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

// What an evaluation may do: the samples of a range count at each of the times
// anew, a value that an operator, a function or an aggregation takes for
// kWorkOfValue. A second or two.
inline constexpr std::size_t kMostWork = 1'000'000'000;
inline constexpr std::size_t kWorkOfValue = 8;

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
// have the same labels. kResourceExhausted: more than kMostCells or
// `most_work`. What `source` returns passes through.
absl::StatusOr<Result> Evaluate(const Expression& expression,
                                const Times& times, SampleSource* source,
                                std::size_t most_work = kMostWork);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_EVALUATOR_H_
