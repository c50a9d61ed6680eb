// Whose requests are answered. The page and its API are open to whoever reaches
// the collector's address, so a browser must not be talked into reaching it for
// somebody else: a page of another site may send requests to 127.0.0.1 (and see
// the answers if its own name is made to point there).
//
// Layer: server/http. This file: std, absl. Pure functions.

#ifndef GRADTAP_SERVER_HTTP_REQUEST_GUARD_H_
#define GRADTAP_SERVER_HTTP_REQUEST_GUARD_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace gradtap::server {

// Headers of a request; nothing: it has none.
struct RequestOrigin {
  std::optional<std::string> host;        // Host
  std::optional<std::string> origin;      // Origin
  std::optional<std::string> fetch_site;  // Sec-Fetch-Site
  std::optional<std::string> fetch_mode;  // Sec-Fetch-Mode
  std::optional<std::string> fetch_dest;  // Sec-Fetch-Dest
};

// kPermissionDenied unless the request is for an IP address, localhost or one
// of `names`, and does not come from a page of another site. A link elsewhere
// that leads here is followed, in a window of its own.
absl::Status CheckOrigin(const RequestOrigin& request,
                         const std::vector<std::string>& names);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_REQUEST_GUARD_H_
