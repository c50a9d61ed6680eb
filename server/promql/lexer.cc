#include "server/promql/lexer.h"

#include <array>
#include <charconv>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server::promql {
namespace {

constexpr std::int64_t kSecond = 1000;
constexpr std::int64_t kDay = 86'400 * kSecond;

struct Unit {
  std::string_view name;
  std::int64_t ms;
};
// From the largest to the smallest, as they have to follow each other.
constexpr std::array<Unit, 7> kUnits = {{{"y", 365 * kDay},
                                         {"w", 7 * kDay},
                                         {"d", kDay},
                                         {"h", 3600 * kSecond},
                                         {"m", 60 * kSecond},
                                         {"s", kSecond},
                                         {"ms", 1}}};

bool IsIdentifierStart(char c) {
  return absl::ascii_isalpha(c) || c == '_' || c == ':';
}
bool IsIdentifier(char c) {
  return IsIdentifierStart(c) || absl::ascii_isdigit(c);
}

absl::Status WrongAt(std::size_t at, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("at character ", at + 1, " of the query: ", what));
}

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  absl::StatusOr<std::vector<Token>> Run() {
    for (;;) {
      SkipSpace();
      Token token;
      token.at = at_;
      if (at_ == text_.size()) {
        tokens_.push_back(token);
        return std::move(tokens_);
      }
      const absl::Status status = Next(&token);
      if (!status.ok()) return status;
      tokens_.push_back(std::move(token));
    }
  }

 private:
  char Peek(std::size_t ahead = 0) const {
    return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0';
  }

  void SkipSpace() {
    while (at_ < text_.size()) {
      if (absl::ascii_isspace(text_[at_])) {
        ++at_;
      } else if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      } else {
        return;
      }
    }
  }

  absl::Status Next(Token* token) {
    const char c = Peek();
    if (c == '"' || c == '\'' || c == '`') return TakeString(token);
    if (absl::ascii_isdigit(c) || (c == '.' && absl::ascii_isdigit(Peek(1)))) {
      return TakeNumber(token);
    }
    if (IsIdentifierStart(c)) {
      token->kind = Token::Kind::kIdentifier;
      while (IsIdentifier(Peek())) token->text += text_[at_++];
      // The only numbers that are words.
      double value = 0;
      if (absl::EqualsIgnoreCase(token->text, "inf") ||
          absl::EqualsIgnoreCase(token->text, "nan")) {
        if (absl::SimpleAtod(token->text, &value)) {
          token->kind = Token::Kind::kNumber;
          token->number = value;
        }
      }
      return absl::OkStatus();
    }
    return TakeSign(token);
  }

  absl::Status TakeSign(Token* token) {
    static constexpr std::string_view kTwo[] = {"==", "!=", "=~",
                                                "!~", ">=", "<="};
    token->kind = Token::Kind::kSign;
    for (const std::string_view sign : kTwo) {
      if (text_.substr(at_, 2) == sign) {
        token->text = std::string(sign);
        at_ += 2;
        return absl::OkStatus();
      }
    }
    static constexpr std::string_view kOne = "(){}[],+-*/%^=<>:@";
    if (kOne.find(Peek()) == std::string_view::npos) {
      return WrongAt(
          at_, absl::StrCat(
                   "unexpected '",
                   EscapeForTerminal(std::string(text_.substr(at_, 1))), "'"));
    }
    token->text = std::string(1, text_[at_++]);
    return absl::OkStatus();
  }

  // A number, or a duration if a unit follows it.
  absl::Status TakeNumber(Token* token) {
    const std::size_t begin = at_;
    std::size_t end = at_;
    while (end < text_.size() && absl::ascii_isalnum(text_[end])) ++end;
    const std::string word(text_.substr(begin, end - begin));
    if (const auto duration = ParseDuration(word); duration.ok()) {
      token->kind = Token::Kind::kDuration;
      token->duration_ms = *duration;
      token->text = word;
      at_ = end;
      return absl::OkStatus();
    }
    token->kind = Token::Kind::kNumber;
    const char* const from = text_.data() + begin;
    const char* const to = text_.data() + text_.size();
    std::from_chars_result read{};
    if (absl::StartsWithIgnoreCase(word, "0x")) {
      std::uint64_t value = 0;
      read = std::from_chars(from + 2, to, value, 16);
      token->number = static_cast<double>(value);
    } else {
      read = std::from_chars(from, to, token->number);
      // Too large for a double, or too small.
      if (read.ec == std::errc::result_out_of_range &&
          !absl::SimpleAtod(std::string(from, read.ptr), &token->number)) {
        read.ec = std::errc::invalid_argument;
      } else if (read.ec == std::errc::result_out_of_range) {
        read.ec = std::errc();
      }
    }
    const auto used = static_cast<std::size_t>(read.ptr - from);
    if (read.ec != std::errc() ||
        (begin + used < text_.size() && IsIdentifier(text_[begin + used]))) {
      return WrongAt(begin,
                     absl::StrCat("bad number or duration '", word, "'"));
    }
    at_ = begin + used;
    token->text = std::string(text_.substr(begin, used));
    return absl::OkStatus();
  }

  absl::Status TakeString(Token* token) {
    const std::size_t begin = at_;
    const char quote = text_[at_++];
    token->kind = Token::Kind::kString;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (text_[at_] == '\\' && quote != '`') {
        const absl::Status status = TakeEscape(&token->text);
        if (!status.ok()) return status;
      } else {
        token->text += text_[at_++];
      }
    }
    if (at_ == text_.size()) return WrongAt(begin, "a string does not end");
    ++at_;
    return absl::OkStatus();
  }

  // As in Go; without the forms for code points.
  absl::Status TakeEscape(std::string* out) {
    static constexpr std::string_view kNames = "abfnrtv\\\"'";
    static constexpr std::string_view kValues = "\a\b\f\n\r\t\v\\\"'";
    const std::size_t begin = at_++;
    const std::size_t known = kNames.find(Peek());
    if (at_ < text_.size() && known != std::string_view::npos) {
      *out += kValues[known];
      ++at_;
      return absl::OkStatus();
    }
    if (Peek() == 'x' && absl::ascii_isxdigit(Peek(1)) &&
        absl::ascii_isxdigit(Peek(2))) {
      unsigned value = 0;
      std::from_chars(text_.data() + at_ + 1, text_.data() + at_ + 3, value,
                      16);
      *out += static_cast<char>(value);
      at_ += 3;
      return absl::OkStatus();
    }
    return WrongAt(begin, "an escape that is not known in a string");
  }

  const std::string_view text_;
  std::size_t at_ = 0;
  std::vector<Token> tokens_;
};

}  // namespace

