#include "server/http/request_parts.h"

#include <httplib.h>

#include <charconv>
#include <cstddef>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
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
  return CheckOrigin(OriginOf(request), names);
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

void AddParameters(std::string_view text, UrlParameters* parameters) {
  const std::vector<std::string> pairs =
      absl::StrSplit(std::string(text), '&', absl::SkipEmpty());
  for (const std::string_view pair : pairs) {
    const std::size_t is = pair.find('=');
    parameters->emplace(
        Decode(pair.substr(0, is)),
        is == std::string_view::npos ? "" : Decode(pair.substr(is + 1)));
  }
}

UrlParameters ParametersOf(const httplib::Request& request) {
  UrlParameters parameters;
  const std::size_t begin = request.target.find('?');
  if (begin == std::string::npos) return parameters;
  const std::string query = request.target.substr(begin + 1);
  AddParameters(query.substr(0, query.find('#')), &parameters);
  return parameters;
}

}  // namespace gradtap::server
