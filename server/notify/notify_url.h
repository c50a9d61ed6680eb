// Where alerts are sent: "http://HOST[:PORT][/PATH]".
//
// Layer: server/notify. This file: std, absl. Pure functions.

#ifndef GRADTAP_SERVER_NOTIFY_NOTIFY_URL_H_
#define GRADTAP_SERVER_NOTIFY_NOTIFY_URL_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace gradtap::server {

struct NotifyUrl {
  std::string host;  // Without the brackets of an IPv6 address.
  std::uint16_t port = 80;
  std::string path;  // Empty, or from "/" on; with its query.
};

// kInvalidArgument names what is wrong: another scheme (there is no TLS yet), a
// user, a fragment, a port that is none, what does not belong in a URL.
absl::StatusOr<NotifyUrl> ParseNotifyUrl(std::string_view text);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_NOTIFY_NOTIFY_URL_H_
