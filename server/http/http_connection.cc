#include "server/http/http_connection.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/http/http_api.h"
#include "server/http/request_head.h"

namespace gradtap::server {
namespace {

// How long, and for how many bytes, a client may go on to send what nobody
// reads: closed at once it might not get its answer.
constexpr std::chrono::seconds kRestTime{1};
constexpr std::size_t kRestBytes = std::size_t{1} << 20;
constexpr std::size_t kReadBytes = 4096;
constexpr std::chrono::milliseconds kAskEvery{500};

thread_local HttpConnection* current = nullptr;

const char* ReasonOf(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 414:
      return "URI Too Long";
    case 431:
      return "Request Header Fields Too Large";
    default:
      return "Service Unavailable";
  }
}

std::string PeerOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  return ::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &size) ==
                 0
             ? PeerName(address)
             : "";
}

}  // namespace

void HttpConnections::AwaitNone(
    std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mu_);
  while (!sockets_.empty() && changed_.WaitUntil(mu_, deadline)) {
  }
}

void HttpConnections::EndAll() {
  MutexLock lock(mu_);
  for (const int socket : sockets_) ::shutdown(socket, SHUT_RDWR);
}

HttpConnection::HttpConnection(int socket, HttpConnections* all,
                               std::shared_ptr<ssl_ctx_st> tls)
    : socket_(socket),
      all_(all),
      peer_(PeerOf(socket)),
      client_(ClientOf(peer_)),
      tls_(tls == nullptr
               ? nullptr
               : std::make_unique<TlsSession>(std::move(tls), socket)),
      request_until_(Clock::now() + all->limits_.request_time),
      answer_until_(Clock::now() + all->limits_.request_time +
                    all->limits_.answer_time) {
  current = this;
  MutexLock lock(all_->mu_);
  all_->sockets_.insert(socket_);
  ++all_->of_client_[client_];
}

HttpConnection::~HttpConnection() {
  current = nullptr;
  if (tls_ != nullptr) tls_->Close();
  ::shutdown(socket_, SHUT_WR);
  if (!at_once_) PassOverTheRest();
  {
    MutexLock lock(all_->mu_);
    all_->sockets_.erase(socket_);
    const auto of = all_->of_client_.find(client_);
    if (--of->second == 0) all_->of_client_.erase(of);
    ::close(socket_);  // Not before: the number may be another's then.
  }
  all_->changed_.NotifyAll();
}

bool HttpConnection::Begin() {
  {
    MutexLock lock(all_->mu_);
    if (all_->of_client_.at(client_) <= all_->limits_.of_a_client) return true;
  }
  CutOff(Limit::kClientConnections);
  at_once_ = true;
  if (tls_ == nullptr) {
    Answer(503, "too many connections of one client; close some");
    // With a request unread, closing would take the answer back.
    std::array<char, kReadBytes> rest;
    while (::recv(socket_, rest.data(), rest.size(), MSG_DONTWAIT) > 0) {
    }
  }
  return false;
}

void HttpConnection::Answer(int status, const std::string& message) {
  const HttpAnswer answer =
      ToHttpAnswer(status == 503 ? absl::UnavailableError(message)
                                 : absl::InvalidArgumentError(message));
  const std::string text = absl::StrCat(
      "HTTP/1.1 ", status, " ", ReasonOf(status), "\r\n",
      status == 503 ? "Retry-After: 1\r\n" : "",
      "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
      "Content-Type: ",
      answer.content_type, "\r\nContent-Length: ", answer.body.size(),
      "\r\nConnection: close\r\n\r\n", answer.body);
  Send(text.data(), text.size());
}

void HttpConnection::CutOff(Limit limit) {
  if (!std::exchange(cut_off_, true)) all_->guards_.Refused(limit);
}

bool HttpConnection::Handshake() {
  if (tls_ == nullptr) return true;
  for (;;) {
    const TlsSession::Next next = tls_->Handshake();
    if (next == TlsSession::Next::kDone) return true;
    if (!AwaitFor(next, request_until_)) return false;
  }
}

bool HttpConnection::ReadHead() {
  RequestHead head;
  std::array<char, kReadBytes> bytes;
  for (;;) {
    const ssize_t got = ReceiveRequest(bytes.data(), bytes.size());
    if (got <= 0) return false;
    switch (head.Add({bytes.data(), static_cast<std::size_t>(got)})) {
      case RequestHead::State::kMore:
        continue;
      case RequestHead::State::kWhole:
        buffer_ = head.TakeText();
        return true;
      case RequestHead::State::kRefused:
        if (head.status() != 400) CutOff(Limit::kRequestBytes);
        Answer(head.status(), head.message());
        return false;
    }
  }
}

HttpConnection* HttpConnection::Current() { return current; }

void HttpConnection::RenewAnswer() {
  answer_until_ = Clock::now() + all_->limits_.answer_time;
}

