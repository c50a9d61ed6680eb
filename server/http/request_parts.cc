#include "server/http/request_parts.h"

#include <httplib.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/http/request_guard.h"

namespace gradtap::server {
namespace {

// Why: server/http/README.md, "Limits".
constexpr std::size_t kMaxPathBytes = 512;

std::optional<std::string> HeaderOf(const httplib::Request& request,
                                    const char* name) {
  if (!request.has_header(name)) return std::nullopt;
  return request.get_header_value(name);
}

RequestOrigin OriginOf(const httplib::Request& request) {
  return {HeaderOf(request, "Host"), HeaderOf(request, "Origin"),
          HeaderOf(request, "Sec-Fetch-Site"),
          HeaderOf(request, "Sec-Fetch-Mode"),
          HeaderOf(request, "Sec-Fetch-Dest")};
}

// A name or a value of a form. A '%' without two digits stands for itself.
std::string Decode(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view digits =
        text[i] == '%' ? text.substr(i + 1, 2) : std::string_view();
    unsigned char byte = 0;
    const char* const end = digits.data() + digits.size();
    if (digits.size() == 2 &&
        std::from_chars(digits.data(), end, byte, 16).ptr == end) {
      decoded += static_cast<char>(byte);
      i += 2;
    } else {
      decoded += text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

std::string_view QueryOf(const httplib::Request& request) {
  const std::string_view target = request.target;
  const std::size_t begin = target.find('?');
  if (begin == std::string_view::npos) return {};
  const std::string_view query = target.substr(begin + 1);
  return query.substr(0, query.find('#'));
}

}  // namespace

absl::Status CheckRequest(const httplib::Request& request,
                          const std::vector<std::string>& names) {
  if (request.path.size() > kMaxPathBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path is longer than ", kMaxPathBytes, " bytes"));
  }
  if (request.get_header_value_count("Host") > 1) {
    return absl::InvalidArgumentError("the request has several Host headers");
  }
  // The library's limit holds for neither.
  if (request.has_header("Transfer-Encoding") ||
      request.has_header("Content-Encoding")) {
    return absl::InvalidArgumentError(
        "a body is sent as it is, with its Content-Length");
  }
  if (request.method != "GET" && request.method != "HEAD" &&
      !request.has_header("Content-Length")) {
    return absl::InvalidArgumentError(
        "the request has no Content-Length (0 for an empty body)");
  }
  // The library would take it apart before anybody has asked for it.
  if (absl::StartsWithIgnoreCase(request.get_header_value("Content-Type"),
                                 "multipart/")) {
    return absl::InvalidArgumentError(
        "a body is JSON or a form of application/x-www-form-urlencoded, and "
        "not multipart");
  }
  absl::Status status = CheckParameters(QueryOf(request));
  return status.ok() ? CheckOrigin(OriginOf(request), names) : status;
}

bool HasType(const httplib::Request& request, const char* wanted) {
  const std::string type = request.get_header_value("Content-Type");
  return absl::EqualsIgnoreCase(
      absl::StripAsciiWhitespace(type.substr(0, type.find(';'))), wanted);
}

void OfferGzipAlone(httplib::Request* request) {
  const bool gzip =
      absl::StrContains(request->get_header_value("Accept-Encoding"), "gzip");
  request->headers.erase("Accept-Encoding");
  if (gzip) request->headers.emplace("Accept-Encoding", "gzip");
}

std::size_t BodyBytes(const httplib::Request& request) {
  std::size_t bytes = 0;
  static_cast<void>(
      absl::SimpleAtoi(request.get_header_value("Content-Length"), &bytes));
  return bytes;
}

absl::Status CheckParameters(std::string_view text) {
  const auto pairs = std::count(text.begin(), text.end(), '&') + 1;
  if (pairs <= static_cast<std::ptrdiff_t>(kMostParameters)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there are ", pairs, " parameters; at most ",
                   kMostParameters, " are read: ask for less at a time"));
}

void AddParameters(std::string_view text, UrlParameters* parameters) {
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(pair.size() + 1, text.size()));
    if (pair.empty()) continue;
    const std::size_t is = pair.find('=');
    parameters->emplace(
        Decode(pair.substr(0, is)),
        is == std::string_view::npos ? "" : Decode(pair.substr(is + 1)));
  }
}

UrlParameters ParametersOf(const httplib::Request& request) {
  UrlParameters parameters;
  AddParameters(QueryOf(request), &parameters);
  return parameters;
}

}  // namespace gradtap::server
