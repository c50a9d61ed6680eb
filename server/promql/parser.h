// The part of PromQL that Grafana's panels need.
//
//   number, -x, x op y        op: + - * / % ^ and == != < > <= >= (bool); one
//   of
//                             x and y, or both, a scalar
//   metric{label="v", ...}    also =~ !~ !=; {__name__=~"..."}
//   metric{...}[5m]           alone, or in a function of a range
//   f(range)                  avg, count, last, max, min, sum, each _over_time
//   f(vector)                 abs, ceil, exp, floor, ln, log10, log2, sqrt
//   agg by|without (l) (x)    avg, bottomk, count, max, min, quantile, sum,
//   topk
//
// Source: prometheus.io, "Querying Prometheus".
//
// Layer: server/promql. Pure.

#ifndef GRADTAP_SERVER_PROMQL_PARSER_H_
#define GRADTAP_SERVER_PROMQL_PARSER_H_

#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/promql/expression.h"

namespace gradtap::server::promql {

// kInvalidArgument: it is no PromQL, and where. kUnimplemented: it is more than
// the above, and what; whoever needs it forwards the series to a Prometheus.
// The text has at most 64 KiB and 100 levels.
absl::StatusOr<std::unique_ptr<Expression>> Parse(std::string_view text);

// The matchers of one selector without a range, such as of match[].
absl::StatusOr<std::vector<Matcher>> ParseMatchers(std::string_view text);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_PARSER_H_
