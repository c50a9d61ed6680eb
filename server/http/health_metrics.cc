#include "server/http/health_metrics.h"

#include <set>
#include <utility>

#include "proto/text/rules_text.h"

namespace gradtap::server {
namespace {

double Number(std::uint64_t value) { return static_cast<double>(value); }

}  // namespace

void AddHealth(const HealthWatch& health, MetricSet* set) {
  const HealthFigures figures = health.figures();
  set->Gauge("gradtap_alerts_active", "Alerts of all runs that are active.",
             Number(health.log().Active().size()));
  set->Counter("gradtap_health_rows_total",
               "Steps and gaps that the health rules have looked at since the "
               "start.",
               Number(figures.rows));
  set->Counter("gradtap_health_unread_rows_total",
               "Steps that the health rules could not read.",
               Number(figures.unread_rows));
  set->Counter("gradtap_health_failed_writes_total",
               "Alerts or states that could not be stored at once.",
               Number(figures.failed_writes));
  set->Counter("gradtap_health_busy_seconds_total",
               "CPU time of the health rules' thread.",
               static_cast<double>(figures.busy_ns) * 1e-9);
  set->Gauge("gradtap_health_behind_rows",
             "Steps and gaps that the health rules have not looked at yet.",
             Number(figures.behind));
  const std::pair<Destination, const char*> destinations[] = {
      {Destination::kAlertmanager, "alertmanager"},
      {Destination::kWebhook, "webhook"}};
  for (const auto& [to, name] : destinations) {
    const CallCounts calls = health.log().calls(to);
    set->Counter("gradtap_alert_notifications_total",
                 "Calls that passed alerts on.", Number(calls.sent),
                 {{"destination", name}});
    set->Counter("gradtap_alert_notification_failures_total",
                 "Calls that were to pass alerts on and failed.",
                 Number(calls.failed), {{"destination", name}});
  }
}

void AddRunAlerts(const HealthWatch& health, const std::string& run,
                  MetricSet* set) {
  std::set<v1::HealthRule> active;
  for (const v1::Alert& alert : health.log().Active()) {
    if (alert.run() == run) active.insert(alert.rule());
  }
  for (int i = 1; i < static_cast<int>(kRuleNumbers); ++i) {
    const auto rule = static_cast<v1::HealthRule>(i);
    if (!health.rules()->Enabled(rule)) continue;
    set->Gauge("gradtap_run_alerts", "1: the rule's alert is active.",
               active.count(rule) != 0 ? 1 : 0,
               {{"run", run},
                {"rule", std::string(RuleName(rule))},
                {"severity",
                 std::string(SeverityName(health.rules()->Severity(rule)))}});
  }
}

}  // namespace gradtap::server
