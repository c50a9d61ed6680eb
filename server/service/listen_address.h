// Where the collector listens.
//
// Layer: server/service. This file: std, absl; no grpc.

#ifndef GRADTAP_SERVER_SERVICE_LISTEN_ADDRESS_H_
#define GRADTAP_SERVER_SERVICE_LISTEN_ADDRESS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap::server {

struct ListenAddress {
  std::string host;  // Without brackets.
  std::uint16_t port = 0;

  std::string ToString() const;  // "127.0.0.1:7317", "[::1]:7317".
  // 127.0.0.0/8, ::1 or localhost. Other names are not looked up.
  bool IsLoopback() const;
};

// Reads HOST:PORT; an IPv6 address stands in brackets. kInvalidArgument says
// what is wrong.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);

// Why nobody can listen there now, as far as the system says: "Address already
// in use". Binds for a moment.
std::string WhyNotListening(const ListenAddress& address);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_SERVICE_LISTEN_ADDRESS_H_
