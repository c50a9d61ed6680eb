// Statistics of many parameters at one step.
//
// Layer: server/query. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_QUERY_STEP_VALUES_H_
#define GRADTAP_SERVER_QUERY_STEP_VALUES_H_

#include <cstddef>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "core/statistic.h"
#include "server/query/selection.h"
#include "server/query/step_histograms.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

// Where a block of tiles begins, about half-way through `parameters`, which are
// rising indexes of a schema: two threads decode none twice.
std::size_t MiddleOf(const std::vector<std::size_t>& parameters);

// Values of `parameters`, which are rising indexes of the schema, each with all
// of `statistics`: that of parameter i and statistic s stands at
// i * statistics.size() + s. A sealed step of many parameters is decoded by two
// threads. Errors are those of reading the step.
absl::Status EvaluateStep(const StoredStep& step, const SchemaIndex& index,
                          const std::vector<std::size_t>& parameters,
                          const std::vector<const Statistic*>& statistics,
                          const StepHistograms* histograms,
                          std::vector<std::optional<Value>>* values);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_QUERY_STEP_VALUES_H_
