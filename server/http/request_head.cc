#include "server/http/request_head.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
// What a Content-Length needs of its digits.
constexpr std::size_t kMostDigits = 18;

std::string Shown(std::string_view line) {
  return absl::StrCat("'", EscapeForTerminal(line.substr(0, 100)), "'");
}

bool IsControl(char c) {
  return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
}

// A character that a header's name may have.
bool IsOfName(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

bool IsNumber(std::string_view text) {
  return !text.empty() && text.size() <= kMostDigits &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return '0' <= c && c <= '9'; });
}

}  // namespace

RequestHead::State RequestHead::Add(std::string_view bytes) {
  text_ += bytes;
  for (;;) {
    const std::size_t end = text_.find('\n', line_begin_);
    const std::size_t line_end =
        end == std::string::npos ? text_.size() : end + 1;
    if (line_end - line_begin_ > kMostLineBytes) {
      if (lines_ == 0) {
        return Refuse(414,
                      absl::StrCat("the URL is longer than ", kMostLineBytes,
                                   " bytes: POST the request"));
      }
      return Refuse(431, absl::StrCat("a header is longer than ",
                                      kMostLineBytes, " bytes"));
    }
    if (line_end > kMostBytes) {
      return Refuse(431, absl::StrCat("the head of the request is longer than ",
                                      kMostBytes, " bytes"));
    }
    if (end == std::string::npos) return State::kMore;
    const State state = AddLine(
        std::string_view(text_).substr(line_begin_, line_end - line_begin_));
    if (state != State::kMore) return state;
    line_begin_ = line_end;
  }
}

RequestHead::State RequestHead::AddLine(std::string_view line) {
  if (!line.ends_with(kLineEnd)) {
    return Refuse(400, absl::StrCat("a line of the head does not end with "
                                    "CR LF: ",
                                    Shown(line)));
  }
  line.remove_suffix(kLineEnd.size());
  ++lines_;
  if (lines_ > 1 && line.empty()) return State::kWhole;
  if (lines_ > kMostHeaders + 1) {
    return Refuse(431, absl::StrCat("the request has more than ", kMostHeaders,
                                    " headers"));
  }
  if (std::any_of(line.begin(), line.end(), IsControl)) {
    return Refuse(400,
                  absl::StrCat("a line of the head has a control character: ",
                               Shown(line)));
  }
  return lines_ == 1 ? State::kMore : CheckHeader(line);
}

RequestHead::State RequestHead::CheckHeader(std::string_view line) {
  if (line.front() == ' ' || line.front() == '\t') {
    return Refuse(400,
                  absl::StrCat("a header goes on in a second line, which is "
                               "not read: ",
                               Shown(line)));
  }
  const std::size_t colon = line.find(':');
  const std::string_view name = line.substr(0, colon);
  if (colon == std::string_view::npos || name.empty() ||
      !std::all_of(name.begin(), name.end(), IsOfName)) {
    return Refuse(400, absl::StrCat("a header is NAME: VALUE, which this is "
                                    "not: ",
                                    Shown(line)));
  }
  return absl::EqualsIgnoreCase(std::string(name), "Content-Length")
             ? CheckLength(Trim(line.substr(colon + 1)))
             : State::kMore;
}

RequestHead::State RequestHead::CheckLength(std::string_view value) {
  if (std::exchange(has_length_, true)) {
    return Refuse(400, "the request has several Content-Length headers");
  }
  if (!IsNumber(value)) {
    return Refuse(400, absl::StrCat("Content-Length is a number, and not ",
                                    Shown(value)));
  }
  return State::kMore;
}

RequestHead::State RequestHead::Refuse(int status, std::string message) {
  status_ = status;
  message_ = std::move(message);
  return State::kRefused;
}

}  // namespace gradtap::server