absl::StatusOr<std::int64_t> ParseDuration(std::string_view text) {
  const auto bad = [text] {
    return absl::InvalidArgumentError(
        absl::StrCat("bad duration '", EscapeForTerminal(std::string(text)),
                     "': such as 30s, 5m or 1h30m"));
  };
  std::int64_t total = 0;
  std::size_t next_unit = 0;
  std::size_t at = 0;
  if (text.empty()) return bad();
  while (at < text.size()) {
    std::int64_t count = 0;
    const auto read =
        std::from_chars(text.data() + at, text.data() + text.size(), count);
    if (read.ec != std::errc() || text[at] == '-') return bad();
    at = static_cast<std::size_t>(read.ptr - text.data());
    std::size_t end = at;
    while (end < text.size() && absl::ascii_isalpha(text[end])) ++end;
    const std::string_view name = text.substr(at, end - at);
    std::size_t unit = next_unit;
    while (unit < kUnits.size() && kUnits[unit].name != name) ++unit;
    if (unit == kUnits.size() ||
        count > (std::numeric_limits<std::int64_t>::max() / 4 - total) /
                    kUnits[unit].ms) {
      return bad();
    }
    total += count * kUnits[unit].ms;
    next_unit = unit + 1;
    at = end;
  }
  return total;
}

absl::StatusOr<std::vector<Token>> Tokens(std::string_view text) {
  return Lexer(text).Run();
}

}  // namespace gradtap::server::promql
