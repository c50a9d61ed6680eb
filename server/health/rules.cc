#include "server/health/rules.h"

#include <string>
#include <utility>

namespace gradtap::server {
namespace {

absl::Status Compile(const std::string& except, NameFilter* to) {
  if (except.empty()) return absl::OkStatus();
  absl::StatusOr<NameFilter> filter = NameFilter::Create({}, {except});
  if (!filter.ok()) return filter.status();
  *to = *std::move(filter);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Rules>> Rules::Create(
    const v1::RulesFile& file) {
  std::shared_ptr<Rules> rules(new Rules());
  rules->file_ = file;
  absl::Status s = Compile(file.nonfinite().except(), &rules->nonfinite_);
  if (s.ok()) s = Compile(file.exploding().except(), &rules->exploding_);
  if (s.ok()) s = Compile(file.vanishing().except(), &rules->vanishing_);
  if (s.ok()) s = Compile(file.dead().except(), &rules->dead_);
  if (s.ok()) s = Compile(file.update_ratio().except(), &rules->update_ratio_);
  if (!s.ok()) return s;
  if (!file.runs().empty()) {
    absl::StatusOr<NameFilter> runs = NameFilter::Create({file.runs()});
    if (!runs.ok()) return runs.status();
    rules->runs_ = *std::move(runs);
  }
  return std::shared_ptr<const Rules>(std::move(rules));
}

bool Rules::Enabled(v1::HealthRule rule) const {
  switch (rule) {
    case v1::HEALTH_RULE_NONFINITE:
      return !file_.nonfinite().disabled();
    case v1::HEALTH_RULE_EXPLODING:
      return !file_.exploding().disabled();
    case v1::HEALTH_RULE_VANISHING:
      return !file_.vanishing().disabled();
    case v1::HEALTH_RULE_DEAD:
      return !file_.dead().disabled();
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return !file_.update_ratio().disabled();
    case v1::HEALTH_RULE_LOSS_SPIKE:
      return !file_.loss_spike().disabled();
    case v1::HEALTH_RULE_STALLED:
      return !file_.stalled().disabled();
    case v1::HEALTH_RULE_LOST_RANK:
      return !file_.lost_rank().disabled();
    default:
      return false;
  }
}

v1::AlertSeverity Rules::Severity(v1::HealthRule rule) const {
  switch (rule) {
    case v1::HEALTH_RULE_NONFINITE:
      return file_.nonfinite().severity();
    case v1::HEALTH_RULE_EXPLODING:
      return file_.exploding().severity();
    case v1::HEALTH_RULE_VANISHING:
      return file_.vanishing().severity();
    case v1::HEALTH_RULE_DEAD:
      return file_.dead().severity();
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return file_.update_ratio().severity();
    case v1::HEALTH_RULE_LOSS_SPIKE:
      return file_.loss_spike().severity();
    case v1::HEALTH_RULE_STALLED:
      return file_.stalled().severity();
    default:
      return file_.lost_rank().severity();
  }
}

std::uint32_t Rules::QuietSteps(v1::HealthRule rule) const {
  switch (rule) {
    case v1::HEALTH_RULE_NONFINITE:
      return file_.nonfinite().quiet_steps();
    case v1::HEALTH_RULE_EXPLODING:
      return file_.exploding().quiet_steps();
    case v1::HEALTH_RULE_VANISHING:
      return file_.vanishing().quiet_steps();
    case v1::HEALTH_RULE_DEAD:
      return file_.dead().quiet_steps();
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return file_.update_ratio().quiet_steps();
    case v1::HEALTH_RULE_LOSS_SPIKE:
      return file_.loss_spike().quiet_steps();
    default:
      return 1;
  }
}

bool Rules::Covers(v1::HealthRule rule, std::string_view parameter) const {
  switch (rule) {
    case v1::HEALTH_RULE_NONFINITE:
      return nonfinite_.Matches(parameter);
    case v1::HEALTH_RULE_EXPLODING:
      return exploding_.Matches(parameter);
    case v1::HEALTH_RULE_VANISHING:
      return vanishing_.Matches(parameter);
    case v1::HEALTH_RULE_DEAD:
      return dead_.Matches(parameter);
    case v1::HEALTH_RULE_UPDATE_RATIO:
      return update_ratio_.Matches(parameter);
    default:
      return true;
  }
}

}  // namespace gradtap::server
