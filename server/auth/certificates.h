// The collector's certificate and key, and whose clients' certificates it
// takes: read from files, and read again when they change.
//
// A pair that does not fit (one file has been replaced and the other not yet)
// is passed over: the last good one goes on until the next look, a second
// later. So new connections have the new certificate within about a second, and
// those that there are go on with the one that they began with.
//
// One that is out of date is served all the same: whoever connects refuses it.
// That it is, or is going to be within two weeks, is said once.
//
// Layer: server/auth. This file: std, absl; OpenSSL's types by name only.

#ifndef GRADTAP_SERVER_AUTH_CERTIFICATES_H_
#define GRADTAP_SERVER_AUTH_CERTIFICATES_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "core/clock.h"
#include "core/sync.h"
#include "server/auth/file_stamp.h"

struct ssl_ctx_st;

namespace gradtap::server {

// All PEM.
struct CertificateFiles {
  std::string cert;       // With what is between it and the authority after it.
  std::string key;        // Without a passphrase.
  std::string client_ca;  // Empty: clients need no certificate.

  bool empty() const { return cert.empty() && key.empty(); }
};

// One generation of them. Immutable.
struct Certificate {
  std::string cert_pem, key_pem, client_ca_pem;
  std::uint64_t generation = 0;  // Of this process; the first is 1.
  // Of the collector's own, not of what is between it and its authority.
  std::int64_t not_before_unix_s = 0;
  std::int64_t not_after_unix_s = 0;
  // The same for OpenSSL: TLS 1.2 or newer, no resumption.
  std::shared_ptr<ssl_ctx_st> context;
};

// Thread-safe.
class Certificates {
 public:
  // kFailedPrecondition names the option and its file that cannot be used, and
  // why: another file may be there soon. `say` gets a line for each generation,
  // for each that could not be used, and for one that is out of date.
  static absl::StatusOr<std::unique_ptr<Certificates>> Read(
      const CertificateFiles& files, const Clock* clock,
      std::function<void(const std::string&)> say);

  // Looks at the files if nobody has for a second; else waits for nothing.
  std::shared_ptr<const Certificate> Current() ABSL_LOCKS_EXCLUDED(mu_);

  bool wants_client_certificates() const { return !files_.client_ca.empty(); }

 private:
  struct Stamps {
    FileStamp cert, key, client_ca;
    bool operator==(const Stamps&) const = default;
  };

  Certificates(const CertificateFiles& files, const Clock* clock,
               std::function<void(const std::string&)> say);

  Stamps StampsNow() const;
  absl::StatusOr<std::shared_ptr<Certificate>> ReadAll() const;
  // Of the current one's dates.
  enum class Validity { kGood, kNotYet, kEndsSoon, kExpired };

  std::shared_ptr<const Certificate> Last() ABSL_LOCKS_EXCLUDED(mu_);
  void LookAgain() ABSL_LOCKS_EXCLUDED(mu_);
  void Say(const std::string& line) const;
  // That others may read the key.
  void SayIfOpen() const;
  // That clients refuse it, or will soon; of each certificate once.
  void SayIfOutOfDate(const Certificate& certificate);

  const CertificateFiles files_;
  const Clock* const clock_;
  const std::function<void(const std::string&)> say_;
  NowAndThen look_;
  // Of look_ alone.
  Stamps stamps_;        // Of the files that the current one is from.
  std::string trouble_;  // The last one that was said.
  Validity validity_ = Validity::kGood;  // The last that was said, or good.

  Mutex mu_;
  std::shared_ptr<const Certificate> current_ ABSL_GUARDED_BY(mu_);
};

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_CERTIFICATES_H_
