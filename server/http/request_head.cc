#include "server/http/request_head.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kLineEnd = "\r\n";

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
  if (++lines_ == 1) return State::kMore;
  if (line == kLineEnd) return State::kWhole;
  if (lines_ > kMostHeaders + 1) {
    return Refuse(431, absl::StrCat("the request has more than ", kMostHeaders,
                                    " headers"));
  }
  return State::kMore;
}

RequestHead::State RequestHead::Refuse(int status, std::string message) {
  status_ = status;
  message_ = std::move(message);
  return State::kRefused;
}

}  // namespace gradtap::server
