#include "server/notify/http_post.h"

#include <httplib.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxAnswerBytes = 64 << 10;
// The library does not let go of a connection that it waits for: one try is no
// longer, and several follow each other.
constexpr std::chrono::milliseconds kConnectAtOnce{1'000};
constexpr std::chrono::milliseconds kGrace{1'000};
constexpr std::chrono::milliseconds kStopAgain{10};

// It asks for the same later, though it is there.
bool AsksForPatience(int status) {
  return status == 408 || status == 429 || status >= 500;
}

}  // namespace

absl::Status HttpPoster::Post(const NotifyUrl& url, HttpPost post,
                              std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(
        until - std::chrono::steady_clock::now());
    bool timed_out = false;
    absl::Status status = PostOnce(url, post, std::min(left, kConnectAtOnce),
                                   timeout, &timed_out);
    if (!timed_out || left <= kConnectAtOnce) return status;
  }
}

bool HttpPoster::Enter(httplib::Client* client) {
  MutexLock lock(mu_);
  if (stopped_) return false;
  client_ = client;
  return true;
}

void HttpPoster::Leave() {
  {
    MutexLock lock(mu_);
    client_ = nullptr;
  }
  left_.NotifyAll();
}

void HttpPoster::Stop() {
  MutexLock lock(mu_);
  stopped_ = true;
  const auto until = std::chrono::steady_clock::now() + kGrace;
  while (client_ != nullptr && left_.WaitUntil(mu_, until)) {
  }
  // What it has not begun yet it would not notice: again, until it is done.
  while (client_ != nullptr) {
    client_->stop();
    left_.WaitUntil(mu_, std::chrono::steady_clock::now() + kStopAgain);
  }
}

absl::Status HttpPoster::PostOnce(const NotifyUrl& url, const HttpPost& post,
                                  std::chrono::milliseconds connect_timeout,
                                  std::chrono::milliseconds timeout,
                                  bool* timed_out) {
  httplib::Client client(url.host, url.port);
  client.set_connection_timeout(connect_timeout);
  client.set_read_timeout(timeout);
  client.set_write_timeout(timeout);
  httplib::Request request;
  request.method = "POST";
  request.path = post.path;
  request.body = post.body;
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
  const std::string where = absl::StrCat(url.host, ":", url.port);
  if (!Enter(&client)) {
    return absl::CancelledError(absl::StrCat(where, ": stopped"));
  }
  const httplib::Result result = client.send(request);
  Leave();
  if (!result) {
    *timed_out = result.error() == httplib::Error::ConnectionTimeout;
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
