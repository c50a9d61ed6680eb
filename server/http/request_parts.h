// What a request of the HTTP library says: its parameters, its kind of body,
// and whether it may be answered at all.
//
// Layer: server/http. This file: std, absl; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_
#define GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/http/request_fields.h"

namespace httplib {
struct Request;
}  // namespace httplib

namespace gradtap::server {

// What is wrong with a request whatever it asks for. `names`: what we may be
// called, as CheckOrigin() takes them.
absl::Status CheckRequest(const httplib::Request& request,
                          const std::vector<std::string>& names);

// How long its body is said to be.
std::size_t BodyBytes(const httplib::Request& request);

// Whether its body is of that media type.
bool HasType(const httplib::Request& request, const char* wanted);

// The library's brotli is set to its smallest, at a megabyte a second.
void OfferGzipAlone(httplib::Request* request);

// As many as a URL or a form may have: each takes a hundred bytes and more
// where it had two.
inline constexpr std::size_t kMostParameters = 1'000;

// kInvalidArgument: there are more in `text`.
absl::Status CheckParameters(std::string_view text);

// "a=1&b=2", of a URL or a form that CheckParameters() lets pass. The library
// takes what follows a value's last
// '='.
void AddParameters(std::string_view text, UrlParameters* parameters);
// Those of the URL of a request that CheckRequest() lets pass.
UrlParameters ParametersOf(const httplib::Request& request);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_
