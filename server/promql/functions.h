// The functions and operators on numbers.
//
// Layer: server/promql. Pure.

#ifndef GRADTAP_SERVER_PROMQL_FUNCTIONS_H_
#define GRADTAP_SERVER_PROMQL_FUNCTIONS_H_

#include <span>
#include <string_view>
#include <vector>

#include "server/promql/source.h"

namespace gradtap::server::promql {

// x op y; of a comparison 1 or 0.
double Apply(std::string_view op, double x, double y);
bool IsComparison(std::string_view op);

// abs, ceil, exp, ...
double ApplyFunction(std::string_view name, double x);

// avg_over_time, ...; there is one sample at least.
double OverTime(std::string_view name, std::span<const Sample> samples);

// The phi-quantile of at least one value, interpolated; -inf and +inf for a phi
// outside [0, 1]. NaNs are the smallest. Reorders `*values`.
double Quantile(double phi, std::vector<double>* values);

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_FUNCTIONS_H_
