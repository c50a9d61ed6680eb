// One row of a line: by its step, or counted from the end.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_ROW_FIND_H_
#define GRADTAP_SERVER_QUERY_ROW_FIND_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/query/row_reader.h"
#include "server/query/run_view.h"

namespace gradtap::server {

// What makes a row count. Rows that do not are passed over from the end, and
// refused when asked for by their step.
using RowTest = bool (*)(const StoredStep& step);
bool IsRecorded(const StoredStep& step);  // Has statistics.

// The step of a request, if it has one.
template <typename Request>
std::optional<std::int64_t> StepOf(const Request& request) {
  if (!request.has_step()) return std::nullopt;
  return request.step();
}

// `step` unset or -1: the last row that passes; -k: the kth from the end;
// otherwise that very step. kNotFound says why it is not there and which
// steps beside it are.
absl::StatusOr<Row> FindRow(Store* store, const RunView& run, const Line& line,
                            std::optional<std::int64_t> step,
                            const StepWindow& window, RowTest test,
                            ReadBudget* budget);

// The newest row of the line that has statistics and is in `window`.
absl::StatusOr<std::optional<Row>> NewestRecorded(Store* store,
                                                  const Line& line,
                                                  const StepWindow& window,
                                                  ReadBudget* budget);

// The same for steps that have histograms. What is not there is told with the
// nearest steps that have some, and how to turn them on. From the end, rows of
// data folders in format 1 are not considered.
absl::StatusOr<Row> FindHistogramRow(Store* store, const RunView& run,
                                     const Line& line,
                                     std::optional<std::int64_t> step,
                                     const StepWindow& window,
                                     ReadBudget* budget);

// kNotFound: the run has no recorded step yet.
absl::Status NothingRecorded(const RunView& run);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_ROW_FIND_H_
