#include "server/notify/alert_messages.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/csv.h"
#include "gradtap/v1/notify.pb.h"
#include "proto/text/json_mapping.h"
#include "proto/text/rules_text.h"
#include "server/health/alert_text.h"

namespace gradtap::server {
namespace {

std::string Parameters(const v1::Alert& alert) {
  std::string text;
  for (const v1::Offender& offender : alert.worst()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", OffenderText(offender));
  }
  return text;
}

std::string Ranks(const v1::Alert& alert) {
  std::string text;
  for (const std::uint32_t rank : alert.ranks()) {
    absl::StrAppend(&text, text.empty() ? "" : ", ", rank);
  }
  const auto named = static_cast<std::uint32_t>(alert.ranks_size());
  if (alert.rank_count() > named) {
    absl::StrAppend(&text, " and ", alert.rank_count() - named, " more");
  }
  return text;
}

void Describe(const v1::Alert& alert, v1::AlertmanagerAlert::Annotations* to) {
  to->set_summary(alert.summary());
  to->set_attempt(absl::StrCat(alert.attempt()));
  to->set_first_step(absl::StrCat(alert.first_step()));
  to->set_first_time(ExactTime(alert.first_time_unix_ns()));
  to->set_rank(absl::StrCat(alert.rank()));
  to->set_ranks(Ranks(alert));
  to->set_offenders(absl::StrCat(alert.offenders()));
  to->set_worst(Parameters(alert));
}

}  // namespace

std::string AlertName(v1::HealthRule rule) {
  std::string name = "Gradtap";
  bool upper = true;
  for (const char c : RuleName(rule)) {
    if (c == '_') {
      upper = true;
      continue;
    }
    name += upper ? absl::ascii_toupper(static_cast<unsigned char>(c)) : c;
    upper = false;
  }
  return name;
}

absl::StatusOr<std::string> ToAlertmanager(const std::vector<v1::Alert>& alerts,
                                           std::int64_t until_unix_ns,
                                           const std::string& page) {
  std::string list;
  for (const v1::Alert& alert : alerts) {
    v1::AlertmanagerAlert message;
    message.mutable_labels()->set_alertname(AlertName(alert.rule()));
    message.mutable_labels()->set_run(alert.run());
    message.mutable_labels()->set_severity(
        std::string(SeverityName(alert.severity())));
    Describe(alert, message.mutable_annotations());
    message.mutable_annotations()->set_link(page + alert.link());
    message.set_starts_at(ExactTime(alert.raised_unix_ns()));
    message.set_ends_at(
        ExactTime(alert.active() ? until_unix_ns : alert.ended_unix_ns()));
    message.set_generator_url(page + alert.link());
    const absl::StatusOr<std::string> json =
        ToJson(message, JsonLayout::kOneLine);
    if (!json.ok()) return json;
    absl::StrAppend(&list, list.empty() ? "" : ",", *json);
  }
  return "[" + list + "]";
}

absl::StatusOr<std::string> ToWebhook(const v1::Alert& alert,
                                      const std::string& page) {
  v1::WebhookMessage message;
  message.set_version(1);
  message.set_status(alert.active() ? "firing" : "resolved");
  message.set_url(page + alert.link());
  *message.mutable_alert() = alert;
  return ToJson(message, JsonLayout::kOneLine);
}

}  // namespace gradtap::server
