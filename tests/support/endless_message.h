// A peer that takes a call of gRPC and announces an answer of 4 GiB, which it
// sends as fast as flow control lets it.
//
// Layer: tests.

#ifndef GRADTAP_TESTS_SUPPORT_ENDLESS_MESSAGE_H_
#define GRADTAP_TESTS_SUPPORT_ENDLESS_MESSAGE_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>

#include "core/sync.h"

namespace gradtap::testing {

// Takes one connection after the other, on 127.0.0.1.
class EndlessMessage {
 public:
  // `most_bytes`: more is not sent of one message.
  explicit EndlessMessage(std::uint64_t most_bytes) : most_bytes_(most_bytes) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (listener_ < 0 ||
        ::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address),
                      &size) != 0) {
      throw std::runtime_error("no socket for the test");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { Serve(); });
  }
  ~EndlessMessage() {
    stop_ = true;
    thread_.join();
    ::close(listener_);
  }
  EndlessMessage(const EndlessMessage&) = delete;
  EndlessMessage& operator=(const EndlessMessage&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // Waits until the first message was given up by its reader, or `most_bytes`
  // of it were sent. How many were.
  std::uint64_t AwaitFirst(std::chrono::seconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    MutexLock lock(mu_);
    while (!ended_ && std::chrono::steady_clock::now() < deadline) {
      changed_.WaitUntil(mu_, deadline);
    }
    if (!ended_) throw std::runtime_error("the message has no end");
    return first_sent_;
  }

 private:
  // Types of frames (RFC 9113).
  enum : unsigned char {
    kData = 0,
    kHeaders = 1,
    kReset = 3,
    kSettings = 4,
    kPing = 6,
    kWindowUpdate = 8,
  };

  // What is known of a connection and its one call.
  struct Peer {
    int fd = -1;
    std::string in;
    bool preface = false;
    std::uint32_t stream = 0;
    std::int64_t window = 65'535;
    std::int64_t stream_window = 65'535;
    std::int64_t initial_window = 65'535;
    std::uint64_t sent = 0;
    bool over = false;
  };

  static std::string Number(std::uint32_t number, int bytes) {
    std::string text;
    for (int i = bytes - 1; i >= 0; --i) {
      text.push_back(static_cast<char>(number >> (8 * i)));
    }
    return text;
  }
  static std::uint32_t ToNumber(const std::string& text, std::size_t at,
                                int bytes) {
    std::uint32_t number = 0;
    for (int i = 0; i < bytes; ++i) {
      number = number << 8 | static_cast<unsigned char>(text[at + i]);
    }
    return number;
  }
  static void Send(Peer* peer, unsigned char type, unsigned char flags,
                   std::uint32_t stream, const std::string& payload) {
    std::string frame = Number(static_cast<std::uint32_t>(payload.size()), 3);
    frame.push_back(static_cast<char>(type));
    frame.push_back(static_cast<char>(flags));
    frame += Number(stream, 4) + payload;
    for (std::size_t at = 0; at < frame.size() && !peer->over;) {
      const ssize_t sent =
          ::send(peer->fd, frame.data() + at, frame.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) peer->over = true;
      if (sent > 0) at += static_cast<std::size_t>(sent);
    }
  }

  void Serve() {
    while (!stop_) {
      pollfd waits{listener_, POLLIN, 0};
      if (::poll(&waits, 1, 20) <= 0) continue;
      Peer peer;
      peer.fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (peer.fd < 0) continue;
      Talk(&peer);
      ::close(peer.fd);
    }
  }

  void Talk(Peer* peer) {
    Send(peer, kSettings, 0, 0, "");
    while (!stop_ && !peer->over && peer->sent < most_bytes_) {
      const bool room =
          peer->stream != 0 && std::min(peer->window, peer->stream_window) > 0;
      pollfd waits{peer->fd,
                   static_cast<short>(room ? POLLIN | POLLOUT : POLLIN), 0};
      if (::poll(&waits, 1, 20) <= 0) continue;
      if ((waits.revents & (POLLIN | POLLHUP | POLLERR)) != 0) Receive(peer);
      if ((waits.revents & POLLOUT) != 0) SendSome(peer);
    }
    if (peer->stream == 0) return;  // No call.
    MutexLock lock(mu_);
    if (!ended_) first_sent_ = peer->sent;
    ended_ = true;
    changed_.NotifyAll();
  }

  void Receive(Peer* peer) {
    char bytes[65'536];
    const ssize_t got = ::recv(peer->fd, bytes, sizeof(bytes), 0);
    if (got <= 0) {
      peer->over = true;
      return;
    }
    peer->in.append(bytes, static_cast<std::size_t>(got));
    constexpr std::size_t kPreface = 24;
    if (!peer->preface && peer->in.size() >= kPreface) {
      peer->in.erase(0, kPreface);
      peer->preface = true;
    }
    while (peer->preface && peer->in.size() >= 9) {
      const std::uint32_t size = ToNumber(peer->in, 0, 3);
      if (peer->in.size() < 9 + size) return;
      const std::string payload = peer->in.substr(9, size);
      Take(peer, static_cast<unsigned char>(peer->in[3]),
           static_cast<unsigned char>(peer->in[4]),
           ToNumber(peer->in, 5, 4) & 0x7fff'ffff, payload);
      peer->in.erase(0, 9 + size);
    }
  }

  void Take(Peer* peer, unsigned char type, unsigned char flags,
            std::uint32_t stream, const std::string& payload) {
    if (type == kSettings && (flags & 1) == 0) {
      for (std::size_t at = 0; at + 6 <= payload.size(); at += 6) {
        if (ToNumber(payload, at, 2) != 4) continue;  // The initial window.
        const std::int64_t window = ToNumber(payload, at + 2, 4);
        peer->stream_window += window - peer->initial_window;
        peer->initial_window = window;
      }
      Send(peer, kSettings, 1, 0, "");
    } else if (type == kPing && (flags & 1) == 0) {
      Send(peer, kPing, 1, 0, payload);
    } else if (type == kWindowUpdate && payload.size() == 4) {
      (stream == 0 ? peer->window : peer->stream_window) +=
          ToNumber(payload, 0, 4);
    } else if (type == kHeaders && peer->stream == 0) {
      peer->stream = stream;
      // ":status: 200" of the static table, and one header as it stands.
      Send(peer, kHeaders, 4, stream,
           "\x88" + std::string(1, '\0') + "\x0c" + "content-type" + "\x10" +
               "application/grpc");
      Send(peer, kData, 0, stream, std::string(1, '\0') + "\xff\xff\xff\xff");
      peer->window -= 5;
      peer->stream_window -= 5;
    } else if (type == kReset && stream == peer->stream) {
      peer->over = true;
    }
  }

  static void SendSome(Peer* peer) {
    const std::int64_t bytes = std::min<std::int64_t>(
        {peer->window, peer->stream_window, std::int64_t{16'384}});
    if (bytes <= 0) return;
    Send(peer, kData, 0, peer->stream,
         std::string(static_cast<std::size_t>(bytes), 'x'));
    peer->window -= bytes;
    peer->stream_window -= bytes;
    peer->sent += static_cast<std::uint64_t>(bytes);
  }

  const std::uint64_t most_bytes_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  Mutex mu_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  std::uint64_t first_sent_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace gradtap::testing

#endif  // GRADTAP_TESTS_SUPPORT_ENDLESS_MESSAGE_H_
