// A peer on loopback that accepts and never reads.

#ifndef GRADTAP_TESTS_FAULTS_BLACK_HOLE_H_
#define GRADTAP_TESTS_FAULTS_BLACK_HOLE_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace gradtap::testing {

// Accepts by its backlog and reads nothing.
class BlackHole {
 public:
  BlackHole() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd_, any, size) != 0 || ::listen(fd_, 64) != 0 ||
        ::getsockname(fd_, any, &size) != 0) {
      std::perror("a port on loopback");
      std::abort();
    }
    port_ = ntohs(address.sin_port);
  }
  ~BlackHole() { ::close(fd_); }
  BlackHole(const BlackHole&) = delete;
  BlackHole& operator=(const BlackHole&) = delete;
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

 private:
  const int fd_;
  int port_ = 0;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_FAULTS_BLACK_HOLE_H_
