// Two steps that were captured by different paths.

#ifndef GRADTAP_TESTS_AGENT_CAPTURE_SAME_STEP_H_
#define GRADTAP_TESTS_AGENT_CAPTURE_SAME_STEP_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <string>

#include "core/record.h"
#include "core/step_data.h"

namespace gradtap::testing {

// Within twice the published bounds: each path keeps them.
inline void ExpectClose(float got, float want, double bound,
                        const std::string& what) {
  if (std::isnan(want)) {
    EXPECT_TRUE(std::isnan(got)) << what << " is " << got << ", not NaN";
    return;
  }
  EXPECT_NEAR(got, want, 2 * (bound + std::ldexp(1.0, -149))) << what;
}

inline void ExpectSameRecord(const Record& got, const Record& want,
                             const std::string& what) {
  EXPECT_EQ(got.zero, want.zero) << what;
  EXPECT_EQ(got.nan, want.nan) << what;
  EXPECT_EQ(got.pos_inf, want.pos_inf) << what;
  EXPECT_EQ(got.neg_inf, want.neg_inf) << what;
  ExpectClose(got.mean, want.mean, 1e-6 * want.abs_mean, what + " mean");
  ExpectClose(got.abs_mean, want.abs_mean, 1e-6 * want.abs_mean, what);
  ExpectClose(got.std, want.std, 1e-6 * want.std + 1e-9 * std::abs(want.mean),
              what + " std");
  ExpectClose(got.min, want.min, 1e-6 * std::abs(want.min), what + " min");
  ExpectClose(got.max, want.max, 1e-6 * std::abs(want.max), what + " max");
}

inline void ExpectSameStep(const StepData& got, const StepData& want,
                           const std::string& what) {
  ASSERT_EQ(got.roles.size(), want.roles.size()) << what;
  for (std::size_t r = 0; r < want.roles.size(); ++r) {
    const RoleColumns& a = got.roles[r];
    const RoleColumns& b = want.roles[r];
    ASSERT_EQ(a.role, b.role) << what;
    ASSERT_EQ(a.size(), b.size()) << what;
    EXPECT_EQ(a.absent, b.absent) << what;
    for (std::size_t p = 0; p < b.size(); ++p) {
      ExpectSameRecord(a.Get(p), b.Get(p),
                       what + " role " +
                           std::to_string(static_cast<int>(b.role)) +
                           " place " + std::to_string(p));
    }
  }
  ASSERT_EQ(got.histograms.size(), want.histograms.size()) << what;
  for (std::size_t h = 0; h < want.histograms.size(); ++h) {
    const HistogramData& b = want.histograms[h];
    bool found = false;
    for (const HistogramData& a : got.histograms) {
      if (a.role != b.role || a.place != b.place) continue;
      found = true;
      EXPECT_EQ(a.bin, b.bin) << what;
      EXPECT_EQ(a.count, b.count) << what;
    }
    EXPECT_TRUE(found) << what << " place " << b.place;
  }
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_AGENT_CAPTURE_SAME_STEP_H_
