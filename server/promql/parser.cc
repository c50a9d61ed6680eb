#include "server/promql/parser.h"

#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/match_limit.h"
#include "core/names.h"
#include "server/promql/lexer.h"

namespace gradtap::server::promql {
namespace {

constexpr std::size_t kMostBytes = std::size_t{64} << 10;
// A query that nests is a tree, which is walked by recursion: so deep at most.
constexpr int kMostLevels = 100;
constexpr int kMostOperators = 1'000;
// Each series is tried with each matcher.
constexpr int kMostMatchers = 100;
// Of all patterns together, in RE2's instructions: "a{1000}" has a thousand and
// seven bytes are enough for it. The second is what compiling one may take.
constexpr int kMostInstructions = 100'000;
constexpr std::int64_t kMostPatternBytes = std::int64_t{4} << 20;

using Node = std::unique_ptr<Expression>;

constexpr std::array<std::string_view, 8> kAggregates = {
    "avg", "bottomk", "count", "max", "min", "quantile", "sum", "topk"};
constexpr std::array<std::string_view, 6> kRangeFunctions = {
    "avg_over_time", "count_over_time", "last_over_time",
    "max_over_time", "min_over_time",   "sum_over_time"};
constexpr std::array<std::string_view, 8> kVectorFunctions = {
    "abs", "ceil", "exp", "floor", "ln", "log10", "log2", "sqrt"};

template <std::size_t kSize>
bool IsOneOf(std::string_view word,
             const std::array<std::string_view, kSize>& words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

// 0: none. Higher ones bind tighter.
int PrecedenceOf(std::string_view op) {
  if (op == "==" || op == "!=" || op == "<" || op == ">" || op == "<=" ||
      op == ">=") {
    return 1;
  }
  if (op == "+" || op == "-") return 2;
  if (op == "*" || op == "/" || op == "%") return 3;
  if (op == "^") return 5;
  return 0;
}
constexpr int kUnaryPrecedence = 4;

absl::Status Unsupported(const std::string& what) {
  return absl::UnimplementedError(absl::StrCat(
      what,
      " is not in the part of PromQL that gradtap answers "
      "(docs/prometheus.md in share/doc/gradtap); "
      "for all of it forward the series to a Prometheus with --remote-write"));
}

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<Node> All() {
    absl::StatusOr<Node> node = Binary(1);
    if (node.ok() && Peek().kind != Token::Kind::kEnd) return Unexpected();
    return node;
  }

 private:
  const Token& Peek(std::size_t ahead = 0) const {
    return tokens_[std::min(next_ + ahead, tokens_.size() - 1)];
  }
  bool IsSign(std::string_view sign) const {
    return Peek().kind == Token::Kind::kSign && Peek().text == sign;
  }
  bool TakeSign(std::string_view sign) {
    if (!IsSign(sign)) return false;
    ++next_;
    return true;
  }
  // A word of the language: those are not case-sensitive.
  bool IsWord(std::string_view word) const {
    return Peek().kind == Token::Kind::kIdentifier &&
           absl::AsciiStrToLower(Peek().text) == word;
  }

  absl::Status Unexpected() const {
    const Token& token = Peek();
    if (token.kind == Token::Kind::kEnd) {
      return absl::InvalidArgumentError("the query ends too early");
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "at character ", token.at + 1, " of the query: unexpected '",
        EscapeForTerminal(token.text), "'"));
  }
  static absl::Status TooMany(const char* what, int most) {
    return absl::InvalidArgumentError(
        absl::StrCat("the query has more than ", most, " ", what));
  }
  absl::Status Expect(std::string_view sign) {
    return TakeSign(sign) ? absl::OkStatus() : Unexpected();
  }

  absl::StatusOr<Node> Binary(int least) {
    if (++level_ > kMostLevels) {
      return absl::InvalidArgumentError("the query has too many levels");
    }
    absl::StatusOr<Node> left = Unary();
    while (left.ok()) {
      for (const char* word : {"and", "or", "unless", "atan2"}) {
        if (IsWord(word)) return Unsupported(absl::StrCat("'", word, "'"));
      }
      const std::string op =
          Peek().kind == Token::Kind::kSign ? Peek().text : "";
      const int precedence = PrecedenceOf(op);
      if (precedence < least || precedence == 0) break;
      if (++operators_ > kMostOperators) {
        return TooMany("operators", kMostOperators);
      }
      ++next_;
      left = Joined(*std::move(left), op, precedence);
    }
    --level_;
    return left;
  }

