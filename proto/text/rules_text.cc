#include "proto/text/rules_text.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <array>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/name_filter.h"
#include "core/names.h"

namespace gradtap {
namespace {

using google::protobuf::TextFormat;

constexpr std::uint32_t kMaxSteps = 1'000'000;
constexpr double kMaxFactor = 1e30;

// The first error alone: what follows is often due to it.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(std::string name) : name_(std::move(name)) {}

  void AddError(int line, int column, const std::string& message) override {
    if (!text_.empty()) return;
    text_ = absl::StrCat(name_, ":", line + 1, ":", column + 1, ": ",
                         EscapeForTerminal(message));
  }
  void AddWarning(int line, int column, const std::string& message) override {
    AddError(line, column, message);
  }

  const std::string& text() const { return text_; }

 private:
  const std::string name_;
  std::string text_;
};

// Looks at fields one after another and keeps the first that may not be so.
class Checker {
 public:
  explicit Checker(const std::string& name) : name_(name) {}

  void Number(const char* field, double value, double least, double most,
              bool least_allowed, const char* hint) {
    const bool ok = std::isfinite(value) && value <= most &&
                    (least_allowed ? value >= least : value > least);
    if (ok) return;
    Refuse(absl::StrCat(
        field, ": ", value, " must be ",
        least_allowed ? "at least " : "more than ", least,
        most < kMaxFactor ? absl::StrCat(", at most ", most) : std::string(),
        hint));
  }

  void Steps(const char* field, std::uint32_t value, std::uint32_t least) {
    if (value >= least && value <= kMaxSteps) return;
    Refuse(absl::StrCat(field, ": ", value, " must be a number of steps from ",
                        least, " to ", kMaxSteps));
  }

  void Pattern(const char* field, const std::string& pattern) {
    if (pattern.empty()) return;
    if (const auto s = NameFilter::Create({pattern}); !s.ok()) {
      Refuse(absl::StrCat(field, ": ", std::string(s.status().message())));
    }
  }

  void Severity(const char* field, v1::AlertSeverity value) {
    if (value == v1::ALERT_SEVERITY_WARNING ||
        value == v1::ALERT_SEVERITY_CRITICAL) {
      return;
    }
    Refuse(absl::StrCat(field, ": ", static_cast<int>(value),
                        " must be ALERT_SEVERITY_WARNING or "
                        "ALERT_SEVERITY_CRITICAL"));
  }

