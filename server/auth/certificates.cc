#include "server/auth/certificates.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <ctime>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxPemBytes = std::size_t{1} << 20;
constexpr std::chrono::seconds kLookEvery{1};
constexpr std::int64_t kEndsSoonS = std::int64_t{14} * 24 * 3600;
// The options that name the files.
constexpr char kCert[] = "--tls-cert";
constexpr char kKey[] = "--tls-key";
constexpr char kClientCa[] = "--tls-client-ca";

struct Free {
  void operator()(BIO* bio) const { BIO_free(bio); }
  void operator()(X509* cert) const { X509_free(cert); }
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Bio = std::unique_ptr<BIO, Free>;
using Cert = std::unique_ptr<X509, Free>;
using Key = std::unique_ptr<EVP_PKEY, Free>;

Bio Memory(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

absl::Status Unusable(const std::string& path, const char* why) {
  std::string reason;
  if (const unsigned long code = ERR_peek_last_error(); code != 0) {
    const char* text = ERR_reason_error_string(code);
    if (text != nullptr) reason = absl::StrCat(" (", text, ")");
  }
  ERR_clear_error();
  return absl::FailedPreconditionError(
      absl::StrCat(EscapeForTerminal(path), " ", why, reason));
}

// What is wrong with the file of an option of gradtapd's.
absl::Status OfOption(const char* option, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::FailedPreconditionError(
      absl::StrCat(option, ": ", status.message()));
}

// Never asks at a terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

// After the last certificate of a file: that was no half of another one.
absl::Status ReadToItsEnd(const std::string& path) {
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) {
    return Unusable(path, "is cut off, or damaged, within a certificate");
  }
  ERR_clear_error();
  return absl::OkStatus();
}

absl::Status UseChain(const std::string& pem, const std::string& path,
                      SSL_CTX* context) {
  const Bio bio = Memory(pem);
  const Cert leaf(
      PEM_read_bio_X509_AUX(bio.get(), nullptr, NoPassphrase, nullptr));
  if (leaf == nullptr || SSL_CTX_use_certificate(context, leaf.get()) != 1) {
    return Unusable(path, "has no usable certificate");
  }
  while (X509* next =
             PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr)) {
    if (SSL_CTX_add0_chain_cert(context, next) != 1) {
      X509_free(next);
      return Unusable(path, "has a chain that cannot be used");
    }
  }
  return ReadToItsEnd(path);
}

absl::Status UseKey(const std::string& pem, const CertificateFiles& files,
                    SSL_CTX* context) {
  const Bio bio = Memory(pem);
  const Key key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (key == nullptr) {
    return Unusable(files.key, "has no usable key without a passphrase");
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
      SSL_CTX_check_private_key(context) != 1) {
    return Unusable(files.key, absl::StrCat("is not the key of ",
                                            EscapeForTerminal(files.cert))
                                   .c_str());
  }
  return absl::OkStatus();
}

absl::Status TrustClients(const std::string& pem, const std::string& path,
                          SSL_CTX* context) {
  const Bio bio = Memory(pem);
  X509_STORE* const store = SSL_CTX_get_cert_store(context);
  int found = 0;
  for (;; ++found) {
    const Cert cert(
        PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (cert == nullptr) break;
    if (X509_STORE_add_cert(store, cert.get()) != 1 ||
        SSL_CTX_add_client_CA(context, cert.get()) != 1) {
      return Unusable(path, "has an authority that cannot be used");
    }
  }
  if (found == 0) return Unusable(path, "has no certificate of an authority");
  if (absl::Status s = ReadToItsEnd(path); !s.ok()) return s;
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     nullptr);
  return absl::OkStatus();
}

std::int64_t UnixSeconds(const ASN1_TIME* time) {
  std::tm utc{};
  return ASN1_TIME_to_tm(time, &utc) == 1 ? ::timegm(&utc) : 0;
}

std::string TimeText(std::int64_t unix_s) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%SZ", absl::FromUnixSeconds(unix_s),
                          absl::UTCTimeZone());
}

}  // namespace

absl::StatusOr<std::unique_ptr<Certificates>> Certificates::Read(
    const CertificateFiles& files, const Clock* clock,
    std::function<void(const std::string&)> say) {
  std::unique_ptr<Certificates> all(
      new Certificates(files, clock, std::move(say)));
  const Stamps stamps = all->StampsNow();
  absl::StatusOr<std::shared_ptr<Certificate>> first = all->ReadAll();
  if (!first.ok()) return first.status();
  (*first)->generation = 1;
  all->SayIfOpen();
  all->SayIfOutOfDate(**first);
  all->stamps_ = stamps;
  MutexLock lock(all->mu_);
  all->current_ = *std::move(first);
  return all;
}

