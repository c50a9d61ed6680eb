// An answer on its way into the library's response.
//
// Layer: server/http. This file: std; cpp-httplib by name only.

#ifndef GRADTAP_SERVER_HTTP_PUT_ANSWER_H_
#define GRADTAP_SERVER_HTTP_PUT_ANSWER_H_

#include "server/http/http_api.h"

namespace httplib {
struct Request;
struct Response;
}  // namespace httplib

namespace gradtap::server {

// After which a client that was refused for lack of room may try again.
inline constexpr int kRetrySeconds = 5;

// What a handler gets is the library's own, and not constant.
httplib::Request& Own(const httplib::Request& request);

// 503 in its place if the answers of all connections that wait to be sent take
// too much memory.
void Put(HttpAnswer answer, const httplib::Request& request,
         httplib::Response* response);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_PUT_ANSWER_H_
