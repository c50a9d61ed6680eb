// A PromQL expression, parsed.
//
// Layer: server/promql. This file: std, RE2.

#ifndef GRADTAP_SERVER_PROMQL_EXPRESSION_H_
#define GRADTAP_SERVER_PROMQL_EXPRESSION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}  // namespace re2

namespace gradtap::server::promql {

// By name, "__name__" among them. One with an empty value is not there.
using Labels = std::map<std::string, std::string>;
inline constexpr char kMetricName[] = "__name__";

struct Matcher {
  enum class Op : std::uint8_t { kEqual, kNotEqual, kMatches, kDoesNotMatch };
  std::string label;
  Op op = Op::kEqual;
  std::string value;
  std::shared_ptr<const re2::RE2> pattern;  // Of the last two; anchored.

  // A label that is not there is the empty string.
  bool Matches(std::string_view value_of_label) const;
};

bool MatchesAll(const std::vector<Matcher>& matchers, const Labels& labels);
// Those of one label.
bool MatchesAll(const std::vector<Matcher>& matchers, std::string_view label,
                std::string_view value);

struct Selector {
  std::vector<Matcher> matchers;
  std::int64_t range_ms = 0;  // 0: an instant vector.
};

enum class Type : std::uint8_t { kScalar, kVector, kMatrix };

struct Expression {
  enum class Kind : std::uint8_t {
    kNumber,
    kSelector,
    kCall,       // name(left)
    kAggregate,  // name by|without (labels) (left, right)
    kBinary,     // left name right
    kNegate,     // -right
  };
  Kind kind = Kind::kNumber;
  Type type = Type::kScalar;
  double number = 0;
  Selector selector;
  std::string name;
  bool returns_bool = false;        // Of a comparison.
  bool without = false;             // Else by.
  std::vector<std::string> labels;  // Of the aggregation.
  // Of topk, bottomk and quantile `left` is their number.
  std::unique_ptr<Expression> left, right;
};

}  // namespace gradtap::server::promql

#endif  // GRADTAP_SERVER_PROMQL_EXPRESSION_H_