Certificates::Certificates(const CertificateFiles& files, const Clock* clock,
                           std::function<void(const std::string&)> say)
    : files_(files),
      clock_(clock),
      say_(std::move(say)),
      look_(clock, kLookEvery) {}

Certificates::Stamps Certificates::StampsNow() const {
  return {StampOf(files_.cert), StampOf(files_.key),
          files_.client_ca.empty() ? FileStamp() : StampOf(files_.client_ca)};
}

absl::StatusOr<std::shared_ptr<Certificate>> Certificates::ReadAll() const {
  auto read = std::make_shared<Certificate>();
  const std::tuple<const char*, const std::string&, std::string*> wanted[] = {
      {kCert, files_.cert, &read->cert_pem},
      {kKey, files_.key, &read->key_pem},
      {kClientCa, files_.client_ca, &read->client_ca_pem}};
  for (const auto& [option, path, pem] : wanted) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> text = ReadSmall(path, kMaxPemBytes);
    if (!text.ok()) return OfOption(option, text.status());
    *pem = *std::move(text);
  }
  ERR_clear_error();
  read->context.reset(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* const context = read->context.get();
  if (context == nullptr) return absl::InternalError("OpenSSL does not start");
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  absl::Status status =
      OfOption(kCert, UseChain(read->cert_pem, files_.cert, context));
  if (status.ok()) {
    status = OfOption(kKey, UseKey(read->key_pem, files_, context));
  }
  if (status.ok() && !files_.client_ca.empty()) {
    status = OfOption(kClientCa, TrustClients(read->client_ca_pem,
                                              files_.client_ca, context));
  }
  if (!status.ok()) return status;
  const X509* const own = SSL_CTX_get0_certificate(context);
  read->not_before_unix_s = UnixSeconds(X509_get0_notBefore(own));
  read->not_after_unix_s = UnixSeconds(X509_get0_notAfter(own));
  return read;
}

std::shared_ptr<const Certificate> Certificates::Current() {
  look_.Maybe([this] { LookAgain(); });
  return Last();
}

std::shared_ptr<const Certificate> Certificates::Last() {
  MutexLock lock(mu_);
  return current_;
}

// The stamps are taken first: what is written meanwhile is seen next time. What
// could not be used is tried again at each look, and said once.
void Certificates::LookAgain() {
  SayIfOutOfDate(*Last());
  const Stamps stamps = StampsNow();
  if (stamps == stamps_) return;
  absl::StatusOr<std::shared_ptr<Certificate>> read = ReadAll();
  if (!read.ok()) {
    std::string trouble(read.status().message());
    if (trouble == trouble_) return;
    trouble_ = std::move(trouble);
    Say(absl::StrCat(trouble_, "; the last good certificate is still used"));
    return;
  }
  stamps_ = stamps;
  trouble_.clear();
  Say(absl::StrCat("new connections have the certificate that is now in ",
                   files_.cert));
  SayIfOpen();
  validity_ = Validity::kGood;
  SayIfOutOfDate(**read);
  MutexLock lock(mu_);
  (*read)->generation = current_->generation + 1;
  current_ = *std::move(read);
}

void Certificates::Say(const std::string& line) const {
  if (say_) say_("TLS: " + line);
}

void Certificates::SayIfOpen() const {
  struct stat info {};
  if (::stat(files_.key.c_str(), &info) != 0 || (info.st_mode & 07) == 0) {
    return;
  }
  Say(absl::StrCat("everybody on this machine may use the key ",
                   EscapeForTerminal(files_.key), "; chmod o= it"));
}

void Certificates::SayIfOutOfDate(const Certificate& certificate) {
  const std::int64_t now = clock_->UnixNanos() / 1'000'000'000;
  const std::int64_t end = certificate.not_after_unix_s;
  const Validity before = validity_;
  validity_ = now < certificate.not_before_unix_s ? Validity::kNotYet
              : now >= end                        ? Validity::kExpired
              : now >= end - kEndsSoonS           ? Validity::kEndsSoon
                                                  : Validity::kGood;
  if (validity_ == before || validity_ == Validity::kGood) return;
  const std::string its =
      absl::StrCat("the certificate in ", EscapeForTerminal(files_.cert));
  if (validity_ == Validity::kNotYet) {
    return Say(absl::StrCat(its, " is not valid before ",
                            TimeText(certificate.not_before_unix_s),
                            ": clients refuse it; is the clock right?"));
  }
  Say(absl::StrCat(
      its,
      validity_ == Validity::kExpired ? " has expired, at " : " expires at ",
      TimeText(end),
      validity_ == Validity::kExpired ? ": clients refuse it; " : "; ",
      "replace the files of --tls-cert and --tls-key: they are read again by "
      "themselves"));
}

}  // namespace gradtap::server
