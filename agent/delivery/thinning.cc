#include "agent/delivery/thinning.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace gradtap::agent {
namespace {

// In eighths of the room.
constexpr std::array<std::uint64_t, Thinning::kMaxLevel> kAbove = {4, 6, 7};
constexpr std::array<std::uint64_t, Thinning::kMaxLevel> kBelow = {2, 4, 6};

bool AnyNot0(const std::vector<std::uint64_t>& counts) noexcept {
  std::uint64_t any = 0;
  for (const std::uint64_t count : counts) any |= count;
  return any != 0;
}

}  // namespace

void Thinning::Observe(std::uint64_t used, std::uint64_t room) noexcept {
  while (level_ < kMaxLevel && used * 8 > room * kAbove[level_]) ++level_;
  while (level_ > 0 && used * 8 < room * kBelow[level_ - 1]) --level_;
}

bool Thinning::Takes(const StepData& step) const noexcept {
  if (level_ == 0) return true;
  const bool recorded = step.skipped == GapCause::kUnspecified;
  const std::int64_t interval =
      recorded ? std::max<std::uint32_t>(step.interval_steps, 1) : 1;
  return step.step % (interval << level_) == 0;
}

bool HasNonFinite(const StepData& step) noexcept {
  for (const RoleColumns& role : step.roles) {
    if (AnyNot0(role.nan) || AnyNot0(role.pos_inf) || AnyNot0(role.neg_inf)) {
      return true;
    }
  }
  return std::any_of(
      step.scalars.begin(), step.scalars.end(),
      [](const ScalarValue& s) { return !std::isfinite(s.value); });
}

}  // namespace gradtap::agent