bool HttpConnection::HasGone() const {
  pollfd file{socket_, POLLRDHUP, 0};
  return ::poll(&file, 1, 0) > 0 &&
         (file.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

bool HttpConnection::is_readable() const {
  if (request_ended_) return false;
  return taken_ < buffer_.size() || (tls_ != nullptr && tls_->pending()) ||
         Await(POLLIN, request_until_);
}

HttpConnection::Clock::time_point HttpConnection::WriteUntil() const {
  return std::min(answer_until_,
                  Clock::now() + Clock::duration(all_->limits_.write_time));
}

bool HttpConnection::is_writable() const {
  return Await(POLLOUT, WriteUntil());
}

bool HttpConnection::AwaitRoom() {
  const auto until = WriteUntil();
  for (;;) {
    if (may_ && !may_()) return false;
    const auto now = Clock::now();
    if (Await(POLLOUT, may_ ? std::min(until, now + kAskEvery) : until)) {
      return true;
    }
    // A wait ends within its last millisecond.
    if (may_ && Clock::now() + std::chrono::milliseconds(1) < until) continue;
    CutOff(Limit::kAnswerTime);
    return false;
  }
}

ssize_t HttpConnection::read(char* to, std::size_t size) {
  if (request_ended_) return -1;
  if (taken_ == buffer_.size()) {
    taken_ = 0;
    buffer_.resize(kReadBytes);
    const ssize_t got = ReceiveRequest(buffer_.data(), buffer_.size());
    buffer_.resize(got <= 0 ? 0 : static_cast<std::size_t>(got));
    if (got <= 0) return got;
  }
  const std::size_t n = std::min(size, buffer_.size() - taken_);
  std::memcpy(to, buffer_.data() + taken_, n);
  taken_ += n;
  return static_cast<ssize_t>(n);
}

ssize_t HttpConnection::ReceiveRequest(char* to, std::size_t size) {
  const std::size_t left = all_->limits_.request_bytes - request_bytes_;
  if (left == 0) {
    CutOff(Limit::kRequestBytes);
    return -1;
  }
  const ssize_t got = Receive(to, std::min(left, size));
  // A wait ends within its last millisecond.
  if (got < 0 &&
      Clock::now() + std::chrono::milliseconds(1) >= request_until_) {
    CutOff(Limit::kRequestTime);
  }
  if (got > 0) request_bytes_ += static_cast<std::size_t>(got);
  return got;
}

ssize_t HttpConnection::write(const char* from, std::size_t size) {
  for (;;) {
    if (!AwaitRoom()) return -1;
    const ssize_t sent = Send(from, size);
    if (sent >= 0 || (errno != EINTR && errno != EAGAIN)) return sent;
  }
}

ssize_t HttpConnection::Receive(char* to, std::size_t size) {
  if (tls_ == nullptr) {
    if (!Await(POLLIN, request_until_)) return -1;
    ssize_t got = 0;
    do {
      got = ::recv(socket_, to, size, 0);
    } while (got < 0 && errno == EINTR);
    return got;
  }
  for (;;) {
    // Or a client that sends records without a byte in them goes on for ever.
    if (Clock::now() >= request_until_) return -1;
    std::size_t got = 0;
    const TlsSession::Next next = tls_->Read(to, size, &got);
    if (next == TlsSession::Next::kDone) return static_cast<ssize_t>(got);
    if (next == TlsSession::Next::kClosed) return 0;
    if (!AwaitFor(next, request_until_)) return -1;
  }
}

// As send() has it: EAGAIN, when it could not be sent now.
ssize_t HttpConnection::Send(const char* from, std::size_t size) {
  if (tls_ == nullptr) {
    return ::send(socket_, from, size, MSG_NOSIGNAL | MSG_DONTWAIT);
  }
  std::size_t sent = 0;
  const TlsSession::Next next = tls_->Write(from, size, &sent);
  if (next == TlsSession::Next::kDone) return static_cast<ssize_t>(sent);
  errno = next == TlsSession::Next::kWrite ? EAGAIN : EPIPE;
  return -1;
}

// Nobody asks: peer() has it.
void HttpConnection::get_remote_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

void HttpConnection::get_local_ip_and_port(std::string& ip, int& port) const {
  ip.clear();
  port = 0;
}

bool HttpConnection::Await(short events, Clock::time_point deadline) const {
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - Clock::now());
    // Even if there is something: somebody may send a byte now and then.
    if (left.count() <= 0) return false;
    pollfd file{socket_, events, 0};
    const int ready =
        ::poll(&file, 1,
               static_cast<int>(std::min<std::int64_t>(left.count(), 60'000)));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

bool HttpConnection::AwaitFor(TlsSession::Next next,
                              Clock::time_point deadline) const {
  switch (next) {
    case TlsSession::Next::kRead:
      return Await(POLLIN, deadline);
    case TlsSession::Next::kWrite:
      return Await(POLLOUT, deadline);
    default:
      return false;
  }
}

void HttpConnection::PassOverTheRest() {
  const auto until = Clock::now() + kRestTime;
  std::array<char, kReadBytes> rest;
  std::size_t bytes = 0;
  while (bytes < kRestBytes && Await(POLLIN, until)) {
    const ssize_t got = ::recv(socket_, rest.data(), rest.size(), 0);
    if (got <= 0) return;
    bytes += static_cast<std::size_t>(got);
  }
}

}  // namespace gradtap::server
