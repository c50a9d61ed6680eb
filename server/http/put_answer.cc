#include "server/http/put_answer.h"

#include <httplib.h>

#include <string>
#include <utility>

#include "server/http/http_connection.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMostCompressed = std::size_t{8} << 20;

}  // namespace

httplib::Request& Own(const httplib::Request& request) {
  return const_cast<httplib::Request&>(request);
}

void Put(HttpAnswer answer, const httplib::Request& request,
         httplib::Response* response) {
  HttpConnection* const connection = HttpConnection::Current();
  if (connection != nullptr && !connection->Hold(answer.body.size())) {
    answer = ToHttpAnswer(absl::UnavailableError(
        "too many large answers are under way; try again"));
    answer.retry_after_s = kRetrySeconds;
  }
  // A large one takes longer to compress than to send.
  if (answer.body.size() > kMostCompressed) {
    Own(request).headers.erase("Accept-Encoding");
  }
  response->status = answer.status;
  if (answer.status == 401) response->set_header("WWW-Authenticate", "Bearer");
  if (!answer.allow.empty()) response->set_header("Allow", answer.allow);
  if (answer.retry_after_s > 0) {
    response->set_header("Retry-After", std::to_string(answer.retry_after_s));
  }
  response->set_header("Content-Type", answer.content_type);
  response->body = std::move(answer.body);  // set_content() would copy it.
}

}  // namespace gradtap::server
