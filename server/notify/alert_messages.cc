#include "server/notify/alert_messages.h"

#include <google/protobuf/struct.pb.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/csv.h"
#include "proto/text/json_mapping.h"
#include "proto/text/rules_text.h"
#include "server/health/alert_text.h"

namespace gradtap::server {
namespace {

using google::protobuf::Struct;

void Set(Struct* to, const char* name, const std::string& value) {
  (*to->mutable_fields())[name].set_string_value(value);
}

Struct* SetStruct(Struct* to, const char* name) {
  return (*to->mutable_fields())[name].mutable_struct_value();
}

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

void Describe(const v1::Alert& alert, const std::string& url, Struct* to) {
  Set(to, "summary", alert.summary());
  Set(to, "attempt", absl::StrCat(alert.attempt()));
  Set(to, "first_step", absl::StrCat(alert.first_step()));
  Set(to, "first_time", ExactTime(alert.first_time_unix_ns()));
  Set(to, "rank", absl::StrCat(alert.rank()));
  Set(to, "ranks", Ranks(alert));
  Set(to, "offenders", absl::StrCat(alert.offenders()));
  Set(to, "worst", Parameters(alert));
  Set(to, "link", url);
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
  google::protobuf::ListValue list;
  for (const v1::Alert& alert : alerts) {
    const std::string url = page + alert.link();
    Struct* of = list.add_values()->mutable_struct_value();
    Struct* labels = SetStruct(of, "labels");
    Set(labels, "alertname", AlertName(alert.rule()));
    Set(labels, "run", alert.run());
    Set(labels, "severity", std::string(SeverityName(alert.severity())));
    Describe(alert, url, SetStruct(of, "annotations"));
    Set(of, "startsAt", ExactTime(alert.raised_unix_ns()));
    Set(of, "endsAt",
        ExactTime(alert.active() ? until_unix_ns : alert.ended_unix_ns()));
    Set(of, "generatorURL", url);
  }
  return ToJson(list, JsonLayout::kOneLine);
}

absl::StatusOr<std::string> ToWebhook(const v1::Alert& alert,
                                      const std::string& page) {
  Struct head;
  Set(&head, "status", alert.active() ? "firing" : "resolved");
  Set(&head, "url", page + alert.link());
  absl::StatusOr<std::string> text = ToJson(head, JsonLayout::kOneLine);
  if (!text.ok()) return text;
  absl::StatusOr<std::string> body = ToJson(alert, JsonLayout::kOneLine);
  if (!body.ok()) return body;
  // Both are objects, each with its line's end.
  const absl::string_view inside =
      absl::StripSuffix(absl::StripSuffix(*text, "\n"), "}");
  return absl::StrCat("{\"version\":1,", inside.substr(1),
                      ",\"alert\":", absl::StripSuffix(*body, "\n"), "}\n");
}

}  // namespace gradtap::server
