// The files that TLS needs, as they are now.
//
// Layer: agent/delivery. This file: std, absl; no grpc.

#ifndef GRADTAP_AGENT_DELIVERY_TLS_FILES_H_
#define GRADTAP_AGENT_DELIVERY_TLS_FILES_H_

#include <string>

#include "absl/status/statusor.h"

namespace gradtap::agent {

// Paths of PEM files; empty: none.
struct TlsFileNames {
  std::string ca;  // None: the system's roots.
  std::string cert, key;

  bool empty() const { return ca.empty() && cert.empty() && key.empty(); }
};

struct TlsFiles {
  std::string ca_pem, cert_pem, key_pem;
};

// What is in them; kInvalidArgument names one that cannot be read, is no
// regular file, is larger than 1 MiB, or is not PEM. Waits for the disk alone.
absl::StatusOr<TlsFiles> ReadTlsFiles(const TlsFileNames& names);

}  // namespace gradtap::agent

#endif  // GRADTAP_AGENT_DELIVERY_TLS_FILES_H_
