// TLS over a socket that does not block, the server's side of it.
//
// Layer: server/http. This file: std; OpenSSL's types by name only.

#ifndef GRADTAP_SERVER_HTTP_TLS_SESSION_H_
#define GRADTAP_SERVER_HTTP_TLS_SESSION_H_

#include <cstddef>
#include <memory>

struct ssl_ctx_st;
struct ssl_st;

namespace gradtap::server {

// One thread at a time. Nothing waits: what cannot be done now says what the
// socket has to be ready for.
class TlsSession {
 public:
  enum class Next { kDone, kRead, kWrite, kClosed, kFailed };

  // The socket stays the caller's, and is made not to block.
  TlsSession(std::shared_ptr<ssl_ctx_st> context, int socket);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  Next Handshake();
  // kDone: `*bytes` of `size`, at least one.
  Next Read(char* to, std::size_t size, std::size_t* bytes);
  Next Write(const char* from, std::size_t size, std::size_t* bytes);
  // Tells the other side that nothing more comes, if it can be told now.
  void Close();

  // Bytes that have been read off the socket wait for Read().
  bool pending() const;

 private:
  Next Outcome(int result);

  const std::shared_ptr<ssl_ctx_st> context_;
  ssl_st* const ssl_;  // Null: out of memory.
  bool broken_ = false;
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_HTTP_TLS_SESSION_H_
