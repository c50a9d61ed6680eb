#include "server/http/put_answer.h"

#include <httplib.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "server/http/answer_text.h"
#include "server/http/http_connection.h"

namespace gradtap::server {
namespace {

// A large answer of a door that does not count them.
absl::Status Count(const HttpConnection& connection, HttpAnswer* answer) {
  if (answer->held != nullptr || answer->body.size() <= kSmallAnswer) {
    return absl::OkStatus();
  }
  answer->held = std::make_shared<HeldAnswer>(connection.guards().answers,
                                              connection.client());
  return answer->held->Grow(answer->body.size());
}

// Piece by piece, each of which is given up when it has been sent.
void PutPieces(HttpAnswer answer, httplib::Response* response) {
  std::size_t bytes = 0;
  for (const std::string& piece : answer.pieces) bytes += piece.size();
  const std::string type = answer.content_type;
  const auto left = std::make_shared<HttpAnswer>(std::move(answer));
  response->set_content_provider(
      bytes, type,
      [left](std::size_t /*offset*/, std::size_t /*length*/,
             httplib::DataSink& sink) {
        const std::string piece = std::move(left->pieces.front());
        left->pieces.pop_front();
        sink.write(piece.data(), piece.size());
        left->held->Shrink(std::min(left->held->bytes(), kAnswerPiece));
        return true;
      });
}

}  // namespace

httplib::Request& Own(const httplib::Request& request) {
  return const_cast<httplib::Request&>(request);
}

void Put(HttpAnswer answer, const httplib::Request& request,
         httplib::Response* response) {
  HttpConnection* const connection = HttpConnection::Current();
  if (connection != nullptr) {
    const absl::Status room = Count(*connection, &answer);
    if (!room.ok()) {
      answer = ToHttpAnswer(absl::UnavailableError(room.message()));
      answer.retry_after_s = kRetrySeconds;
    }
    connection->Hold(answer.held);
  }
  if (answer.body.size() > kMostCompressed || !answer.pieces.empty()) {
    Own(request).headers.erase("Accept-Encoding");
  }
  response->status = answer.status;
  if (answer.status == 401) response->set_header("WWW-Authenticate", "Bearer");
  if (!answer.allow.empty()) response->set_header("Allow", answer.allow);
  if (answer.retry_after_s > 0) {
    response->set_header("Retry-After", std::to_string(answer.retry_after_s));
  }
  if (!answer.pieces.empty()) return PutPieces(std::move(answer), response);
  response->set_header("Content-Type", answer.content_type);
  response->body = std::move(answer.body);  // set_content() would copy it.
}

}  // namespace gradtap::server
