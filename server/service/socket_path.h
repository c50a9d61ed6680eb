// A socket of the file system on which the collector listens.
//
// Layer: server/service. This file: std, absl, POSIX; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_SOCKET_PATH_H_
#define GRADTAP_SERVER_SERVICE_SOCKET_PATH_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap::server {

// "unix:PATH" without its head; kInvalidArgument: a path that no socket can
// have.
absl::StatusOr<std::string> ParseSocketPath(const std::string& text);

// Who may enter its folder may connect, whatever the socket's own mode: so that
// has to be ours, and nobody else's (0700). Made so if it is not there.
// kFailedPrecondition says what to do; also if the path is something else than
// a socket.
absl::Status PrepareSocketFolder(const std::string& path);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_SOCKET_PATH_H_
