// What of a stream's records breaks a rule, by name.

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "server/health/rank_health.h"

namespace gradtap::server {
namespace {

double Rms(const HealthColumns& columns, std::size_t place) {
  if (place >= columns.mean.size()) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double mean = columns.mean[place];
  const double std = columns.std[place];
  return std::sqrt(mean * mean + std * std);
}

// The worst of those added, in order; equals as they came.
class WorstOf {
 public:
  // Whether one so bad has a place: to be asked before one is made.
  bool Wants(double badness) const {
    return kept_.size() < kWorst || badness > kept_.back().first;
  }
  void Add(double badness, v1::Offender offender) {
    const auto at = std::find_if(
        kept_.begin(), kept_.end(),
        [badness](const auto& other) { return badness > other.first; });
    kept_.insert(at, {badness, std::move(offender)});
    if (kept_.size() > kWorst) kept_.pop_back();
  }
  std::vector<v1::Offender> Take() {
    std::vector<v1::Offender> worst;
    for (auto& [badness, offender] : kept_) {
      worst.push_back(std::move(offender));
    }
    return worst;
  }

 private:
  std::vector<std::pair<double, v1::Offender>> kept_;
};

Role RoleOf(v1::HealthRule rule) {
  return rule == v1::HEALTH_RULE_EXPLODING || rule == v1::HEALTH_RULE_VANISHING
             ? Role::kGrad
             : Role::kUpdate;
}

}  // namespace

int CausalOrder(Role role) {
  switch (role) {
    case Role::kUnspecified:
      return 0;  // The loss.
    case Role::kGradLocal:
      return 1;
    case Role::kGrad:
      return 2;
    case Role::kUpdate:
      return 3;
    case Role::kWeight:
      return 4;
    default:
      return 5;
  }
}

bool RankHealth::Breaks(v1::HealthRule rule, std::int32_t row) const {
  const v1::RulesFile& file = rules_->file();
  const auto most = [](std::uint32_t steps) {
    return static_cast<std::int32_t>(steps);
  };
  switch (rule) {
    case v1::HEALTH_RULE_EXPLODING:
      return row >= most(file.exploding().steps());
    case v1::HEALTH_RULE_VANISHING:
      return -row >= most(file.vanishing().steps());
    case v1::HEALTH_RULE_DEAD:
      return row >= most(file.dead().steps());
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return std::abs(row) >= most(file.update_ratio().steps());
    default:
      return false;
  }
}

const std::vector<std::int32_t>& RankHealth::RowsOf(v1::HealthRule rule) const {
  switch (rule) {
    case v1::HEALTH_RULE_DEAD:
      return still_.row;
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return ratio_rows_;
    default:
      return levels_.row;
  }
}

v1::Offender RankHealth::Named(Role role, std::uint32_t parameter) const {
  v1::Offender offender;
  offender.set_parameter(schema_->parameters[parameter].name);
  offender.set_role(static_cast<v1::Role>(role));
  offender.set_rank(rank_);
  offender.set_limit(std::numeric_limits<double>::quiet_NaN());
  return offender;
}

void RankHealth::LookAtNonfinite(const HealthStep& step, Verdict* verdict) {
  verdict->judged = true;
  nonfinite_.clear();
  WorstOf worst;
  for (int r = 1; r < kRoleCount; ++r) {
    const auto role = static_cast<Role>(r);
    const Places& places = PlacesOf(role);
    for (const auto& [place, elements] : step.of(role).nonfinite) {
      if (place >= places.size()) continue;
      const std::uint32_t parameter = places[place];
      if (!Covers(v1::HEALTH_RULE_NONFINITE, parameter)) continue;
      ++verdict->offenders;
      nonfinite_.push_back(parameter);
      // What comes about first in a step is the most telling.
      const auto count = static_cast<double>(elements);
      const double badness = count - 1e14 * CausalOrder(role);
      if (!worst.Wants(badness)) continue;
      v1::Offender offender = Named(role, parameter);
      offender.set_value(count);
      worst.Add(badness, std::move(offender));
    }
  }
  if (verdict->offenders == 0) return;
  verdict->worst = worst.Take();
  std::sort(nonfinite_.begin(), nonfinite_.end());
  nonfinite_.erase(std::unique(nonfinite_.begin(), nonfinite_.end()),
                   nonfinite_.end());
}

RankHealth::Measure RankHealth::MeasureOf(v1::HealthRule rule,
                                          const HealthStep& step,
                                          std::size_t place) const {
  const Role role = RoleOf(rule);
  const std::int32_t row = RowsOf(rule)[place];
  Measure measure;
  if (role == Role::kGrad) {
    const double level = std::exp2(static_cast<double>(levels_.level[place]));
    const v1::RulesFile& file = rules_->file();
    measure.value = Rms(step.of(role), place);
    measure.limit = rule == v1::HEALTH_RULE_EXPLODING
                        ? level * file.exploding().factor()
                        : level / file.vanishing().factor();
    measure.badness = std::fabs(std::log2(measure.value / level));
  } else if (rule == v1::HEALTH_RULE_DEAD) {
    measure.value = row;
    measure.limit = rules_->file().dead().steps();
    measure.badness = row;
  } else {
    const auto weight = static_cast<std::size_t>(weight_of_[place]);
    const v1::UpdateRatioRule& band = rules_->file().update_ratio();
    measure.value =
        Rms(step.of(role), place) / Rms(step.of(Role::kWeight), weight);
    measure.limit = row > 0 ? band.max() : band.min();
    measure.badness = std::fabs(std::log2(measure.value / measure.limit));
  }
  if (std::isnan(measure.badness)) measure.badness = 0;
  return measure;
}

void RankHealth::Collect(v1::HealthRule rule, const HealthStep& step,
                         Verdict* verdict) {
  const std::vector<std::int32_t>& rows = RowsOf(rule);
  const Role role = RoleOf(rule);
  const Places& places = PlacesOf(role);
  WorstOf worst;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!Breaks(rule, rows[i]) || !Covers(rule, places[i])) continue;
    ++verdict->offenders;
    const Measure measure = MeasureOf(rule, step, i);
    if (!worst.Wants(measure.badness)) continue;
    v1::Offender offender = Named(role, places[i]);
    offender.set_value(measure.value);
    offender.set_limit(measure.limit);
    worst.Add(measure.badness, std::move(offender));
  }
  verdict->worst = worst.Take();
}

void RankHealth::ForEachBroken(
    v1::HealthRule rule, const std::function<void(std::size_t)>& visit) const {
  if (schema_ == nullptr) return;
  if (rule == v1::HEALTH_RULE_NONFINITE) {
    for (const std::uint32_t parameter : nonfinite_) visit(parameter);
    return;
  }
  const std::vector<std::int32_t>& rows = RowsOf(rule);
  const Places& places = PlacesOf(RoleOf(rule));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (Breaks(rule, rows[i]) && Covers(rule, places[i])) visit(places[i]);
  }
}

}  // namespace gradtap::server
