// The file of tokens (token.h has its grammar): read by the collector, written
// by `gradtapd token`.
//
// Layer: server/auth. This file: std, absl, POSIX.

#ifndef GRADTAP_SERVER_AUTH_TOKEN_FILE_H_
#define GRADTAP_SERVER_AUTH_TOKEN_FILE_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/auth/token.h"

namespace gradtap::server {

// Where it is unless told: "tokens" in the data folder.
std::string TokenFileIn(const std::string& data_dir);

// kNotFound: it cannot be read; kFailedPrecondition: others than its owner may
// write it, or others than its owner and group read it; kDataLoss: a line is
// wrong. Each names the file.
absl::StatusOr<std::vector<TokenEntry>> ReadTokenFile(const std::string& path);

// Lets `change` have what is in it (nothing, if it is not there), and writes
// what that leaves, synced, with mode 0600; a reader sees the old one or the
// new. Root gives it to the owner of the file that was there, else of the
// folder. One writer at a time: kAborted if there is another. Makes the folder
// (0700) if it is not there. Errors are also those of ReadTokenFile() and of
// `change`; then all is as it was.
absl::Status ChangeTokenFile(
    const std::string& path,
    const std::function<absl::Status(std::vector<TokenEntry>*)>& change);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_TOKEN_FILE_H_
