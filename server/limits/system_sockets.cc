// Sockets as Linux knows them.

#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/limits/connection_table.h"

namespace gradtap::server {
namespace {

// As tcp_info has it; the C library has a name for it in a header that does
// not go with linux/tcp.h.
constexpr int kEstablished = 1;

class SystemSockets final : public Sockets {
 public:
  // A socket's number is no other one's: they are given in turn.
  std::uint64_t Identity(int fd) const override {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || !S_ISSOCK(info.st_mode)) return 0;
    return info.st_ino;
  }

  Traffic TrafficOf(int fd) const override {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return {};
    int queued = 0;  // In the system's memory.
    if (::ioctl(fd, SIOCINQ, &queued) != 0 || queued < 0) queued = 0;
    const auto unread = static_cast<std::uint64_t>(queued);
    Traffic traffic;
    traffic.received = info.tcpi_bytes_received > unread
                           ? info.tcpi_bytes_received - unread
                           : 0;
    traffic.sent = info.tcpi_bytes_acked;
    return traffic;
  }

  std::uint64_t LeftBy(int fd) const override {
    tcp_info info{};
    socklen_t size = sizeof info;
    int queued = 0;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        info.tcpi_state == kEstablished || ::ioctl(fd, SIOCINQ, &queued) != 0 ||
        queued < 0) {
      return 0;
    }
    return static_cast<std::uint64_t>(queued);
  }

  // By a descriptor of our own, which stays what it is.
  void End(int fd, std::uint64_t identity) const override {
    const int own = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0) return;
    if (Identity(own) == identity) {
      ::shutdown(own, SHUT_RDWR);
      // Or gRPC works off all that has come before it hears of that.
      constexpr std::size_t kAtATime = std::size_t{1} << 20;
      while (::recv(own, nullptr, kAtATime, MSG_TRUNC | MSG_DONTWAIT) > 0) {
      }
    }
    ::close(own);
  }
};

}  // namespace

const Sockets& Sockets::OfTheSystem() {
  static const Sockets* const sockets = new SystemSockets();
  return *sockets;
}

}  // namespace gradtap::server
