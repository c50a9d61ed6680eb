// The text of an answer while it is written: in pieces, each of which asks for
// its room (../limits/answer_room.h).
//
// Layer: server/http. This file: std, absl, limits; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_ANSWER_TEXT_H_
#define GRADTAP_SERVER_HTTP_ANSWER_TEXT_H_

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/http/http_api.h"
#include "server/limits/answer_room.h"

namespace gradtap::server {

// Texts of up to that are compressed, if the client likes; larger ones take
// longer to compress than to send, and leave piece by piece.
inline constexpr std::size_t kMostCompressed = std::size_t{8} << 20;
// A piece of a large text; a text of one piece asks for no room.
inline constexpr std::size_t kAnswerPiece = kSmallAnswer;

// By one thread.
class AnswerText {
 public:
  // Of an answer that has `held`.
  explicit AnswerText(HttpAnswer* answer) : answer_(answer) {}

  // False: there is no room for it.
  bool Add(std::string_view text);
  // The text becomes the answer's; or what Add() met.
  absl::Status Finish();

 private:
  HttpAnswer* const answer_;
  std::deque<std::string> pieces_ = {""};
  std::size_t bytes_ = 0;
  absl::Status status_;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_ANSWER_TEXT_H_
