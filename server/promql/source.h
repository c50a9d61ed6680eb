// Where the evaluator gets its samples.
//
// Layer: server/promql. This file: std, absl.

#ifndef GRADTAP_SERVER_PROMQL_SOURCE_H_
#define GRADTAP_SERVER_PROMQL_SOURCE_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "server/promql/expression.h"

namespace gradtap::server::promql {

struct Sample {
  std::int64_t time_ms = 0;
  double value = 0;
};

// The value that ends a series until it has another one: it stands for nothing
// from then on, and is no value over a time. The NaN that Prometheus has for
// it.
inline double Stale() {
  return std::bit_cast<double>(std::uint64_t{0x7ff0000000000002});
}
inline bool IsStale(double value) {
  return std::bit_cast<std::uint64_t>(value) == 0x7ff0000000000002;
}

struct SampledSeries {
  Labels labels;
  std::vector<Sample> samples;  // By rising time, each time once.
};

// The times at which an expression is evaluated: begin, begin + step, ... up to
// end, which is not before begin. `step_ms` is above 0.
struct Times {
  std::int64_t begin_ms = 0;
  std::int64_t end_ms = 0;
  std::int64_t step_ms = 1;

  std::size_t size() const {
    return static_cast<std::size_t>((end_ms - begin_ms) / step_ms) + 1;
  }
  std::int64_t at(std::size_t i) const {
    return begin_ms + static_cast<std::int64_t>(i) * step_ms;
  }
};

class SampleSource {
 public:
  virtual ~SampleSource() = default;

  // The series that the matchers pass, with all their samples in [begin of
  // `times` - before_ms, its end]. With `newest_only` those will do that are
  // the newest ones at one of the times.
  virtual absl::Status Select(const std::vector<Matcher>& matchers,
                              const Times& times, std::int64_t before_ms,
                              bool newest_only,
                              std::vector<SampledSeries>* series) = 0;
};

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_SOURCE_H_
