#include "server/notify/http_post.h"

#include <httplib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxAnswerBytes = 64 << 10;

// It asks for the same later, though it is there.
bool AsksForPatience(int status) {
  return status == 408 || status == 429 || status >= 500;
}

}  // namespace

absl::Status Post(const NotifyUrl& url, HttpPost post,
                  std::chrono::milliseconds timeout) {
  httplib::Client client(url.host, url.port);
  client.set_connection_timeout(timeout);
  client.set_read_timeout(timeout);
  client.set_write_timeout(timeout);
  httplib::Request request;
  request.method = "POST";
  request.path = std::move(post.path);
  request.body = std::move(post.body);
  request.headers = {{"User-Agent", "gradtapd"}};
  for (const auto& [name, value] : post.headers) {
    request.headers.emplace(name, value);
  }
  std::string said;
  request.content_receiver = [&said](const char* data, std::size_t size,
                                     std::uint64_t, std::uint64_t) {
    said.append(data, std::min(size, kMaxAnswerBytes - said.size()));
    return said.size() < kMaxAnswerBytes;
  };
  const httplib::Result result = client.send(request);
  const std::string where = absl::StrCat(url.host, ":", url.port);
  if (!result) {
    return absl::UnavailableError(
        absl::StrCat(where, ": ", httplib::to_string(result.error())));
  }
  if (result->status / 100 == 2) return absl::OkStatus();
  const std::string answer =
      absl::StrCat(where, " answers ", result->status, " ",
                   EscapeForTerminal(said.substr(0, 200)));
  return AsksForPatience(result->status)
             ? absl::UnavailableError(answer)
             : absl::FailedPreconditionError(answer);
}

}  // namespace gradtap::server
