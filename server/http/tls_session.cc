#include "server/http/tls_session.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <utility>

namespace gradtap::server {

TlsSession::TlsSession(std::shared_ptr<ssl_ctx_st> context, int socket)
    : context_(std::move(context)), ssl_(SSL_new(context_.get())) {
  if (ssl_ == nullptr) return;
  ::fcntl(socket, F_SETFL, ::fcntl(socket, F_GETFL) | O_NONBLOCK);
  SSL_set_fd(ssl_, socket);
  SSL_set_accept_state(ssl_);
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

TlsSession::Next TlsSession::Handshake() {
  if (ssl_ == nullptr) return Next::kFailed;
  ERR_clear_error();
  return Outcome(SSL_do_handshake(ssl_));
}

TlsSession::Next TlsSession::Read(char* to, std::size_t size,
                                  std::size_t* bytes) {
  if (ssl_ == nullptr) return Next::kFailed;
  ERR_clear_error();
  return Outcome(SSL_read_ex(ssl_, to, size, bytes));
}

TlsSession::Next TlsSession::Write(const char* from, std::size_t size,
                                   std::size_t* bytes) {
  if (ssl_ == nullptr) return Next::kFailed;
  ERR_clear_error();
  return Outcome(SSL_write_ex(ssl_, from, size, bytes));
}

void TlsSession::Close() {
  // After a fatal error OpenSSL permits nothing more.
  if (ssl_ == nullptr || broken_ || SSL_is_init_finished(ssl_) != 1) return;
  SSL_shutdown(ssl_);
  ERR_clear_error();
}

bool TlsSession::pending() const {
  return ssl_ != nullptr && SSL_has_pending(ssl_) == 1;
}

TlsSession::Next TlsSession::Outcome(int result) {
  if (result == 1) return Next::kDone;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
      return Next::kRead;
    case SSL_ERROR_WANT_WRITE:
      return Next::kWrite;
    case SSL_ERROR_ZERO_RETURN:
      return Next::kClosed;
    default:
      broken_ = true;
      ERR_clear_error();
      return Next::kFailed;
  }
}

}  // namespace gradtap::server
