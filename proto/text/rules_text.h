// The file of health rules: protobuf's text format of gradtap.v1.RulesFile,
// with what may stand in it. One reader for the collector, which goes by it,
// and for the command line, which checks it.
//
// Layer: proto. This file: std, absl, gradtap_proto. Pure functions; any thread
// may call them.

#ifndef GRADTAP_PROTO_TEXT_RULES_TEXT_H_
#define GRADTAP_PROTO_TEXT_RULES_TEXT_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "gradtap/v1/rules.pb.h"

namespace gradtap {

// A file with more is refused.
inline constexpr std::size_t kMaxRulesBytes = std::size_t{1} << 20;

// Every field that may be unset, with its default.
v1::RulesFile DefaultRules();

// The rules of `text`, every field set: what it leaves out has its default.
// kInvalidArgument: "NAME:LINE:COLUMN: what" if it is no such text, else the
// field, its value, and what may stand there.
absl::StatusOr<v1::RulesFile> ParseRules(std::string_view text,
                                         const std::string& name);

// As a file with all fields.
std::string PrintRules(const v1::RulesFile& rules);

// "nonfinite", "lost_rank": as fields, metrics and people have it. Empty:
// unspecified.
std::string_view RuleName(v1::HealthRule rule);
// HEALTH_RULE_UNSPECIFIED: there is none of that name.
v1::HealthRule RuleNamed(std::string_view name);
// "warning", "critical".
std::string_view SeverityName(v1::AlertSeverity severity);

}  // namespace gradtap

#endif  // GRADTAP_PROTO_TEXT_RULES_TEXT_H_
