// Whether the client of a query over HTTP still waits for it.
//
// Layer: server/http. This file: std, absl, service's backend; no HTTP library.

#ifndef GRADTAP_SERVER_HTTP_QUERY_WAIT_H_
#define GRADTAP_SERVER_HTTP_QUERY_WAIT_H_

#include <chrono>

#include "server/service/query_backend.h"

namespace gradtap::server {

// A look at a socket is a call of the system.
inline constexpr std::chrono::milliseconds kLookForClient{10};

// What QueryBackend is to ask, however often: whether the client has gone, as
// `gone` says every now and then; once it has, it stays so. By one thread.
// `gone` may be empty: nobody knows.
Cancelled LookForClient(
    Cancelled gone, std::chrono::milliseconds between_looks = kLookForClient);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_QUERY_WAIT_H_
