// An HTTP/2 client by hand, which says what a test wants it to say.

#ifndef GRADTAP_TESTS_SERVER_SERVICE_RAW_PEER_H_
#define GRADTAP_TESTS_SERVER_SERVICE_RAW_PEER_H_

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

namespace gradtap::server::testing {

// A connection to HOST:PORT of this machine, or -1.
inline int ConnectTo(const std::string& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(
      std::stoi(address.substr(address.rfind(':') + 1))));
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 &&
      ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
    return fd;
  }
  if (fd >= 0) ::close(fd);
  return -1;
}

// True once the other side has closed; false: not within a minute.
inline bool AwaitClosed(int fd) {
  char buffer[4096];
  for (;;) {
    pollfd file{fd, POLLIN, 0};
    if (::poll(&file, 1, 60'000) <= 0) return false;
    if (::recv(fd, buffer, sizeof buffer, 0) <= 0) return true;
  }
}

// Calls of one connection, without a deadline; of the first one more than its
// head. One thread.
class RawPeer {
 public:
  // `window`: so many bytes of an answer the call takes, and no more.
  RawPeer(const std::string& address, const std::string& path,
          std::uint32_t window = 65'535)
      : fd_(ConnectTo(address)) {
    const std::pair<std::string, std::string> headers[] = {
        {":method", "POST"}, {":scheme", "http"},
        {":path", path},     {":authority", "host"},
        {"te", "trailers"},  {"content-type", "application/grpc"}};
    for (const auto& [name, value] : headers) {
      fields_ += '\0';
      for (const std::string& text : {name, value}) {
        fields_ += static_cast<char>(text.size());
        fields_ += text;
      }
    }
    Send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" +
         Frame(kSettings, 0, 0, Number(kInitialWindow, 2) + Number(window, 4)) +
         Frame(kHeaders, kEndHeaders, 1, fields_));
  }
  ~RawPeer() { ::close(fd_); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;

  // The heads of so many calls more, whatever the other side permits: its
  // settings have not been read.
  void SendHeads(std::uint32_t calls) {
    std::string heads;
    for (std::uint32_t i = 1; i <= calls; ++i) {
      heads += Frame(kHeaders, kEndHeaders, 1 + 2 * i, fields_);
    }
    Send(heads);
  }

  // One whole message of the call.
  void SendMessage(const std::string& message) {
    const std::string framed =
        '\0' + Number(static_cast<std::uint32_t>(message.size()), 4) + message;
    SendData(framed, framed.size());
  }

  // Bytes of the call, as the windows of the other side let them. How many have
  // left before the call was ended.
  std::uint64_t SendData(const std::string& head, std::uint64_t bytes) {
    std::uint64_t sent = 0;
    while (sent < bytes && !ended_) {
      const auto room =
          std::min<std::int64_t>({connection_window_, stream_window_, 16'384,
                                  static_cast<std::int64_t>(bytes - sent)});
      if (room <= 0) {
        Read(60'000);
        continue;
      }
      std::string data(static_cast<std::size_t>(room), '\0');
      if (sent == 0) data.replace(0, std::min(head.size(), data.size()), head);
      Send(Frame(kData, 0, 1, data));
      connection_window_ -= room;
      stream_window_ -= room;
      sent += static_cast<std::uint64_t>(room);
      Read(0);
    }
    return sent;
  }

  // How many calls at a time the other side lets this connection have; 0: it
  // has said none.
  std::uint32_t AwaitMaxStreams() {
    while (max_streams_ == 0 && !ended_ && Read(60'000)) {
    }
    return max_streams_;
  }

  // Closed, or the call was reset or answered.
  bool ended() const { return ended_; }
  bool AwaitEnd() {
    while (!ended_ && Read(60'000)) {
    }
    return ended_;
  }
  // Of the connection, whatever became of the call. What comes is read and no
  // more is asked for: of an answer there is a window's worth.
  bool AwaitClosed() { return testing::AwaitClosed(fd_); }

 private:
  enum Kind : char {
    kData = 0,
    kHeaders = 1,
    kReset = 3,
    kSettings = 4,
    kGoAway = 7,
    kWindow = 8
  };
  static constexpr std::uint32_t kMaxStreams = 3;  // Settings.
  static constexpr std::uint32_t kInitialWindow = 4;
  static constexpr char kEndStream = 1;
  static constexpr char kEndHeaders = 4;
  static constexpr char kAck = 1;

  static std::string Number(std::uint32_t number, int bytes) {
    std::string out;
    while (bytes-- > 0) out += static_cast<char>(number >> (8 * bytes));
    return out;
  }
  static std::uint32_t NumberAt(const std::string& text, std::size_t at,
                                int bytes) {
    std::uint32_t number = 0;
    for (int i = 0; i < bytes; ++i) {
      number = number << 8 |
               static_cast<unsigned char>(text[at + static_cast<unsigned>(i)]);
    }
    return number;
  }
  static std::string Frame(Kind kind, char flags, std::uint32_t stream,
                           const std::string& payload) {
    return Number(static_cast<std::uint32_t>(payload.size()), 3) +
           static_cast<char>(kind) + flags + Number(stream, 4) + payload;
  }

  void Send(const std::string& bytes) {
    for (std::size_t sent = 0; sent < bytes.size();) {
      const ssize_t n =
          ::send(fd_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) {
        ended_ = true;
        return;
      }
      sent += static_cast<std::size_t>(n);
    }
  }

  // False: nothing came.
  bool Read(int wait_ms) {
    pollfd file{fd_, POLLIN, 0};
    if (::poll(&file, 1, wait_ms) <= 0) return false;
    char buffer[16'384];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0) {
      ended_ = true;
      return true;
    }
    unread_.append(buffer, static_cast<std::size_t>(n));
    while (unread_.size() >= 9) {
      const std::size_t size = NumberAt(unread_, 0, 3);
      if (unread_.size() < 9 + size) break;
      Take(static_cast<Kind>(unread_[3]), unread_[4], NumberAt(unread_, 5, 4),
           unread_.substr(9, size));
      unread_.erase(0, 9 + size);
    }
    return true;
  }

  void Take(Kind kind, char flags, std::uint32_t stream,
            const std::string& payload) {
    if (kind == kWindow) {
      (stream == 0 ? connection_window_ : stream_window_) +=
          NumberAt(payload, 0, 4);
    } else if (kind == kSettings && (flags & kAck) == 0) {
      for (std::size_t at = 0; at + 6 <= payload.size(); at += 6) {
        const std::uint32_t setting = NumberAt(payload, at, 2);
        if (setting == kMaxStreams) max_streams_ = NumberAt(payload, at + 2, 4);
        if (setting != kInitialWindow) continue;
        const auto initial =
            static_cast<std::int64_t>(NumberAt(payload, at + 2, 4));
        stream_window_ += initial - initial_window_;
        initial_window_ = initial;
      }
      Send(Frame(kSettings, kAck, 0, ""));
    } else if ((kind == kHeaders && (flags & kEndStream) != 0) ||
               kind == kReset || kind == kGoAway) {
      ended_ = true;
    }
  }

  const int fd_;
  std::string fields_;
  std::string unread_;
  std::int64_t connection_window_ = 65'535;
  std::int64_t stream_window_ = 65'535;
  std::int64_t initial_window_ = 65'535;
  std::uint32_t max_streams_ = 0;
  bool ended_ = false;
};

}  // namespace gradtap::server::testing

#endif  // GRADTAP_TESTS_SERVER_SERVICE_RAW_PEER_H_