  absl::StatusOr<Node> Joined(Node left, const std::string& op,
                              int precedence) {
    auto node = std::make_unique<Expression>();
    node->kind = Expression::Kind::kBinary;
    node->name = op;
    if (IsWord("bool")) {
      if (precedence != 1) return Unexpected();
      node->returns_bool = true;
      ++next_;
    }
    for (const char* word : {"on", "ignoring", "group_left", "group_right"}) {
      if (IsWord(word)) return Unsupported(absl::StrCat("'", word, "'"));
    }
    // Only a power binds to the right.
    absl::StatusOr<Node> right =
        Binary(op == "^" ? precedence : precedence + 1);
    if (!right.ok()) return right;
    if (left->type == Type::kMatrix || (*right)->type == Type::kMatrix) {
      return absl::InvalidArgumentError(absl::StrCat(
          "'", op, "' takes no range: use a function such as avg_over_time"));
    }
    const bool vectors =
        left->type == Type::kVector && (*right)->type == Type::kVector;
    if (vectors) {
      return Unsupported(absl::StrCat("'", op, "' between two vectors"));
    }
    const bool scalars =
        left->type == Type::kScalar && (*right)->type == Type::kScalar;
    if (scalars && precedence == 1 && !node->returns_bool) {
      return absl::InvalidArgumentError(
          absl::StrCat("'", op, "' between scalars needs 'bool'"));
    }
    node->type = scalars ? Type::kScalar : Type::kVector;
    node->left = std::move(left);
    node->right = *std::move(right);
    return node;
  }

  absl::StatusOr<Node> Unary() {
    const bool minus = TakeSign("-");
    if (!minus && !TakeSign("+")) return Postfix();
    absl::StatusOr<Node> of = Binary(kUnaryPrecedence);
    if (!of.ok()) return of;
    if ((*of)->type == Type::kMatrix) {
      return absl::InvalidArgumentError("a sign takes no range");
    }
    if (!minus) return of;
    auto node = std::make_unique<Expression>();
    node->kind = Expression::Kind::kNegate;
    node->type = (*of)->type;
    node->right = *std::move(of);
    return node;
  }

  absl::StatusOr<Node> Postfix() {
    const bool in_parentheses = IsSign("(");
    absl::StatusOr<Node> node = Primary();
    if (!node.ok()) return node;
    if (TakeSign("[")) {
      if (Peek().kind != Token::Kind::kDuration) return Unexpected();
      const std::int64_t range = Peek().duration_ms;
      ++next_;
      // A name may begin with it.
      if (Peek().text.substr(0, 1) == ":") return Unsupported("a subquery");
      absl::Status status = Expect("]");
      if (!status.ok()) return status;
      if ((*node)->kind != Expression::Kind::kSelector || in_parentheses) {
        return absl::InvalidArgumentError(
            "a range such as [5m] follows a metric alone");
      }
      if (range == 0) return absl::InvalidArgumentError("a range is above 0");
      (*node)->selector.range_ms = range;
      (*node)->type = Type::kMatrix;
    }
    if (IsWord("offset")) return Unsupported("'offset'");
    if (IsSign("@")) return Unsupported("'@'");
    return node;
  }

  absl::StatusOr<Node> Primary() {
    const Token& token = Peek();
    switch (token.kind) {
      case Token::Kind::kNumber: {
        auto node = std::make_unique<Expression>();
        node->number = token.number;
        ++next_;
        return node;
      }
      case Token::Kind::kString:
        return Unsupported("a string");
      case Token::Kind::kSign: {
        if (token.text == "{") return SelectorOf("");
        absl::Status status = Expect("(");
        if (!status.ok()) return status;
        absl::StatusOr<Node> node = Binary(1);
        if (node.ok()) status = Expect(")");
        if (!status.ok()) return status;
        return node;
      }
      case Token::Kind::kIdentifier:
        return Word();
      default:
        return Unexpected();
    }
  }

