#include "server/service/grpc_listener.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <set>
#include <string>
#include <utility>

namespace gradtap::server {
namespace {

using Clock = std::chrono::steady_clock;

// How often the table is looked at; a peer on this machine sends some 50 MiB
// meanwhile. With very many connections it is a twentieth of the time.
constexpr std::chrono::milliseconds kLookEvery{50};
constexpr int kLookPart = 20;
// Without a descriptor or memory for one more.
constexpr std::chrono::milliseconds kNoneLeft{100};
// Accepted in a row, before the table is looked at again.
constexpr int kInARow = 64;
// For the store's files, HTTP, and what gRPC itself needs.
constexpr std::size_t kOtherFiles = 1'536;
// Never a connection's, whatever has become of the limit since. RocksDB that
// cannot make a log leaves references behind; closed after that, it ends the
// process where it is built with assertions.
constexpr rlim_t kStoreFiles = 64;

// The system gives the lowest descriptor that is free.
bool IsOfTheStore(int fd) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
  const rlim_t kept = std::min(kStoreFiles, limit.rlim_cur / 4);
  return static_cast<rlim_t>(fd) >= limit.rlim_cur - kept;
}

std::uint16_t PortOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) !=
      0) {
    return 0;
  }
  return ntohs(address.ss_family == AF_INET
                   ? reinterpret_cast<const sockaddr_in&>(address).sin_port
                   : reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
}

// -1: errno has why.
int ListenOn(const addrinfo& at) {
  const int fd =
      ::socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (at.ai_family == AF_INET6) {  // "::" is everything.
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  }
  if (::bind(fd, at.ai_addr, at.ai_addrlen) == 0 &&
      ::listen(fd, SOMAXCONN) == 0) {
    return fd;
  }
  const int why = errno;
  ::close(fd);
  errno = why;
  return -1;
}

}  // namespace

std::size_t GrantedConnections(std::size_t wanted) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  const auto files = static_cast<std::size_t>(limit.rlim_cur);
  return std::min(wanted,
                  files > 2 * kOtherFiles ? files - kOtherFiles : files / 2);
}

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Bind(
    const ListenAddress& address, ConnectionTable* table) {
  std::unique_ptr<GrpcListener> listener(new GrpcListener(table));
  absl::Status status = listener->BindAll(address);
  if (!status.ok()) return status;
  if (::pipe2(listener->stop_, O_CLOEXEC) != 0) {
    return absl::UnavailableError(std::strerror(errno));
  }
  return listener;
}

absl::Status GrpcListener::BindAll(const ListenAddress& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  port_ = address.port;
  if (const int error = ::getaddrinfo(
          address.host.c_str(), std::to_string(port_).c_str(), &hints, &found);
      error != 0) {
    return absl::UnavailableError(::gai_strerror(error));
  }
  int why = EADDRNOTAVAIL;
  bool in_use = false;
  std::set<std::string> addresses;
  for (addrinfo* at = found; at != nullptr; at = at->ai_next) {
    // All of them have the port that the first one was given.
    if (at->ai_family == AF_INET) {
      reinterpret_cast<sockaddr_in*>(at->ai_addr)->sin_port = htons(port_);
    } else if (at->ai_family == AF_INET6) {
      reinterpret_cast<sockaddr_in6*>(at->ai_addr)->sin6_port = htons(port_);
    } else {
      continue;
    }
    // A name may have an address twice, on two lines of a file.
    const std::string bytes(reinterpret_cast<const char*>(at->ai_addr),
                            at->ai_addrlen);
    if (!addresses.insert(bytes).second) continue;
    const int fd = ListenOn(*at);
    if (fd < 0) {
      why = errno;
      // A name may stand for IPv6, which a machine need not have.
      in_use |= why == EADDRINUSE;
      continue;
    }
    sockets_.push_back(fd);
    port_ = PortOf(fd);
  }
  ::freeaddrinfo(found);
  if (!in_use && !sockets_.empty()) return absl::OkStatus();
  return absl::UnavailableError(std::strerror(in_use ? EADDRINUSE : why));
}

GrpcListener::~GrpcListener() {
  Stop();
  for (const int end : stop_) {
    if (end >= 0) ::close(end);
  }
}

void GrpcListener::Start(
    std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor) {
  acceptor_ = std::move(acceptor);
  thread_ = std::thread([this] { Run(); });
}

void GrpcListener::Stop() {
  if (thread_.joinable()) {
    const char byte = 0;
    while (::write(stop_[1], &byte, 1) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  for (const int fd : std::exchange(sockets_, {})) ::close(fd);
}

void GrpcListener::Run() {
  std::vector<pollfd> files = {{stop_[0], POLLIN, 0}};
  for (const int fd : sockets_) files.push_back({fd, POLLIN, 0});
  auto look_at = Clock::now();
  for (;;) {
    // Without a connection there is nothing to look at.
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(look_at - Clock::now());
    const int wait =
        table_->size() == 0
            ? -1
            : static_cast<int>(std::max<std::int64_t>(0, left.count()));
    ::poll(files.data(), files.size(), wait);
    if (files[0].revents != 0) return;
    for (std::size_t i = 1; i < files.size(); ++i) {
      if ((files[i].revents & POLLIN) == 0) continue;
      for (int n = 0; n < kInARow && AcceptOne(files[i].fd); ++n) {
      }
    }
    const auto now = Clock::now();
    if (now < look_at) continue;
    table_->Look();
    const auto took = Clock::now() - now;
    look_at = now + std::max<Clock::duration>(kLookEvery, kLookPart * took);
  }
}

bool GrpcListener::AcceptOne(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  const int fd = ::accept4(socket, reinterpret_cast<sockaddr*>(&address), &size,
                           SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
        errno == ENOMEM) {
      // Whoever waits goes on waiting; the stop is heard of meanwhile.
      pollfd stop{stop_[0], POLLIN, 0};
      ::poll(&stop, 1, static_cast<int>(kNoneLeft.count()));
      return false;
    }
    return errno == ECONNABORTED || errno == EINTR;
  }
  if (IsOfTheStore(fd)) {
    table_->NoRoom();
    ::close(fd);
    return true;
  }
  if (!table_->Admit(fd, PeerName(address))) {
    ::close(fd);
    return true;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters taken;
  taken.listener_fd = socket;
  taken.fd = fd;
  acceptor_->HandleNewConnection(&taken);
  return true;
}

}  // namespace gradtap::server
