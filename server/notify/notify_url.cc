#include "server/notify/notify_url.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::string_view kScheme = "http://";
constexpr std::size_t kMaxBytes = 2048;

absl::Status Bad(std::string_view text, std::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("'", EscapeForTerminal(text.substr(0, 200)), "' ",
                   std::string(why), "; expected http://HOST[:PORT][/PATH]"));
}

}  // namespace

absl::StatusOr<NotifyUrl> ParseNotifyUrl(std::string_view text) {
  if (text.substr(0, 8) == "https://") {
    return Bad(text,
               "needs TLS, which is not there yet: a proxy on this "
               "machine can add it");
  }
  if (text.substr(0, kScheme.size()) != kScheme) {
    return Bad(text, "is no http:// URL");
  }
  if (text.size() > kMaxBytes) return Bad(text, "is too long");
  const bool plain = std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c < '\x7f' && c != '"' && c != '<' && c != '>' &&
           c != '\\' && c != '#';
  });
  if (!plain) return Bad(text, "has characters that a URL may not have");
  const std::string_view rest = text.substr(kScheme.size());
  const std::size_t slash = std::min(rest.find('/'), rest.size());
  std::string_view authority = rest.substr(0, slash);
  NotifyUrl url;
  url.path = std::string(rest.substr(slash));
  if (authority.find('@') != authority.npos) {
    return Bad(text, "has a user, which is not sent");
  }
  if (authority.find('?') != authority.npos) {
    return Bad(text, "has a query without a path");
  }
  std::size_t colon = authority.rfind(':');
  if (!authority.empty() && authority.front() == '[') {
    const std::size_t close = authority.find(']');
    if (close == authority.npos) return Bad(text, "lacks a ']'");
    url.host = std::string(authority.substr(1, close - 1));
    authority = authority.substr(close + 1);
    if (!authority.empty() && authority.front() != ':') {
      return Bad(text, "has something after its ']'");
    }
    colon = authority.empty() ? authority.npos : 0;
  } else {
    url.host = std::string(authority.substr(0, colon));
    if (url.host.find(':') != url.host.npos) {
      return Bad(text, "has an IPv6 address without brackets");
    }
  }
  if (url.host.empty()) return Bad(text, "names no host");
  if (colon == authority.npos) return url;
  const std::string_view port = authority.substr(colon + 1);
  const auto read =
      std::from_chars(port.data(), port.data() + port.size(), url.port);
  if (read.ec != std::errc() || read.ptr != port.data() + port.size() ||
      url.port == 0) {
    return Bad(text, "has a port that is none");
  }
  return url;
}

}  // namespace gradtap::server
