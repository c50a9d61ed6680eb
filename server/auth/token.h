// Tokens: how one is made, and what is kept of it.
//
// A token is 256 random bits with a name of its own before them:
//   gradtap_3f9a0c1d_PEd0...   "gradtap_", its id in hex, "_", base64url
// Kept is its SHA-256. Nothing slower is needed, and no salt: what is hashed
// cannot be guessed, as passwords can.
//
// The file, text, a line each:
//   # comment
//   id=3f9a0c1d role=write,read runs=vision- created=1764444444
//       expires=0 sha256=HEX name=cluster-a        (in one line)
// runs: a prefix of run names, or nothing: all. Times are Unix seconds; expires
// 0: never. All keys, each once, in any order; a key that is not known makes
// the file invalid, as it might be a limit. The last line has an end, and a
// file without a token begins with "# gradtap tokens": else it has been cut
// off, or is being written. Existing meanings never change.
//
// Layer: server/auth. This file: std, absl, core, libcrypto.

#ifndef GRADTAP_SERVER_AUTH_TOKEN_H_
#define GRADTAP_SERVER_AUTH_TOKEN_H_

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/auth/rights.h"

namespace gradtap::server {

using TokenHash = std::array<unsigned char, 32>;

struct TokenEntry {
  std::string id;    // Eight hex digits.
  std::string name;  // [A-Za-z0-9._-]{1,128}: whose it is.
  Rights rights;
  std::string runs;  // What its runs' names begin with; empty: all.
  std::int64_t created_unix_s = 0;
  std::int64_t expires_unix_s = 0;  // 0: never.
  TokenHash hash{};
};

// A token as its owner gets it. Random, from the system; kInternal if that has
// none.
absl::StatusOr<std::string> MakeToken();

// "3f9a0c1d" of a token; empty: it has not the form of one.
std::string_view IdOf(std::string_view token_untrusted);

TokenHash HashOf(std::string_view token);
// Takes as long wherever they differ.
bool SameHash(const TokenHash& a, const TokenHash& b);

// kDataLoss names the line that is wrong, never what stands in it, or says that
// the file is not whole.
absl::StatusOr<std::vector<TokenEntry>> ParseTokens(std::string_view text);
std::string FormatTokens(const std::vector<TokenEntry>& entries);

}  // namespace gradtap::server

#endif  // GRADTAP_SERVER_AUTH_TOKEN_H_
