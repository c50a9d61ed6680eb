// gradtap alerts
//
// Layer: client/cli.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/alert_rows.h"
#include "client/cli/commands.h"
#include "client/cli/parse.h"
#include "client/cli/text.h"
#include "core/names.h"
#include "proto/text/rules_text.h"

namespace gradtap::client {
namespace {

struct AlertsOptions {
  std::string run;
  bool active = false;
  std::string since;
  std::string rule;
  std::uint32_t limit = 0;
};

absl::StatusOr<v1::ListAlertsRequest> ToRequest(const AlertsOptions& options,
                                                std::int64_t now_unix_ns) {
  v1::ListAlertsRequest request;
  if (!options.run.empty()) {
    if (absl::Status s = CheckRunName(options.run); !s.ok()) return s;
    request.set_run(options.run);
  }
  request.set_active(options.active);
  if (!options.since.empty()) {
    const auto since = ParseTime(options.since, now_unix_ns);
    if (!since.ok()) return since.status();
    request.set_since_unix_ns(*since);
  }
  if (!options.rule.empty()) {
    request.set_rule(RuleNamed(options.rule));
    if (request.rule() == v1::HEALTH_RULE_UNSPECIFIED) {
      return absl::InvalidArgumentError(absl::StrCat(
          "bad rule '", EscapeForTerminal(options.rule),
          "': one of nonfinite, exploding, vanishing, dead, update_ratio, "
          "loss_spike, stalled, lost_rank"));
    }
  }
  request.set_limit(options.limit);
  return request;
}

std::string NoAlerts(const AlertsOptions& options) {
  const std::string of =
      options.run.empty()
          ? ""
          : absl::StrCat(" of run ", EscapeForTerminal(options.run));
  if (options.active) return absl::StrCat("No alert", of, " is active.\n");
  return absl::StrCat("No alerts", of, ".\n");
}

absl::Status Run(const AlertsOptions& options, Context& context) {
  const auto request = ToRequest(options, context.io().clock.UnixNanos());
  if (!request.ok()) return request.status();
  auto channel = context.Connect(*request);
  if (!channel.ok()) return channel.status();
  v1::ListAlertsResponse response;
  const absl::Status s =
      (*channel)->Call(&v1::Query::Stub::ListAlerts, *request, &response);
  if (!s.ok()) return s;
  switch (context.format()) {
    case Format::kJson:
      return context.WriteJson(response);
    case Format::kCsv:
      return context.Write(AlertCsv(response.alerts(), context.csv_options()));
    case Format::kTable:
      break;
  }
  if (response.alerts().empty()) return context.Write(NoAlerts(options));
  Table table = AlertTable(response.alerts());
  std::string text = table.Render(context.table_style());
  if (response.omitted() > 0) {
    absl::StrAppend(&text, "\n", Plural(response.omitted(), "older alert"),
                    " left out: --limit.\n");
  }
  return context.Write(text);
}

}  // namespace

Command AddAlerts(CLI::App& app) {
  auto options = std::make_shared<AlertsOptions>();
  app.add_option("RUN", options->run, "Of this run; without it of all")
      ->type_name("");
  app.add_flag("--active", options->active, "Only those that are active");
  app.add_option("--since", options->since,
                 "Only those raised, ended or broken again since: "
                 "2026-11-24T15:00Z, -10m, -2d")
      ->option_text("TIME");
  app.add_option("--rule", options->rule,
                 "Only of this rule: nonfinite, exploding, vanishing, dead, "
                 "update_ratio, loss_spike, stalled, lost_rank")
      ->option_text("RULE");
  app.add_option("--limit", options->limit,
                 "At most so many, the newest; default 1000")
      ->option_text("N");
  app.footer(
      "There is one alert for each rule of a run's attempt, however many\n"
      "parameters break it; JSON names the five worst. The rules: gradtap "
      "rules.\n"
      "\n"
      "Examples:\n"
      "  gradtap alerts\n"
      "  gradtap alerts fashion-mnist --active\n"
      "  gradtap alerts --rule nonfinite --since -1d --json");
  return [options](Context& context) { return Run(*options, context); };
}

}  // namespace gradtap::client
