// Of one captured step what the rules look at, in columns.
//
// Layer: server/health. This file: std, absl, core, store's steps; no grpc.

#ifndef GRADTAP_SERVER_HEALTH_HEALTH_STEP_H_
#define GRADTAP_SERVER_HEALTH_HEALTH_STEP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/codec.h"
#include "core/record.h"
#include "core/step_data.h"
#include "server/store/stored_step.h"

namespace gradtap::server {

struct HealthColumns {
  bool present = false;
  std::uint32_t places = 0;
  // Of weights, gradients and updates; NaN where absent, or nothing is finite.
  std::vector<float> mean, std;
  // 1: absent; empty: nothing is. Not filled for GRAD_LOCAL and BUFFER.
  std::vector<std::uint8_t> absent;
  // Places with elements that are not finite, rising, and how many. Of a
  // BUFFER only NaN and +Inf: masks are full of -Inf.
  std::vector<std::pair<std::uint32_t, std::uint64_t>> nonfinite;
};

// Its vectors keep their memory from one step to the next.
struct HealthStep {
  std::int64_t step = 0;
  std::int64_t time_unix_ns = 0;
  std::uint32_t schema_id = 0;
  GapCause skipped = GapCause::kUnspecified;
  bool captured = false;  // It has columns.
  std::optional<double> loss;
  std::array<HealthColumns, kRoleCount> roles;

  const HealthColumns& of(Role role) const {
    return roles[static_cast<std::size_t>(role)];
  }
  HealthColumns& of(Role role) { return roles[static_cast<std::size_t>(role)]; }
};

// `loss` names a scalar.
void ReadHealthStep(const StepView& view, const std::string& loss,
                    HealthStep* step);
// Errors are those of reading the step.
absl::Status ReadHealthStep(const StoredStep& stored, const std::string& loss,
                            HealthStep* step);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_HEALTH_STEP_H_
