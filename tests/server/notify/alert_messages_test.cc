#include "server/notify/alert_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "server/notify/notify_url.h"
#include "support/status_matchers.h"

namespace gradtap::server {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::StatusIs;
using ::testing::_;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

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

// The first of two elements, without line ends.
std::string Squeezed(std::string list) {
  std::erase(list, '\n');
  EXPECT_EQ(list.back(), ']');
  return list.substr(0, list.find("},{\"labels\"") + 1);
}

TEST(AlertMessagesTest, AlertmanagerGetsThreeLabelsAndTheRestAsAnnotations) {
  const auto body =
      ToAlertmanager({MakeAlert(true), MakeAlert(false)},
                     1'700'000'300'000'000'000, "http://127.0.0.1:7318");
  ASSERT_THAT(body, IsOk());
  EXPECT_EQ(Squeezed(*body),
            "[{\"labels\":{\"alertname\":\"GradtapLostRank\",\"run\":\"gpt\","
            "\"severity\":\"critical\"},\"annotations\":{\"summary\":\"what\","
            "\"attempt\":\"2\",\"first_step\":\"812\",\"first_time\":\"\","
            "\"rank\":\"3\",\"ranks\":\"3, 5 and 7 more\",\"offenders\":\"15\","
            "\"worst\":\"grad \\u003cb\\u003e\\\"conv\\\"\\\\x1b[0m rank "
            "3\",\"link\":\"http://127.0.0.1:7318/?run=gpt\"},\"startsAt\":"
            "\"2023-11-14T22:13:20.000000000Z\",\"endsAt\":"
            "\"2023-11-14T22:18:20.000000000Z\",\"generatorURL\":"
            "\"http://127.0.0.1:7318/?run=gpt\"}");
  EXPECT_THAT(*body, Not(HasSubstr("\x1b")));
}

TEST(AlertMessagesTest, AWebhookGetsTheAlertAsListAlertsHasIt) {
  for (const bool active : {true, false}) {
    const auto body = ToWebhook(MakeAlert(active), "https://tap.example.org");
    ASSERT_THAT(body, IsOk());
    EXPECT_THAT(
        *body,
        AllOf(StartsWith(absl::StrCat("{\"version\":1,\"status\":\"",
                                      active ? "firing" : "resolved",
                                      "\",\"url\":\"https://tap.example.org/"
                                      "?run=gpt\",\"alert\":{")),
              HasSubstr("\"run\":\"gpt\""), HasSubstr("\"firstStep\":\"812\""),
              HasSubstr("\"rule\":\"HEALTH_RULE_LOST_RANK\"")));
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
