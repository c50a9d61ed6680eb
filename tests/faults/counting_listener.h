// A peer on loopback that hangs up on everybody, and notes when they came.

#ifndef GRADTAP_TESTS_FAULTS_COUNTING_LISTENER_H_
#define GRADTAP_TESTS_FAULTS_COUNTING_LISTENER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace gradtap::testing {

class CountingListener {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `port` is one that nobody listens at any more.
  explicit CountingListener(int port)
      : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    if (::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        ::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) !=
            0 ||
        ::listen(fd_, 256) != 0) {
      std::perror("the collector's port on loopback");
      std::abort();
    }
    thread_ = std::thread([this] { Count(); });
  }
  ~CountingListener() { Stop(); }
  CountingListener(const CountingListener&) = delete;
  CountingListener& operator=(const CountingListener&) = delete;

  // Nobody listens from now on. When each of them came, in order.
  const std::vector<TimePoint>& Stop() {
    if (thread_.joinable()) {
      ::shutdown(fd_, SHUT_RDWR);  // Ends accept().
      thread_.join();
      ::close(fd_);
    }
    return came_;
  }

 private:
  void Count() {
    for (;;) {
      const int peer = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer < 0 && (errno == ECONNABORTED || errno == EINTR)) continue;
      if (peer < 0 && errno == EINVAL) return;  // Shut down.
      if (peer < 0) {
        std::perror("accept4");
        std::abort();
      }
      came_.push_back(std::chrono::steady_clock::now());
      ::close(peer);
    }
  }

  const int fd_;
  std::vector<TimePoint> came_;  // Of the thread, until Stop() returns.
  std::thread thread_;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_FAULTS_COUNTING_LISTENER_H_
