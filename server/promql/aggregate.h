// Aggregations of vectors.
//
// Layer: server/promql. Pure.

#ifndef GRADTAP_SERVER_PROMQL_AGGREGATE_H_
#define GRADTAP_SERVER_PROMQL_AGGREGATE_H_

#include <vector>

#include "server/promql/evaluator.h"
#include "server/promql/expression.h"

namespace gradtap::server::promql {

// `of` by the aggregation's labels; `numbers` are k or phi at each of the times
// (empty: the aggregation has none).
std::vector<Column> Aggregate(const Expression& aggregation,
                              const std::vector<double>& numbers,
                              std::vector<Column> of, std::size_t times);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_AGGREGATE_H_