  absl::StatusOr<Node> Word() {
    const std::string word = Peek().text;
    const std::string lower = absl::AsciiStrToLower(word);
    const Token& after = Peek(1);
    const bool call = after.kind == Token::Kind::kSign && after.text == "(";
    const std::string next = absl::AsciiStrToLower(after.text);
    const bool grouped = after.kind == Token::Kind::kIdentifier &&
                         (next == "by" || next == "without");
    ++next_;
    if (IsOneOf(lower, kAggregates) && (call || grouped)) {
      return Aggregate(lower);
    }
    if (call) return Call(word);
    return SelectorOf(word);
  }

  absl::StatusOr<Node> Call(const std::string& function) {
    const bool of_range = IsOneOf(function, kRangeFunctions);
    if (!of_range && !IsOneOf(function, kVectorFunctions)) {
      return Unsupported(absl::StrCat("'", EscapeForTerminal(function), "()'"));
    }
    absl::Status status = Expect("(");
    if (!status.ok()) return status;
    absl::StatusOr<Node> of = Binary(1);
    if (!of.ok()) return of;
    status = Expect(")");
    if (!status.ok()) return status;
    if ((*of)->type != (of_range ? Type::kMatrix : Type::kVector)) {
      return absl::InvalidArgumentError(absl::StrCat(
          function, of_range ? "() takes a range, such as metric[5m]"
                             : "() takes a vector, such as a metric"));
    }
    auto node = std::make_unique<Expression>();
    node->kind = Expression::Kind::kCall;
    node->type = Type::kVector;
    node->name = function;
    node->left = *std::move(of);
    return node;
  }

  absl::StatusOr<Node> Aggregate(const std::string& name) {
    auto node = std::make_unique<Expression>();
    node->kind = Expression::Kind::kAggregate;
    node->type = Type::kVector;
    node->name = name;
    absl::StatusOr<bool> grouped = Grouping(node.get());
    if (!grouped.ok()) return grouped.status();
    absl::Status status = Expect("(");
    if (!status.ok()) return status;
    const bool has_number =
        name == "topk" || name == "bottomk" || name == "quantile";
    if (has_number) {
      absl::StatusOr<Node> number = Binary(1);
      if (!number.ok()) return number;
      if ((*number)->type != Type::kScalar) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, "() takes a number first"));
      }
      node->left = *std::move(number);
      status = Expect(",");
      if (!status.ok()) return status;
    }
    absl::StatusOr<Node> of = Binary(1);
    if (!of.ok()) return of;
    status = Expect(")");
    if (!status.ok()) return status;
    if ((*of)->type != Type::kVector) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, "() takes a vector, such as a metric"));
    }
    node->right = *std::move(of);
    if (!*grouped) grouped = Grouping(node.get());  // It may follow as well.
    if (!grouped.ok()) return grouped.status();
    return node;
  }

  // by (a, b); false: there is none.
  absl::StatusOr<bool> Grouping(Expression* node) {
    if (!IsWord("by") && !IsWord("without")) return false;
    node->without = IsWord("without");
    ++next_;
    absl::Status status = Expect("(");
    if (!status.ok()) return status;
    while (!TakeSign(")")) {
      if (Peek().kind != Token::Kind::kIdentifier) return Unexpected();
      node->labels.push_back(Peek().text);
      ++next_;
      if (!TakeSign(",") && !IsSign(")")) return Unexpected();
    }
    return true;
  }

  absl::StatusOr<Node> SelectorOf(const std::string& metric) {
    auto node = std::make_unique<Expression>();
    node->kind = Expression::Kind::kSelector;
    node->type = Type::kVector;
    std::vector<Matcher>& matchers = node->selector.matchers;
    if (!metric.empty()) {
      matchers.push_back({kMetricName, Matcher::Op::kEqual, metric, nullptr});
    }
    if (TakeSign("{")) {
      while (!TakeSign("}")) {
        const absl::Status status = TakeMatcher(&matchers);
        if (!status.ok()) return status;
        if (!TakeSign(",") && !IsSign("}")) return Unexpected();
      }
    }
    const bool selects = std::any_of(
        matchers.begin(), matchers.end(),
        [](const Matcher& matcher) { return !matcher.Matches(""); });
    if (!selects) {
      return absl::InvalidArgumentError(
          "a selector needs a matcher that the empty string does not pass");
    }
    return node;
  }

  absl::Status TakeMatcher(std::vector<Matcher>* matchers) {
    if (Peek().kind != Token::Kind::kIdentifier) return Unexpected();
    if (++matchers_ > kMostMatchers) return TooMany("matchers", kMostMatchers);
    Matcher matcher;
    matcher.label = Peek().text;
    ++next_;
    if (TakeSign("=")) {
      matcher.op = Matcher::Op::kEqual;
    } else if (TakeSign("!=")) {
      matcher.op = Matcher::Op::kNotEqual;
    } else if (TakeSign("=~")) {
      matcher.op = Matcher::Op::kMatches;
    } else if (TakeSign("!~")) {
      matcher.op = Matcher::Op::kDoesNotMatch;
    } else {
      return Unexpected();
    }
    if (Peek().kind != Token::Kind::kString) return Unexpected();
    matcher.value = Peek().text;
    ++next_;
    if (matcher.op == Matcher::Op::kMatches ||
        matcher.op == Matcher::Op::kDoesNotMatch) {
      const absl::Status status = Compile(&matcher);
      if (!status.ok()) return status;
    }
    matchers->push_back(std::move(matcher));
    return absl::OkStatus();
  }

  absl::Status Compile(Matcher* matcher) {
    re2::RE2::Options options(re2::RE2::Quiet);
    options.set_max_mem(kMostPatternBytes);
    auto pattern = std::make_shared<re2::RE2>(
        absl::StrCat("^(?:", matcher->value, ")$"), options);
    if (!pattern->ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("bad pattern '", EscapeForTerminal(matcher->value),
                       "': ", pattern->error()));
    }
    instructions_ += pattern->ProgramSize();
    if (instructions_ > kMostInstructions) {
      return absl::InvalidArgumentError(
          "the query's patterns are too large together: shorter ones, or "
          "smaller numbers in {}");
    }
    matcher->pattern = std::move(pattern);
    return absl::OkStatus();
  }

  const std::vector<Token> tokens_;
  std::size_t next_ = 0;
  int level_ = 0;
  // So far.
  int operators_ = 0;
  int matchers_ = 0;
  int instructions_ = 0;
};

}  // namespace

