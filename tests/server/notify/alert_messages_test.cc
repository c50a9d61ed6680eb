#include "server/notify/alert_messages.h"

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <string>

#include "server/notify/notify_url.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::HasSubstr;
using ::testing::Not;

v1::Alert MakeAlert(bool active) {
  v1::Alert alert;
  alert.set_run("gpt");
  alert.set_attempt(2);
  alert.set_rule(v1::HEALTH_RULE_LOST_RANK);
  alert.set_severity(v1::ALERT_SEVERITY_CRITICAL);
  alert.set_active(active);
  alert.set_first_step(812);
  alert.set_rank(3);
  alert.add_ranks(3);
  alert.add_ranks(5);
  alert.set_rank_count(9);
  alert.set_offenders(15);
  alert.set_raised_unix_ns(1'700'000'000'000'000'000);
  if (!active) alert.set_ended_unix_ns(1'700'000'001'000'000'000);
  alert.set_summary("what");
  alert.set_link("/?run=gpt");
  v1::Offender* worst = alert.add_worst();
  worst->set_parameter("<b>\"conv\"\x1b[0m");
  worst->set_role(v1::ROLE_GRAD);
  worst->set_rank(3);
  return alert;
}

// As a foreign reader sees it.
google::protobuf::Value Parse(const std::string& json) {
  google::protobuf::Value value;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &value);
  EXPECT_TRUE(status.ok()) << json;
  return value;
}

std::string At(const google::protobuf::Struct& of, const std::string& name) {
  const auto found = of.fields().find(name);
  return found == of.fields().end() ? "(none)" : found->second.string_value();
}

TEST(AlertMessagesTest, AlertmanagerGetsThreeLabelsAndTheRestAsAnnotations) {
  const auto body =
      ToAlertmanager({MakeAlert(true), MakeAlert(false)},
                     1'700'000'300'000'000'000, "http://127.0.0.1:7318");
  ASSERT_THAT(body, IsOk());
  const auto list = Parse(*body).list_value();
  ASSERT_EQ(list.values_size(), 2);
  const auto& active = list.values(0).struct_value();
  const auto& labels = active.fields().at("labels").struct_value();
  EXPECT_EQ(labels.fields_size(), 3);
  EXPECT_EQ(At(labels, "alertname"), "GradtapLostRank");
  EXPECT_EQ(At(labels, "run"), "gpt");
  EXPECT_EQ(At(labels, "severity"), "critical");
  const auto& rest = active.fields().at("annotations").struct_value();
  EXPECT_EQ(At(rest, "first_step"), "812");
  EXPECT_EQ(At(rest, "rank"), "3");
  EXPECT_EQ(At(rest, "ranks"), "3, 5 and 7 more");
  EXPECT_EQ(At(rest, "offenders"), "15");
  EXPECT_EQ(At(rest, "worst"), "grad <b>\"conv\"\\x1b[0m rank 3");
  EXPECT_EQ(At(rest, "link"), "http://127.0.0.1:7318/?run=gpt");
  EXPECT_EQ(At(active, "startsAt"), "2023-11-14T22:13:20.000000000Z");
  EXPECT_EQ(At(active, "endsAt"), "2023-11-14T22:18:20.000000000Z");
  EXPECT_EQ(At(list.values(1).struct_value(), "endsAt"),
            "2023-11-14T22:13:21.000000000Z");
  EXPECT_THAT(*body, Not(HasSubstr("\x1b")));
}

TEST(AlertMessagesTest, AWebhookGetsTheAlertAsListAlertsHasIt) {
  for (const bool active : {true, false}) {
    const auto body = ToWebhook(MakeAlert(active), "https://tap.example.org");
    ASSERT_THAT(body, IsOk());
    const google::protobuf::Value whole = Parse(*body);
    const auto& head = whole.struct_value();
    EXPECT_EQ(At(head, "status"), active ? "firing" : "resolved");
    EXPECT_EQ(At(head, "url"), "https://tap.example.org/?run=gpt");
    EXPECT_EQ(head.fields().at("version").number_value(), 1);
    const auto& alert = head.fields().at("alert").struct_value();
    EXPECT_EQ(At(alert, "run"), "gpt");
    EXPECT_EQ(At(alert, "rule"), "HEALTH_RULE_LOST_RANK");
    EXPECT_EQ(At(alert, "firstStep"), "812");
  }
}

TEST(NotifyUrlTest, AnAddressIsTakenApart) {
  const auto plain = ParseNotifyUrl("http://alerts:9093");
  ASSERT_THAT(plain, IsOk());
  EXPECT_EQ(plain->host, "alerts");
  EXPECT_EQ(plain->port, 9093);
  EXPECT_EQ(plain->path, "");
  const auto full = ParseNotifyUrl("http://[::1]:80/hook?key=1");
  ASSERT_THAT(full, IsOk());
  EXPECT_EQ(full->host, "::1");
  EXPECT_EQ(full->path, "/hook?key=1");
  EXPECT_EQ(ParseNotifyUrl("http://host/x")->port, 80);
}

TEST(NotifyUrlTest, WhatIsNoAddressIsRefusedByName) {
  const char* const bad[][2] = {
      {"https://host", "TLS"},
      {"host:9093", "no http://"},
      {"http://", "names no host"},
      {"http://:80", "names no host"},
      {"http://host:0", "port"},
      {"http://host:65536", "port"},
      {"http://host:9a", "port"},
      {"http://host:", "port"},
      {"http://user@host", "user"},
      {"http://::1", "brackets"},
      {"http://[::1", "']'"},
      {"http://[::1]x", "']'"},
      {"http://host/a b", "characters"},
      {"http://host/\r\nX: y", "characters"},
      {"http://host#x", "characters"},
      {"http://host?x", "query"},
  };
  for (const auto& [text, why] : bad) {
    EXPECT_THAT(ParseNotifyUrl(text),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)))
        << text;
  }
  EXPECT_THAT(ParseNotifyUrl("http://h/" + std::string(100'000, 'x')),
              StatusIs(absl::StatusCode::kInvalidArgument, _));
}

}  // namespace
}  // namespace gradtap::server