  void Refuse(const std::string& why) {
    if (status_.ok()) {
      status_ = absl::InvalidArgumentError(absl::StrCat(name_, ": ", why));
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  const std::string& name_;
  absl::Status status_;
};

void CheckLevel(const char* name, const v1::LevelRule& rule, Checker* check) {
  const auto field = [name](const char* of) { return absl::StrCat(name, of); };
  check->Severity(field(".severity").c_str(), rule.severity());
  check->Number(field(".factor").c_str(), rule.factor(), 1, kMaxFactor, false,
                ": so many times its own level");
  check->Number(field(".spreads").c_str(), rule.spreads(), 0, 1e6, true, "");
  check->Steps(field(".steps").c_str(), rule.steps(), 1);
  check->Steps(field(".quiet_steps").c_str(), rule.quiet_steps(), 1);
  check->Pattern(field(".except").c_str(), rule.except());
}

void CheckLoss(const v1::LossSpikeRule& rule, Checker* check) {
  check->Severity("loss_spike.severity", rule.severity());
  if (rule.scalar().empty() || SafeName(rule.scalar()) != rule.scalar()) {
    check->Refuse(
        "loss_spike.scalar: must name a scalar, in 1 to 512 bytes of UTF-8; "
        "`disabled: true` switches the rule off");
  }
  check->Number("loss_spike.spreads", rule.spreads(), 0, 1e6, true, "");
  check->Number("loss_spike.share", rule.share(), 0, 1e6, true, "");
  check->Steps("loss_spike.steps", rule.steps(), 1);
  check->Steps("loss_spike.quiet_steps", rule.quiet_steps(), 1);
}

void CheckUpdates(const v1::RulesFile& rules, Checker* check) {
  const v1::DeadRule& dead = rules.dead();
  check->Severity("dead.severity", dead.severity());
  check->Steps("dead.steps", dead.steps(), 1);
  check->Steps("dead.quiet_steps", dead.quiet_steps(), 1);
  check->Pattern("dead.except", dead.except());
  const v1::UpdateRatioRule& ratio = rules.update_ratio();
  check->Severity("update_ratio.severity", ratio.severity());
  check->Number("update_ratio.min", ratio.min(), 0, 1e6, true, "");
  check->Number("update_ratio.max", ratio.max(), ratio.min(), kMaxFactor, false,
                " (which is update_ratio.min)");
  check->Steps("update_ratio.steps", ratio.steps(), 1);
  check->Steps("update_ratio.quiet_steps", ratio.quiet_steps(), 1);
  check->Number("update_ratio.min_dimensions", ratio.min_dimensions(), 0, 64,
                true, "");
  check->Pattern("update_ratio.except", ratio.except());
}

absl::Status Check(const v1::RulesFile& rules, const std::string& name) {
  Checker check(name);
  const v1::NonfiniteRule& nonfinite = rules.nonfinite();
  check.Severity("nonfinite.severity", nonfinite.severity());
  check.Steps("nonfinite.skipped_steps", nonfinite.skipped_steps(), 0);
  check.Steps("nonfinite.quiet_steps", nonfinite.quiet_steps(), 1);
  check.Pattern("nonfinite.except", nonfinite.except());
  CheckLevel("exploding", rules.exploding(), &check);
  CheckLevel("vanishing", rules.vanishing(), &check);
  CheckUpdates(rules, &check);
  CheckLoss(rules.loss_spike(), &check);
  check.Severity("stalled.severity", rules.stalled().severity());
  check.Number("stalled.seconds", rules.stalled().seconds(), 0, 1e9, false, "");
  check.Number("stalled.step_times", rules.stalled().step_times(), 0, 1e9, true,
               "");
  check.Severity("lost_rank.severity", rules.lost_rank().severity());
  check.Number("lost_rank.seconds", rules.lost_rank().seconds(), 0, 1e9, false,
               "");
  check.Steps("warm_up_steps", rules.warm_up_steps(), 2);
  check.Number("level_rate", rules.level_rate(), 0, 0.5, false, "");
  check.Number("expire_hours", rules.expire_hours(), 0, 1e6, true, "");
  check.Pattern("runs", rules.runs());
  return check.status();
}

// In the order of HealthRule.
constexpr std::array<std::string_view, 9> kRuleNames = {
    "",           "nonfinite", "exploding", "vanishing", "dead", "update_ratio",
    "loss_spike", "stalled",   "lost_rank"};

}  // namespace

v1::RulesFile DefaultRules() {
  v1::RulesFile rules;
  TextFormat::ParseFromString(
      R"(nonfinite { severity: ALERT_SEVERITY_CRITICAL skipped_steps: 20
                     quiet_steps: 20 except: "" }
         exploding { severity: ALERT_SEVERITY_WARNING factor: 10 spreads: 6
                     steps: 3 quiet_steps: 50 except: "" }
         vanishing { severity: ALERT_SEVERITY_WARNING factor: 100 spreads: 8
                     steps: 50 quiet_steps: 50 except: "" }
         dead { severity: ALERT_SEVERITY_WARNING steps: 100 quiet_steps: 10
                except: "" }
         update_ratio { severity: ALERT_SEVERITY_WARNING min: 1e-8 max: 0.3
                        steps: 50 min_dimensions: 2 quiet_steps: 50 except: "" }
         loss_spike { severity: ALERT_SEVERITY_WARNING scalar: "loss" spreads: 6
                      share: 0.5 steps: 3 quiet_steps: 50 }
         stalled { severity: ALERT_SEVERITY_CRITICAL seconds: 300
                   step_times: 50 }
         lost_rank { severity: ALERT_SEVERITY_CRITICAL seconds: 60 }
         warm_up_steps: 100 level_rate: 0.01 expire_hours: 24 runs: "")",
      &rules);
  return rules;
}

absl::StatusOr<v1::RulesFile> ParseRules(std::string_view text,
                                         const std::string& name) {
  const std::string shown = EscapeForTerminal(name);
  if (text.size() > kMaxRulesBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(shown, ": ", text.size(), " bytes are more than the ",
                     kMaxRulesBytes, " that a file of rules may have"));
  }
  FirstError error(shown);
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  v1::RulesFile given;
  if (!parser.ParseFromString(std::string(text), &given) ||
      !error.text().empty()) {
    return absl::InvalidArgumentError(
        error.text().empty() ? absl::StrCat(shown, ": not a file of rules")
                             : error.text());
  }
  v1::RulesFile rules = DefaultRules();
  rules.MergeFrom(given);
  if (absl::Status s = Check(rules, shown); !s.ok()) return s;
  return rules;
}

std::string PrintRules(const v1::RulesFile& rules) {
  std::string text;
  TextFormat::PrintToString(rules, &text);
  return text;
}

std::string_view RuleName(v1::HealthRule rule) {
  const auto i = static_cast<std::size_t>(rule);
  return i < kRuleNames.size() ? kRuleNames[i] : std::string_view();
}

v1::HealthRule RuleNamed(std::string_view name) {
  for (std::size_t i = 1; i < kRuleNames.size(); ++i) {
    if (kRuleNames[i] == name) return static_cast<v1::HealthRule>(i);
  }
  return v1::HEALTH_RULE_UNSPECIFIED;
}

std::string_view SeverityName(v1::AlertSeverity severity) {
  return severity == v1::ALERT_SEVERITY_CRITICAL ? "critical" : "warning";
}

}  // namespace gradtap