bool Matcher::Matches(std::string_view value_of_label) const {
  switch (op) {
    case Op::kEqual:
      return value_of_label == value;
    case Op::kNotEqual:
      return value_of_label != value;
    case Op::kMatches:
    case Op::kDoesNotMatch:
      break;
  }
  return MatchPattern(*pattern, value_of_label, /*whole=*/true) ==
         (op == Op::kMatches);
}

bool MatchesAll(const std::vector<Matcher>& matchers, const Labels& labels) {
  return std::all_of(
      matchers.begin(), matchers.end(), [&labels](const Matcher& matcher) {
        const auto it = labels.find(matcher.label);
        return matcher.Matches(it == labels.end() ? "" : it->second);
      });
}

bool MatchesAll(const std::vector<Matcher>& matchers, std::string_view label,
                std::string_view value) {
  return std::all_of(matchers.begin(), matchers.end(),
                     [&](const Matcher& matcher) {
                       return matcher.label != label || matcher.Matches(value);
                     });
}

absl::StatusOr<std::unique_ptr<Expression>> Parse(std::string_view text) {
  if (text.size() > kMostBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the query has ", text.size(), " bytes; at most ",
                     kMostBytes, " are read"));
  }
  auto tokens = Tokens(text);
  if (!tokens.ok()) return tokens.status();
  return Parser(*std::move(tokens)).All();
}

absl::StatusOr<std::vector<Matcher>> ParseMatchers(std::string_view text) {
  auto parsed = Parse(text);
  if (!parsed.ok()) return parsed.status();
  if ((*parsed)->kind != Expression::Kind::kSelector ||
      (*parsed)->type != Type::kVector) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", EscapeForTerminal(std::string(text.substr(0, 200))),
                     "' is no selector such as metric{label=\"value\"}"));
  }
  return std::move((*parsed)->selector.matchers);
}

}  // namespace gradtap::server::promql
