#include "client/cli/alert_rows.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "client/cli/cells.h"
#include "client/cli/text.h"
#include "proto/text/rules_text.h"

namespace gradtap::client {
namespace {

std::string_view EndWord(v1::AlertEnd end) {
  switch (end) {
    case v1::ALERT_END_UNSPECIFIED:
      return "active";
    case v1::ALERT_END_QUIET:
      return "quiet";
    case v1::ALERT_END_RUN_ENDED:
      return "run ended";
    case v1::ALERT_END_EXPIRED:
      return "expired";
    default:
      return "unknown";
  }
}

std::string RuleWord(v1::HealthRule rule) {
  const std::string_view name = RuleName(rule);
  return name.empty() ? "unknown" : std::string(name);
}

Cell StateOf(const v1::Alert& alert) {
  if (!alert.active()) return {std::string(EndWord(alert.end())), Tone::kFaint};
  return {"active", alert.severity() == v1::ALERT_SEVERITY_CRITICAL
                        ? Tone::kBad
                        : Tone::kStrong};
}

}  // namespace

Table AlertTable(const Alerts& alerts) {
  Table table({{"RUN", Align::kLeft, true},
               {"ATTEMPT", Align::kRight},
               {"RULE"},
               {"SEVERITY"},
               {"STATE"},
               {"STEP", Align::kRight},
               {"LAST", Align::kRight},
               {"RAISED"},
               {"WHAT", Align::kLeft, true}});
  for (const v1::Alert& alert : alerts) {
    table.AddRow({NameCell(alert.run()),
                  {std::to_string(alert.attempt())},
                  {RuleWord(alert.rule())},
                  {std::string(SeverityName(alert.severity()))},
                  StateOf(alert),
                  {std::to_string(alert.first_step())},
                  {std::to_string(alert.last_step())},
                  {HumanTime(alert.raised_unix_ns())},
                  NameCell(alert.summary())});
  }
  return table;
}

std::string AlertCsv(const Alerts& alerts, const CsvOptions& options) {
  std::string text = CsvHeader(
      {"run", "attempt", "id", "rule", "severity", "state", "first_step",
       "step_before", "first_time", "rank", "last_step", "last_time", "raised",
       "ended", "offenders", "ranks", "summary"},
      options);
  CsvRow row(options);
  for (const v1::Alert& alert : alerts) {
    row.Text(alert.run())
        .Unsigned(alert.attempt())
        .Unsigned(alert.id())
        .Text(RuleWord(alert.rule()))
        .Text(SeverityName(alert.severity()))
        .Text(alert.active() ? "active" : EndWord(alert.end()))
        .Integer(alert.first_step());
    if (alert.step_before() < 0) {
      row.Empty();
    } else {
      row.Integer(alert.step_before());
    }
    row.Time(alert.first_time_unix_ns())
        .Unsigned(alert.rank())
        .Integer(alert.last_step())
        .Time(alert.last_time_unix_ns())
        .Time(alert.raised_unix_ns())
        .Time(alert.ended_unix_ns())
        .Unsigned(alert.offenders())
        .Unsigned(alert.rank_count())
        .Text(alert.summary());
    text += row.Take();
  }
  return text;
}

}  // namespace gradtap::client
