// What an address says about the way to it.
//
// Layer: core. Pure functions; nothing is looked up.

#ifndef GRADTAP_CORE_PEER_ADDRESS_H_
#define GRADTAP_CORE_PEER_ADDRESS_H_

#include <string_view>

namespace gradtap {

// "unix:/PATH": a socket of the file system, of at most 107 bytes, without what
// gRPC would take for something else (% ? #) or a terminal for a command.
bool IsSocketAddress(std::string_view address);

// What is sent there does not leave this machine: a socket, or a port of
// localhost, 127.0.0.0/8 or ::1. Other names may be anybody's.
bool StaysOnThisMachine(std::string_view address);

}  // namespace gradtap

#endif  // GRADTAP_CORE_PEER_ADDRESS_H_
