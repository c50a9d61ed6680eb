#include "server/http/request_guard.h"

#include <arpa/inet.h>

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

// ":80", or nothing.
bool IsPort(std::string_view text) {
  return text.empty() || (text.front() == ':' &&
                          std::all_of(text.begin() + 1, text.end(), [](char c) {
                            return '0' <= c && c <= '9';
                          }));
}

// "example.org:80" without the port; "[::1]:80" without the brackets, too.
// Empty: it is neither.
std::string HostOf(const std::string& authority) {
  const bool brackets = authority.starts_with('[');
  const std::size_t end =
      std::min(authority.find(brackets ? ']' : ':'), authority.size());
  const std::size_t port = end + (brackets ? 1 : 0);
  if (port > authority.size() ||
      !IsPort(std::string_view(authority).substr(port))) {
    return "";
  }
  const std::size_t begin = brackets ? 1 : 0;
  return absl::AsciiStrToLower(authority.substr(begin, end - begin));
}

bool IsAddress(const std::string& host) {
  unsigned char bytes[sizeof(in6_addr)];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

}  // namespace

absl::Status CheckOrigin(const RequestOrigin& request,
                         const std::vector<std::string>& names) {
  if (!request.host.has_value()) {
    return absl::PermissionDeniedError("the request has no Host header");
  }
  const std::string host = HostOf(*request.host);
  const bool known =
      IsAddress(host) || host == "localhost" ||
      absl::EndsWith(host, ".localhost") ||
      std::any_of(names.begin(), names.end(), [&host](const auto& name) {
        return absl::AsciiStrToLower(name) == host;
      });
  if (!known) {
    return absl::PermissionDeniedError(
        absl::StrCat("the collector does not go by the name '",
                     EscapeForTerminal(request.host->substr(0, 100)),
                     "'; use its address, or start it with --http-name NAME"));
  }
  if (request.origin.has_value() &&
      *request.origin != absl::StrCat("http://", *request.host) &&
      *request.origin != absl::StrCat("https://", *request.host)) {
    return absl::PermissionDeniedError(absl::StrCat(
        "a page of ", EscapeForTerminal(request.origin->substr(0, 100)),
        " may not use the collector"));
  }
  const bool link = request.fetch_mode == "navigate" &&
                    request.fetch_dest.value_or("document") == "document";
  if (request.fetch_site == "cross-site" && !link) {
    return absl::PermissionDeniedError(
        "a page of another site may not use the collector");
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
