// One POST to somebody else's server.
//
// Layer: server/notify. This file: std, absl; cpp-httplib in the .cc.

#ifndef GRADTAP_SERVER_NOTIFY_HTTP_POST_H_
#define GRADTAP_SERVER_NOTIFY_HTTP_POST_H_

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "server/notify/notify_url.h"

namespace gradtap::server {

struct HttpPost {
  std::string path;  // The URL's own is not looked at.
  std::string body;
  // Content-Type among them.
  std::vector<std::pair<std::string, std::string>> headers;
};

// Waits: for the connection, and for each byte, at most `timeout`.
// kUnavailable: nobody is there, or asks for the same later (408, 429, 5xx);
// kFailedPrecondition: it is refused. Both say what was answered.
absl::Status Post(const NotifyUrl& url, HttpPost post,
                  std::chrono::milliseconds timeout);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_NOTIFY_HTTP_POST_H_
