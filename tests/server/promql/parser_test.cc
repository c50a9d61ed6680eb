#include "server/promql/parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "server/promql/lexer.h"
#include "support/status_matchers.h"

namespace gradtap::server::promql {
namespace {

using ::testing::HasSubstr;

// The tree as text, so that precedence shows.
std::string TextOf(const Expression& e) {
  switch (e.kind) {
    case Expression::Kind::kNumber: {
      const std::string text = std::to_string(e.number);
      return text.substr(0, text.find('.'));
    }
    case Expression::Kind::kSelector: {
      std::string text = "{";
      for (const Matcher& matcher : e.selector.matchers) {
        static constexpr const char* kOps[] = {"=", "!=", "=~", "!~"};
        text += matcher.label + kOps[static_cast<int>(matcher.op)] +
                matcher.value + ";";
      }
      text += "}";
      if (e.selector.range_ms > 0) {
        text += "[" + std::to_string(e.selector.range_ms) + "]";
      }
      return text;
    }
    case Expression::Kind::kCall:
      return e.name + "(" + TextOf(*e.left) + ")";
    case Expression::Kind::kAggregate: {
      std::string text = e.name + (e.without ? " without" : " by") + "(";
      for (const std::string& label : e.labels) text += label + ";";
      text += ")(";
      if (e.left != nullptr) text += TextOf(*e.left) + ",";
      return text + TextOf(*e.right) + ")";
    }
    case Expression::Kind::kBinary:
      return "(" + TextOf(*e.left) + e.name + (e.returns_bool ? "bool" : "") +
             TextOf(*e.right) + ")";
    case Expression::Kind::kNegate:
      return "-" + TextOf(*e.right);
  }
  return "?";
}

std::string Parsed(const std::string& text) {
  const auto parsed = Parse(text);
  return parsed.ok() ? TextOf(**parsed)
                     : std::string(parsed.status().message());
}

TEST(PromqlParserTest, OperatorsBindAsPrometheusHasThem) {
  EXPECT_EQ(Parsed("1 + 2 * 3"), "(1+(2*3))");
  EXPECT_EQ(Parsed("1 - 2 - 3"), "((1-2)-3)");
  EXPECT_EQ(Parsed("2 ^ 3 ^ 2"), "(2^(3^2))");
  EXPECT_EQ(Parsed("-2 ^ 2"), "-(2^2)");
  EXPECT_EQ(Parsed("-2 * 3"), "(-2*3)");
  EXPECT_EQ(Parsed("2 ^ -1"), "(2^-1)");
  EXPECT_EQ(Parsed("(1 + 2) * 3 % 4"), "(((1+2)*3)%4)");
  EXPECT_EQ(Parsed("a + 1 > bool 2"), "(({__name__=a;}+1)>bool2)");
  EXPECT_EQ(Parsed("+a"), "{__name__=a;}");
}

TEST(PromqlParserTest, SelectorsTakeAllMatchersAndStrings) {
  EXPECT_EQ(Parsed("up"), "{__name__=up;}");
  EXPECT_EQ(Parsed("a:b{run=\"x\", rank!='1', param=~`en.*\\d`, name!~\"q\",}"),
            "{__name__=a:b;run=x;rank!=1;param=~en.*\\d;name!~q;}");
  EXPECT_EQ(Parsed("{__name__=~\"grad.+\"}[1h30m]"),
            "{__name__=~grad.+;}[5400000]");
  EXPECT_EQ(Parsed("a{b=\"\\\"\\n\\x41\\\\\"}"), "{__name__=a;b=\"\nA\\;}");
  EXPECT_EQ(Parsed("sum{a=\"b\"}"), "{__name__=sum;a=b;}");
  EXPECT_EQ(Parsed("by"), "{__name__=by;}");
}

TEST(PromqlParserTest, AggregationsHaveTheirLabelsBeforeOrAfter) {
  EXPECT_EQ(Parsed("sum(a)"), "sum by()({__name__=a;})");
  EXPECT_EQ(Parsed("SUM BY (run, rank) (a)"),
            "sum by(run;rank;)({__name__=a;})");
  EXPECT_EQ(Parsed("max(a) without (param,)"),
            "max without(param;)({__name__=a;})");
  EXPECT_EQ(Parsed("topk(2 + 1, a)"), "topk by()((2+1),{__name__=a;})");
  EXPECT_EQ(Parsed("quantile(0, a) by (run)"),
            "quantile by(run;)(0,{__name__=a;})");
  EXPECT_EQ(Parsed("max_over_time(a[30s]) # and so on"),
            "max_over_time({__name__=a;}[30000])");
}

TEST(PromqlParserTest, NumbersAreReadAsGoReadsThem) {
  const auto number = [](const std::string& text) {
    const auto parsed = Parse(text);
    return parsed.ok() ? (*parsed)->number : -7;
  };
  EXPECT_EQ(number("1e3"), 1000);
  EXPECT_EQ(number(".5"), 0.5);
  EXPECT_EQ(number("0x1F"), 31);
  EXPECT_EQ(number("1e999"), INFINITY);
  EXPECT_EQ(number("1e-999"), 0);
  EXPECT_EQ(number("Inf"), INFINITY);
  EXPECT_TRUE(std::isnan(number("nan")));
}

TEST(PromqlParserTest, WhatIsWrongSaysWhere) {
  for (const auto& [text, error] :
       std::initializer_list<std::pair<const char*, const char*>>{
           {"", "ends too early"},
           {"1 +", "ends too early"},
           {"sum(", "ends too early"},
           {"a{b=}", "character 5"},
           {"a{b=\"c}", "does not end"},
           {"a b", "unexpected 'b'"},
           {"a{b=~\"(\"}", "bad pattern '('"},
           {"{}", "needs a matcher"},
           {"{a=~\".*\"}", "needs a matcher"},
           {"12abc", "bad number or duration '12abc'"},
           {"5m", "unexpected '5m'"},
           {"a[5]", "unexpected '5'"},
           {"a[0s]", "above 0"},
           {"(a)[5m]", "follows a metric"},
           {"a[5m][5m]", "unexpected '['"},
           {"a[5m] + 1", "takes no range"},
           {"max_over_time(a)", "takes a range"},
           {"abs(a[5m])", "takes a vector"},
           {"sum(1)", "takes a vector"},
           {"topk(a, a)", "takes a number first"},
           {"1 > 2", "needs 'bool'"},
           {"a $ b", "unexpected '$'"},
           {"a{b=\"\\q\"}", "escape"}}) {
    const auto parsed = Parse(text);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument)
        << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(error))
        << text;
  }
}

