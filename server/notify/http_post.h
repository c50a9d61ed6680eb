// POSTs to somebody else's server.
//
// Layer: server/notify. This file: std, absl, core; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_NOTIFY_HTTP_POST_H_
#define GRADTAP_SERVER_NOTIFY_HTTP_POST_H_

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/sync.h"
#include "server/notify/notify_url.h"

namespace httplib {
class Client;
}  // namespace httplib

namespace gradtap::server {

struct HttpPost {
  std::string path;  // The URL's own is not looked at.
  std::string body;
  // Content-Type among them.
  std::vector<std::pair<std::string, std::string>> headers;
};

// Posts, one after the other, until it is stopped. Post() by one thread.
class HttpPoster {
 public:
  HttpPoster() = default;
  HttpPoster(const HttpPoster&) = delete;
  HttpPoster& operator=(const HttpPoster&) = delete;

  // Waits: for the connection, and for each byte, at most `timeout`.
  // kUnavailable: nobody is there, or asks for the same later (408, 429, 5xx);
  // kFailedPrecondition: it is refused. Both say what was answered. kCancelled:
  // it was stopped.
  absl::Status Post(const NotifyUrl& url, HttpPost post,
                    std::chrono::milliseconds timeout) ABSL_LOCKS_EXCLUDED(mu_);

  // Any thread. Nothing is posted from now on. The Post() that is under way has
  // a second; then it is ended: at once, or, while it waits for a connection,
  // within another.
  void Stop() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status PostOnce(const NotifyUrl& url, const HttpPost& post,
                        std::chrono::milliseconds connect_timeout,
                        std::chrono::milliseconds timeout, bool* timed_out)
      ABSL_LOCKS_EXCLUDED(mu_);
  // False: it has been stopped. Else Stop() ends what `client` does, until
  // Leave().
  bool Enter(httplib::Client* client) ABSL_LOCKS_EXCLUDED(mu_);
  void Leave() ABSL_LOCKS_EXCLUDED(mu_);

  Mutex mu_;
  CondVar left_;
  httplib::Client* client_ ABSL_GUARDED_BY(mu_) = nullptr;  // Under way.
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_NOTIFY_HTTP_POST_H_
