#include "agent/delivery/thinning.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace gradtap::agent {
namespace {

// In eighths of the room.
constexpr std::array<std::uint64_t, Thinning::kMaxLevel> kAbove = {4, 6, 7};
constexpr std::array<std::uint64_t, Thinning::kMaxLevel> kBelow = {2, 4, 6};

}  // namespace

void Thinning::Observe(std::uint64_t used, std::uint64_t room) noexcept {
  while (level_ < kMaxLevel && used * 8 > room * kAbove[level_]) ++level_;
  while (level_ > 0 && used * 8 < room * kBelow[level_ - 1]) --level_;
  if (level_ > 0) return;
  to_spare_ = kSpared;
  most_ = 0;
}

bool Thinning::Takes(const StepData& step) const noexcept {
  if (level_ == 0) return true;
  const bool recorded = step.skipped == GapCause::kUnspecified;
  const std::int64_t interval =
      recorded ? std::max<std::uint32_t>(step.interval_steps, 1) : 1;
  return step.step % (interval << level_) == 0;
}

bool Thinning::Spares(const StepData& step) noexcept {
  const std::size_t count = CountNonFinite(step);
  if (count == 0) {
    // One without statistics says nothing of the tensors.
    if (step.skipped != GapCause::kUnspecified) return false;
    to_spare_ = std::min(to_spare_ + 1, kSpared);
    if (to_spare_ == kSpared) most_ = 0;
    return false;
  }
  if (count > most_) {
    most_ = count;
    to_spare_ = kSpared;
  }
  if (to_spare_ == 0) return false;
  --to_spare_;
  return true;
}

std::size_t CountNonFinite(const StepData& step) noexcept {
  std::size_t count = 0;
  for (const RoleColumns& role : step.roles) {
    for (std::size_t i = 0; i < role.nan.size(); ++i) {
      const std::uint64_t any = role.nan[i] | role.pos_inf[i] | role.neg_inf[i];
      count += any != 0 ? 1 : 0;
    }
  }
  for (const ScalarValue& scalar : step.scalars) {
    count += std::isfinite(scalar.value) ? 0 : 1;
  }
  return count;
}

}  // namespace gradtap::agent
