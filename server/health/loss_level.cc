#include "server/health/loss_level.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradtap::server {
namespace {

// A first spread is a guess that so many values are to outweigh.
constexpr double kSpreadPrior = 10;
constexpr double kFirstSpread = 0.1;  // Of the first value.
constexpr double kMost = std::numeric_limits<double>::max() / 1e6;

}  // namespace

bool LossLevel::Look(const v1::RulesFile& rules, double value) {
  const v1::LossSpikeRule& rule = rules.loss_spike();
  value = std::clamp(value, -kMost, kMost);
  if (seen_ == 0) {
    level_ = value;
    spread_ = kFirstSpread * std::fabs(value);
  }
  const double away = value - level_;
  const double reach =
      std::max(rule.spreads() * spread_, rule.share() * std::fabs(level_));
  limit_ = level_ + reach;
  const bool above = seen_ >= rules.warm_up_steps() && away > reach;
  row_ = above ? std::min(row_ + 1, rule.steps()) : 0;
  const double seen = seen_;
  const double bound = 3 * spread_ + 1e-3 * std::fabs(level_);
  const double distance = std::min(std::fabs(away), bound);
  level_ += std::max(rules.level_rate(), 1 / (seen + 1)) *
            std::clamp(away, -bound, bound);
  spread_ += std::max(rules.level_rate(), 1 / (seen + kSpreadPrior)) *
             (distance - spread_);
  if (seen_ < std::numeric_limits<std::uint32_t>::max()) ++seen_;
  return row_ >= rule.steps();
}

void LossLevel::Save(v1::StreamHealthState* state) const {
  state->set_loss_level(level_);
  state->set_loss_spread(spread_);
  state->set_loss_seen(seen_);
  state->set_loss_row(row_);
}

void LossLevel::Load(const v1::StreamHealthState& state) {
  level_ = state.loss_level();
  spread_ = state.loss_spread();
  seen_ = state.loss_seen();
  row_ = state.loss_row();
}

}  // namespace gradtap::server
