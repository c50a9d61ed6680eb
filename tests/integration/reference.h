// Every statistic of a tensor, computed by LibTorch in float64.

#ifndef GRADTAP_TESTS_INTEGRATION_REFERENCE_H_
#define GRADTAP_TESTS_INTEGRATION_REFERENCE_H_

#include <torch/torch.h>

#include <map>
#include <string>

namespace gradtap::testing {

// By field name: "mean", "std", ..., "finite_fraction"; all but "ratio".
using Statistics = std::map<std::string, double>;

// NaN where there is no finite element; 0 for l2, l1 and sum then; the
// fractions of an empty tensor are NaN.
Statistics StatisticsOf(const torch::Tensor& tensor);

// By how much a printed value may differ from `expected`, the reference of
// `field` in `reference` (design: bounds of the record, carried on to what is
// derived from it).
double Tolerance(const std::string& field, const Statistics& reference);

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_INTEGRATION_REFERENCE_H_
