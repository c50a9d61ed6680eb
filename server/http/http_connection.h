// One connection, as the HTTP library reads and writes it: one request, and an
// answer. What the library leaves open is bounded here: what a head is like and
// how many bytes a request has, how long it takes to come, how long its answer
// takes to leave.
// After the answer the connection is closed, so that what a client sent behind
// a request is never taken for another one.
//
// Layer: server/http. This file: std, core, cpp-httplib, POSIX.

#ifndef GRADTAP_SERVER_HTTP_HTTP_CONNECTION_H_
#define GRADTAP_SERVER_HTTP_HTTP_CONNECTION_H_

#include <httplib.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/sync.h"
#include "server/http/http_limits.h"
#include "server/http/tls_session.h"
#include "server/limits/guards.h"

namespace gradtap::server {

class HttpConnection;

// The open ones. Thread-safe.
class HttpConnections {
 public:
  explicit HttpConnections(const ConnectionLimits& limits, Guards guards = {})
      : limits_(limits), guards_(guards) {}

  const ConnectionLimits& limits() const { return limits_; }

  // Returns when there is none, or at the deadline.
  void AwaitNone(std::chrono::steady_clock::time_point deadline)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Ends those that there are: what they read or write fails.
  void EndAll() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  friend class HttpConnection;
  const ConnectionLimits limits_;
  const Guards guards_;
  Mutex mu_;
  CondVar changed_;
  std::set<int> sockets_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::size_t> of_client_ ABSL_GUARDED_BY(mu_);
};

// What the library asks a stream in any of its versions: some of these are its
// own, so that there is no `override`.
class StreamOfAnyVersion : public httplib::Stream {
 public:
  virtual bool is_readable() const = 0;  // Within the time that there is.
  virtual bool is_writable() const = 0;
  virtual bool wait_readable() const { return is_readable(); }
  virtual bool wait_writable() const { return is_writable(); }
  virtual time_t duration() const { return 0; }  // Limits are our own.
};

// By one thread, which serves it.
class HttpConnection final : public StreamOfAnyVersion {
 public:
  // Takes the socket. `all` must outlive it. `tls`: null: in the clear.
  HttpConnection(int socket, HttpConnections* all,
                 std::shared_ptr<ssl_ctx_st> tls = nullptr);
  // Closes: the other side gets what has been written.
  ~HttpConnection() override;
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  // To be called first. False: this client has all the connections that one
  // may have; it has been told so, unless that were to be told over TLS.
  bool Begin();
  // To be called then. False: the other side does not speak TLS, or is not let
  // in. True without TLS.
  bool Handshake();
  // And then: reads the head, for read() to give it. False: it has not come, or
  // is none that is read, which the other side has been told.
  bool ReadHead();

  // Who is at the other end: "ipv4:192.0.2.1:4000".
  const std::string& peer() const { return peer_; }

  // That which this thread serves.
  static HttpConnection* Current();

  // Whose it is, for those who are asked for no token.
  const std::string& client() const { return client_; }

  // Of what is sent now, until the connection ends. May be null.
  void Hold(std::shared_ptr<HeldAnswer> answer) { answer_ = std::move(answer); }
  const Guards& guards() const { return all_->guards_; }
  // It is answered: what is still to come of the request is not read, as newer
  // versions of the library would.
  void EndRequest() { request_ended_ = true; }
  // What is sent from now on has its time anew: an answer without an end goes
  // on for as long as the other side reads what there is.
  void RenewAnswer();
  // Asked before each write, and about twice a second while it waits for its
  // reader, who may take a byte now and then. False: the write fails. Empty: it
  // goes on.
  void GoesOnWhile(std::function<bool()> may) { may_ = std::move(may); }
  // The other side has closed, or half of it: it reads no more. While the
  // connection is there any thread may ask.
  bool HasGone() const;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, std::size_t size) override;
  ssize_t write(const char* from, std::size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

 private:
  using Clock = std::chrono::steady_clock;

  // False: not before the deadline.
  bool Await(short events, Clock::time_point deadline) const;
  // What the socket has to be ready for; false: not before the deadline, or it
  // is over.
  bool AwaitFor(TlsSession::Next next, Clock::time_point deadline) const;
  Clock::time_point WriteUntil() const;
  // False: what is to be sent cannot leave in time, which is counted, or may
  // not any more.
  bool AwaitRoom();
  // The next bytes of the request, counted; as recv() has it.
  ssize_t ReceiveRequest(char* to, std::size_t size);
  ssize_t Receive(char* to, std::size_t size);
  // What the other side is told by us, and not by the library.
  void Answer(int status, const std::string& message);
  ssize_t Send(const char* from, std::size_t size);
  void PassOverTheRest();
  // It is cut off for that.
  void CutOff(Limit limit);

  const int socket_;
  HttpConnections* const all_;
  const std::string peer_;                 // As gRPC says it.
  const std::string client_;               // Whose it is.
  const std::unique_ptr<TlsSession> tls_;  // Null: in the clear.
  const Clock::time_point request_until_;
  Clock::time_point answer_until_;
  std::size_t request_bytes_ = 0;
  std::shared_ptr<HeldAnswer> answer_;
  std::function<bool()> may_;
  bool request_ended_ = false;
  bool cut_off_ = false;   // And counted.
  bool at_once_ = false;   // It is closed without a look at what still comes.
  std::string buffer_;     // Of the request,
  std::size_t taken_ = 0;  // and how many of its bytes have been read.
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_HTTP_CONNECTION_H_
