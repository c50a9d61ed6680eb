// What a request of the HTTP library says: its parameters, its kind of body,
// and whether it may be answered at all.
//
// Layer: server/http. This file: std, absl; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_
#define GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_

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

// Whether its body is of that media type.
bool HasType(const httplib::Request& request, const char* wanted);

// The library's brotli is set to its smallest, at a megabyte a second.
void OfferGzipAlone(httplib::Request* request);

// "a=1&b=2", of a URL or a form. The library takes what follows a value's last
// '='.
void AddParameters(std::string_view text, UrlParameters* parameters);
// Those of the URL.
UrlParameters ParametersOf(const httplib::Request& request);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_REQUEST_PARTS_H_
