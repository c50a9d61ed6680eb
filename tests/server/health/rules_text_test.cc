#include "proto/text/rules_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/status_matchers.h"

namespace gradtap {
namespace {

using ::gradtap::testing::IsOk;
using ::gradtap::testing::StatusIs;
using ::testing::AllOf;
using ::testing::HasSubstr;

auto Refused(const std::string& what) {
  return StatusIs(absl::StatusCode::kInvalidArgument,
                  AllOf(HasSubstr("my.rules"), HasSubstr(what)));
}

TEST(RulesTextTest, AnEmptyFileIsTheDefaults) {
  const auto rules = ParseRules("", "my.rules");
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(PrintRules(*rules), PrintRules(DefaultRules()));
  EXPECT_EQ(rules->nonfinite().severity(), v1::ALERT_SEVERITY_CRITICAL);
  EXPECT_EQ(rules->loss_spike().scalar(), "loss");
}

TEST(RulesTextTest, WhatAFileSaysStandsAndTheRestKeepsItsDefault) {
  const auto rules = ParseRules(
      "# ours\nexploding { factor: 50 severity: ALERT_SEVERITY_CRITICAL }\n"
      "dead { disabled: true }",
      "my.rules");
  ASSERT_THAT(rules, IsOk());
  EXPECT_EQ(rules->exploding().factor(), 50);
  EXPECT_EQ(rules->exploding().steps(), DefaultRules().exploding().steps());
  EXPECT_EQ(rules->vanishing().factor(), DefaultRules().vanishing().factor());
  EXPECT_TRUE(rules->dead().disabled());
}

TEST(RulesTextTest, WhatIsPrintedReadsBack) {
  const auto again = ParseRules(PrintRules(DefaultRules()), "my.rules");
  ASSERT_THAT(again, IsOk());
  EXPECT_EQ(PrintRules(*again), PrintRules(DefaultRules()));
}

TEST(RulesTextTest, AnErrorHasItsLineAndColumn) {
  EXPECT_THAT(
      ParseRules("dead { steps: 5 }\nexplodin { factor: 2 }", "my.rules"),
      Refused("my.rules:2:"));
  EXPECT_THAT(ParseRules("dead { steps: -5 }", "my.rules"),
              Refused("my.rules:1:"));
  EXPECT_THAT(ParseRules("dead { steps: 5", "my.rules"),
              Refused("my.rules:1:"));
  EXPECT_THAT(ParseRules(std::string("dead\0{}", 7), "my.rules"),
              Refused("my.rules:1:"));
  EXPECT_THAT(ParseRules("warm_up_steps: 5 warm_up_steps: 6", "my.rules"),
              Refused("my.rules:1:"));
}

TEST(RulesTextTest, AValueThatMakesNoSenseIsNamedWithItsField) {
  const char* const bad[][2] = {
      {"exploding { factor: 1 }", "exploding.factor: 1"},
      {"exploding { factor: nan }", "exploding.factor: nan"},
      {"vanishing { factor: inf }", "vanishing.factor: inf"},
      {"vanishing { steps: 0 }", "vanishing.steps: 0"},
      {"dead { steps: 2000000 }", "dead.steps: 2000000"},
      {"dead { except: '(' }", "dead.except"},
      {"update_ratio { min: 0.5 max: 0.1 }", "update_ratio.max: 0.1"},
      {"update_ratio { min: -1 }", "update_ratio.min: -1"},
      {"loss_spike { scalar: '' }", "loss_spike.scalar"},
      {"loss_spike { scalar: '\\xff' }", "loss_spike.scalar"},
      {"loss_spike { share: -0.5 }", "loss_spike.share: -0.5"},
      {"stalled { seconds: 0 }", "stalled.seconds: 0"},
      {"lost_rank { seconds: -3 }", "lost_rank.seconds: -3"},
      {"level_rate: 0", "level_rate: 0"},
      {"level_rate: 1", "level_rate: 1"},
      {"warm_up_steps: 1", "warm_up_steps: 1"},
      {"runs: '['", "runs"},
      {"nonfinite { severity: ALERT_SEVERITY_UNSPECIFIED }",
       "nonfinite.severity"},
      {"nonfinite { severity: 7 }", "nonfinite.severity: 7"},
  };
  for (const auto& [text, said] : bad) {
    EXPECT_THAT(ParseRules(text, "my.rules"), Refused(said)) << text;
  }
}

TEST(RulesTextTest, AHugeFileIsRefusedUnread) {
  EXPECT_THAT(ParseRules(std::string(kMaxRulesBytes + 1, '#'), "my.rules"),
              Refused("bytes"));
}

TEST(RulesTextTest, AHostileFileNameIsEscaped) {
  const auto refused = ParseRules("x", "my.rules\x1b[31m\n");
  EXPECT_THAT(refused, Refused("\\x1b"));
  EXPECT_EQ(refused.status().message().find('\n'), absl::string_view::npos);
}

TEST(RulesTextTest, EachRuleHasItsName) {
  for (int i = 1; i <= 8; ++i) {
    const auto rule = static_cast<v1::HealthRule>(i);
    EXPECT_FALSE(RuleName(rule).empty());
    EXPECT_EQ(RuleNamed(RuleName(rule)), rule);
  }
  EXPECT_EQ(RuleNamed("none"), v1::HEALTH_RULE_UNSPECIFIED);
  EXPECT_EQ(RuleName(static_cast<v1::HealthRule>(99)), "");
}

}  // namespace
}  // namespace gradtap
