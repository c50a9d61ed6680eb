#include "bench/peers/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>

namespace gradtap::bench {

HttpConnection::HttpConnection(int port) : port_(port) { Connect(); }

HttpConnection::~HttpConnection() { ::close(socket_); }

void HttpConnection::Connect() {
  if (socket_ >= 0) ::close(socket_);
  buffer_.clear();
  at_ = 0;
  socket_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port_));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address),
                sizeof address) != 0) {
    throw std::runtime_error("nobody listens at port " + std::to_string(port_));
  }
  const int on = 1;
  ::setsockopt(socket_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::string HttpConnection::Get(const std::string& target) {
  return Ask("GET " + target + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "");
}

std::string HttpConnection::Post(const std::string& target,
                                 std::string_view body) {
  return Ask("POST " + target +
                 " HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: " +
                 std::to_string(body.size()) + "\r\n\r\n",
             body);
}

std::string HttpConnection::Ask(const std::string& head,
                                std::string_view body) {
  // Servers close connections that they have not heard of for seconds.
  char byte = 0;
  if (::recv(socket_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) Connect();
  Send(head);
  Send(body);
  const std::string status = Line();
  bool closes = false;
  std::string answer = ReadBody(&closes);
  if (closes) Connect();
  if (status.size() < 10 || status[9] != '2') {
    throw std::runtime_error(head.substr(0, head.find('\r')).substr(0, 300) +
                             ": " + status + ": " + answer.substr(0, 500));
  }
  return answer;
}

void HttpConnection::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) throw std::runtime_error("the server has closed");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
}

bool HttpConnection::Fill() {
  if (at_ > 0) {
    buffer_.erase(0, at_);
    at_ = 0;
  }
  const std::size_t size = buffer_.size();
  buffer_.resize(size + (1 << 18));
  const ssize_t n = ::recv(socket_, buffer_.data() + size, 1 << 18, 0);
  buffer_.resize(size + static_cast<std::size_t>(n > 0 ? n : 0));
  return n > 0;
}

std::string HttpConnection::Line() {
  for (;;) {
    const std::size_t end = buffer_.find("\r\n", at_);
    if (end != std::string::npos) {
      std::string line = buffer_.substr(at_, end - at_);
      at_ = end + 2;
      return line;
    }
    if (!Fill()) throw std::runtime_error("the server has closed");
  }
}

std::string HttpConnection::Take(std::size_t size) {
  std::string taken;
  taken.reserve(size);
  while (taken.size() < size) {
    if (at_ == buffer_.size() && !Fill()) {
      throw std::runtime_error("the server has closed");
    }
    const std::size_t n = std::min(size - taken.size(), buffer_.size() - at_);
    taken.append(buffer_, at_, n);
    at_ += n;
  }
  return taken;
}

// The head from the second line on, then the body.
std::string HttpConnection::ReadBody(bool* closes) {
  std::size_t length = 0;
  bool chunked = false;
  for (std::string line = Line(); !line.empty(); line = Line()) {
    const auto is = [&line](std::string_view start) {
      return ::strncasecmp(line.c_str(), start.data(), start.size()) == 0;
    };
    if (is("content-length:")) length = std::stoull(line.substr(15));
    if (is("transfer-encoding: chunked")) chunked = true;
    if (is("connection: close")) *closes = true;
  }
  if (!chunked) return Take(length);
  std::string body;
  for (;;) {
    const std::size_t size = std::stoull(Line(), nullptr, 16);
    body += Take(size);
    Line();
    if (size == 0) return body;
  }
}

std::string UrlEncoded(std::string_view text) {
  static const char* const kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
        (c >= 'A' && c <= 'Z') || c == '_' || c == '.') {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace gradtap::bench
