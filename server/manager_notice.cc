#include "server/manager_notice.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace gradtap::server {

bool TellManager(const std::string& state) {
  const char* const name = std::getenv("NOTIFY_SOCKET");
  // A path, or behind '@' a name that no file system has.
  if (name == nullptr || (name[0] != '/' && name[0] != '@')) return true;
  sockaddr_un address{};
  const std::size_t bytes = std::strlen(name);
  if (bytes >= sizeof address.sun_path) return true;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, name, bytes);
  if (name[0] == '@') address.sun_path[0] = '\0';
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  ssize_t sent;
  do {
    sent = ::sendto(
        fd, state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
        reinterpret_cast<const sockaddr*>(&address),
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes));
  } while (sent < 0 && errno == EINTR);
  const bool is_full = sent < 0 && (errno == EAGAIN || errno == ENOBUFS);
  ::close(fd);
  return !is_full;
}

}  // namespace gradtap::server
