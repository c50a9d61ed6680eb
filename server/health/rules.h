// A file of rules, ready to be evaluated.
//
// Layer: server/health. This file: std, absl, core, gradtap_proto; no grpc.

#ifndef GRADTAP_SERVER_HEALTH_RULES_H_
#define GRADTAP_SERVER_HEALTH_RULES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "core/name_filter.h"
#include "gradtap/v1/rules.pb.h"

namespace gradtap::server {

// HealthRule's numbers; [0] is none.
inline constexpr std::size_t kRuleNumbers = 9;
// Offenders that an alert names.
inline constexpr std::size_t kWorst = 5;

// Immutable, and thread-safe.
class Rules {
 public:
  // `file` has every field, as ParseRules() gives it. kInvalidArgument: a
  // pattern of it is none.
  static absl::StatusOr<std::shared_ptr<const Rules>> Create(
      const v1::RulesFile& file);

  const v1::RulesFile& file() const { return file_; }

  bool Enabled(v1::HealthRule rule) const;
  v1::AlertSeverity Severity(v1::HealthRule rule) const;
  // Judged steps of a rank without a break after which its part in an alert is
  // over. Of rules about the clock 1.
  std::uint32_t QuietSteps(v1::HealthRule rule) const;
  // Whether the rule is about a parameter of this name.
  bool Covers(v1::HealthRule rule, std::string_view parameter) const;
  bool CoversRun(std::string_view run) const { return runs_.Matches(run); }

 private:
  Rules() = default;

  v1::RulesFile file_;
  NameFilter nonfinite_, exploding_, vanishing_, dead_, update_ratio_, runs_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HEALTH_RULES_H_
