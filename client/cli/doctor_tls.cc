// A TLS handshake to look at the other side's certificate: what gRPC says of
// one that fails does not tell an expired one from one of another name.
//
// Layer: client/cli. This file: OpenSSL. Nothing is sent but the handshake.

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/cli/doctor_world.h"

namespace gradtap::client {
namespace {

using Steady = std::chrono::steady_clock;

struct Free {
  void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  void operator()(SSL* ssl) const { SSL_free(ssl); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() { ::close(fd_); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

std::string LastReason() {
  const unsigned long code = ERR_peek_last_error();
  const char* text = code == 0 ? nullptr : ERR_reason_error_string(code);
  return text == nullptr ? "the connection was closed" : text;
}

// Never asks at a terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

// Goes on whatever is wrong, and notes it.
int NoteError(int ok, X509_STORE_CTX* store) {
  if (ok == 1) return 1;
  auto* const ssl = static_cast<SSL*>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* const peer = static_cast<PeerCertificate*>(SSL_get_app_data(ssl));
  const int error = X509_STORE_CTX_get_error(store);
  if (error == X509_V_ERR_CERT_HAS_EXPIRED) {
    peer->expired = true;
  } else if (error == X509_V_ERR_CERT_NOT_YET_VALID) {
    peer->not_yet_valid = true;
  } else if (peer->distrust.empty()) {
    peer->distrust = X509_verify_cert_error_string(error);
  }
  return 1;
}

absl::Status UseFiles(const ChannelOptions& options, SSL_CTX* context) {
  SSL_CTX_set_default_passwd_cb(context, NoPassphrase);
  if (!options.tls_ca_file.empty()) {
    if (SSL_CTX_load_verify_file(context, options.tls_ca_file.c_str()) != 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the authorities in GRADTAP_TLS_CA cannot be used: ", LastReason()));
    }
  } else {
    SSL_CTX_set_default_verify_paths(context);
  }
  if (options.tls_cert_file.empty() || options.tls_key_file.empty()) {
    return absl::OkStatus();
  }
  if (SSL_CTX_use_certificate_chain_file(context,
                                         options.tls_cert_file.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(context, options.tls_key_file.c_str(),
                                  SSL_FILETYPE_PEM) != 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "GRADTAP_TLS_CERT and GRADTAP_TLS_KEY cannot be used: ", LastReason()));
  }
  return absl::OkStatus();
}

// Waits for what `ssl` waits for after a call that returned `result`. False:
// nothing will come, or not in time.
bool WaitFor(SSL* ssl, int result, int fd, Steady::time_point until) {
  const int wants = SSL_get_error(ssl, result);
  if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE) {
    return false;
  }
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      until - Steady::now());
  pollfd wait{
      fd, static_cast<short>(wants == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT),
      0};
  const int ready = ::poll(
      &wait, 1,
      static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, 1 << 30)));
  return ready > 0 || (ready < 0 && errno == EINTR);
}

std::string NameText(const X509_NAME* name) {
  const std::unique_ptr<BIO, Free> bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253);
  char* text = nullptr;
  const long bytes = BIO_get_mem_data(bio.get(), &text);
  return bytes > 0 ? std::string(text, static_cast<std::size_t>(bytes)) : "";
}

std::int64_t UnixSeconds(const ASN1_TIME* time) {
  std::tm utc{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &utc) != 1) return 0;
  return ::timegm(&utc);
}

