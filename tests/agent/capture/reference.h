// What LibTorch says about a tensor, in float64.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_REFERENCE_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_REFERENCE_H_

#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "core/record.h"
#include "core/statistic.h"

namespace gradtap::testing {

// Dense, float64, one dimension; complex elements by magnitude.
inline torch::Tensor AsDoubles(const torch::Tensor& tensor) {
  const torch::NoGradGuard no_grad;
  torch::Tensor t = tensor.detach();
  if (t.is_sparse()) t = t.to_dense();
  if (t.is_complex()) t = t.to(torch::kComplexDouble).abs();
  return t.to(torch::kFloat64).reshape({-1});
}

// Within the published bounds, or both NaN.
inline void ExpectNear(double got, double want, double bound,
                       const std::string& what) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << what << " is " << got << ", not NaN";
    return;
  }
  constexpr double kMax = std::numeric_limits<float>::max();
  want = std::clamp(want, -kMax, kMax);
  EXPECT_NEAR(got, want, bound + std::ldexp(1.0, -149)) << what;
}

// Every stored statistic and what is derived from it. `values` is of
// AsDoubles().
inline void ExpectRecordOf(const torch::Tensor& values, const Record& record,
                           const std::string& what) {
  const auto numel = static_cast<std::uint64_t>(values.numel());
  const torch::Tensor x = values.masked_select(torch::isfinite(values));
  const auto count = [](const torch::Tensor& mask) {
    return static_cast<std::uint64_t>(mask.sum().item<std::int64_t>());
  };
  EXPECT_EQ(record.zero, count(values == 0)) << what;
  EXPECT_EQ(record.nan, count(torch::isnan(values))) << what;
  EXPECT_EQ(record.pos_inf, count(torch::isposinf(values))) << what;
  EXPECT_EQ(record.neg_inf, count(torch::isneginf(values))) << what;
  const auto derive = [&](Field field) { return Derive(field, record, numel); };
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  if (x.numel() == 0) {
    for (const float f :
         {record.mean, record.std, record.abs_mean, record.min, record.max}) {
      ExpectNear(f, kNan, 0, what);
    }
    EXPECT_EQ(derive(Field::kL2), 0) << what;
    return;
  }
  const double mean = x.mean().item<double>();
  const double abs_mean = x.abs().mean().item<double>();
  const double std = std::sqrt((x - mean).pow(2).mean().item<double>());
  const double min = x.min().item<double>();
  const double max = x.max().item<double>();
  const double l2 = x.norm().item<double>();
  const double rms = std::sqrt(x.pow(2).mean().item<double>());
  ExpectNear(record.mean, mean, 1e-6 * abs_mean, what + " mean");
  ExpectNear(record.abs_mean, abs_mean, 1e-6 * abs_mean, what + " abs_mean");
  ExpectNear(record.std, std, 1e-6 * std + 1e-9 * std::abs(mean),
             what + " std");
  ExpectNear(record.min, min, 1e-6 * std::abs(min), what + " min");
  ExpectNear(record.max, max, 1e-6 * std::abs(max), what + " max");
  if (l2 < 1e30) {
    ExpectNear(derive(Field::kL2), l2, 1e-6 * l2, what + " l2");
    ExpectNear(derive(Field::kRms), rms, 1e-6 * rms, what + " rms");
  }
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_REFERENCE_H_