TEST(PromqlParserTest, WhatIsMoreThanWeAnswerIsNamed) {
  for (const auto& [text, what] :
       std::initializer_list<std::pair<const char*, const char*>>{
           {"rate(a[5m])", "'rate()'"},
           {"histogram_quantile(0.9, a)", "'histogram_quantile()'"},
           {"a / b", "'/' between two vectors"},
           {"a and b", "'and'"},
           {"a or b", "'or'"},
           {"a unless b", "'unless'"},
           {"a * on (run) b", "'on'"},
           {"a offset 5m", "'offset'"},
           {"a @ 5", "'@'"},
           {"a[5m:1m]", "a subquery"},
           {"\"text\"", "a string"}}) {
    const auto parsed = Parse(text);
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kUnimplemented) << text;
    EXPECT_THAT(std::string(parsed.status().message()), HasSubstr(what));
    EXPECT_THAT(std::string(parsed.status().message()),
                HasSubstr("--remote-write"));
  }
}

TEST(PromqlParserTest, DepthAndLengthAreBounded) {
  EXPECT_EQ(Parse(std::string(70'000, '(')).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Parse(std::string(1'000, '(') + "1").status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Parse(std::string(60'000, '-') + "1").status().code(),
            absl::StatusCode::kInvalidArgument);
  GRADTAP_EXPECT_OK(Parse(std::string(50, '(') + "1" + std::string(50, ')')));
  // A sum is a tree that leans to the left: 65,535 bytes of "1+1" were walked
  // by a recursion of 32,768, which no stack holds.
  std::string sum = "1";
  for (int i = 0; i < 1'000; ++i) sum += "+1";
  GRADTAP_EXPECT_OK(Parse(sum));
  EXPECT_THAT(Parsed(sum + "+1"), HasSubstr("more than 1000 operators"));
}

TEST(PromqlParserTest, WhatPatternsTakeIsBounded) {
  const auto selector = [](int count, const std::string& matcher) {
    std::string text = "{run=\"a\"";
    for (int i = 1; i < count; ++i) text += "," + matcher;
    return text + "}";
  };
  // Eight thousand instructions in thirteen bytes. A query of 64 KiB has room
  // for 3,823 of them, which took 6 s and 940 MiB.
  const std::string large = "a=~\".{999}\"";
  GRADTAP_EXPECT_OK(Parse(selector(5, large)));
  EXPECT_THAT(Parsed(selector(99, large)), HasSubstr("too large together"));
  EXPECT_THAT(Parsed(selector(2, "a=~\"(.{999}){999}\"")),
              HasSubstr("bad pattern"));
  GRADTAP_EXPECT_OK(Parse(selector(100, "a!~\"b|c\"")));
  EXPECT_THAT(Parsed(selector(101, "a!~\"b|c\"")),
              HasSubstr("more than 100 matchers"));
  EXPECT_THAT(Parsed(selector(101, "a!=\"b\"")),
              HasSubstr("more than 100 matchers"));
  // What a variable of Grafana's with many values becomes.
  std::string names;
  for (int i = 0; i < 3'000; ++i) names += "|block." + std::to_string(i);
  GRADTAP_EXPECT_OK(Parse("x{param=~\"" + names + "\"}"));
}

TEST(PromqlParserTest, DurationsHaveTheirUnitsInOrder) {
  EXPECT_EQ(*ParseDuration("1y2w3d4h5m6s7ms"),
            ((((365 + 14 + 3) * 24 + 4) * 60 + 5) * 60 + 6) * 1000LL + 7);
  for (const char* bad : {"", "5", "m", "5m1h", "-5m", "5x", "5mm",
                          "99999999999999999999s", "9223372036854775807y"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace gradtap::server::promql