std::vector<std::string> HostNames(X509* cert) {
  std::vector<std::string> names;
  const std::unique_ptr<GENERAL_NAMES, Free> all(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(cert, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; i < sk_GENERAL_NAME_num(all.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(all.get(), i);
    if (name->type == GEN_DNS) {
      names.emplace_back(
          reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
          static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      char text[INET6_ADDRSTRLEN] = "";
      const int bytes = ASN1_STRING_length(name->d.iPAddress);
      if ((bytes == 4 || bytes == 16) &&
          ::inet_ntop(bytes == 4 ? AF_INET : AF_INET6,
                      ASN1_STRING_get0_data(name->d.iPAddress), text,
                      sizeof(text)) != nullptr) {
        names.emplace_back(text);
      }
    }
  }
  return names;
}

void Describe(X509* cert, const std::string& host, PeerCertificate* peer) {
  peer->subject = NameText(X509_get_subject_name(cert));
  peer->issuer = NameText(X509_get_issuer_name(cert));
  peer->names = HostNames(cert);
  peer->not_before_unix_s = UnixSeconds(X509_get0_notBefore(cert));
  peer->not_after_unix_s = UnixSeconds(X509_get0_notAfter(cert));
  peer->for_host =
      host.empty() ||
      X509_check_host(cert, host.data(), host.size(), 0, nullptr) == 1 ||
      X509_check_ip_asc(cert, host.c_str(), 0) == 1;
}

// Called where the other side asks for a certificate of ours.
int NoteAsked(SSL*, void* asked) {
  *static_cast<bool*>(asked) = true;
  return 1;
}

// To us the handshake is over before ours has been looked at: a collector that
// takes it goes on with its first frame, and one that does not hangs up.
bool HangsUp(SSL* ssl, int fd, Steady::time_point until) {
  char byte = 0;
  for (;;) {
    ERR_clear_error();
    const int got = SSL_peek(ssl, &byte, 1);
    if (got > 0) return false;
    if (!WaitFor(ssl, got, fd, until)) return Steady::now() < until;
  }
}

}  // namespace

PeerCertificate ShakeHands(const std::string& address, const std::string& host,
                           const ChannelOptions& options) {
  PeerCertificate peer;
  ERR_clear_error();
  const std::unique_ptr<SSL_CTX, Free> context(
      SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) {
    peer.handshake = absl::InternalError(LastReason());
    return peer;
  }
  peer.handshake = UseFiles(options, context.get());
  if (!peer.handshake.ok()) return peer;
  const absl::StatusOr<int> connected =
      ConnectSocket(address, options.connect_deadline);
  if (!connected.ok()) {
    peer.handshake = connected.status();
    return peer;
  }
  const Fd fd(*connected);
  const std::unique_ptr<SSL, Free> ssl(SSL_new(context.get()));
  SSL_set_app_data(ssl.get(), &peer);
  SSL_set_verify(ssl.get(), SSL_VERIFY_PEER, NoteError);
  bool asked_for_ours = false;
  SSL_set_cert_cb(ssl.get(), NoteAsked, &asked_for_ours);
  constexpr unsigned char kHttp2[] = {2, 'h', '2'};
  SSL_set_alpn_protos(ssl.get(), kHttp2, sizeof(kHttp2));
  in6_addr ignored{};
  if (!host.empty() && ::inet_pton(AF_INET, host.c_str(), &ignored) != 1 &&
      ::inet_pton(AF_INET6, host.c_str(), &ignored) != 1) {
    SSL_set_tlsext_host_name(ssl.get(), host.c_str());
  }
  SSL_set_fd(ssl.get(), fd.get());
  const auto until = Steady::now() + options.connect_deadline;
  for (;;) {
    ERR_clear_error();
    const int done = SSL_connect(ssl.get());
    if (done == 1) break;
    if (!WaitFor(ssl.get(), done, fd.get(), until)) {
      peer.handshake = absl::UnavailableError(absl::StrCat(
          "no TLS handshake: ",
          Steady::now() >= until ? "no answer in time" : LastReason()));
      return peer;
    }
  }
  const std::unique_ptr<X509, Free> cert(SSL_get1_peer_certificate(ssl.get()));
  if (cert != nullptr) Describe(cert.get(), host, &peer);
  peer.refused_ours = asked_for_ours && HangsUp(ssl.get(), fd.get(), until);
  return peer;
}

}  // namespace gradtap::client
