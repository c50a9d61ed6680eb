// Ports for servers that a test starts, stops and starts again.

#ifndef GRADTAP_TESTS_SUPPORT_FREE_PORT_H_
#define GRADTAP_TESTS_SUPPORT_FREE_PORT_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <random>
#include <stdexcept>

namespace gradtap::testing {

// A TCP port of 127.0.0.1 that nobody has now. It is below those that the
// kernel gives to whoever asks for any, so that no test beside this one gets
// it by chance while nobody listens there.
inline int FreePort() {
  constexpr int kFirst = 10'000;
  int end = 32'768;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> end;
  if (end < 2 * kFirst) end = 65'536;  // Too few are left below them.
  std::random_device device;
  std::uniform_int_distribution<int> any(kFirst, end - 1);
  for (int i = 0; i < 1'000; ++i) {
    const int port = any(device);
    const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const bool free = ::bind(s, reinterpret_cast<const sockaddr*>(&address),
                             sizeof address) == 0;
    ::close(s);
    if (free) return port;
  }
  throw std::runtime_error("no free port on 127.0.0.1");
}

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_FREE_PORT_H_
