// A token as its owner keeps it: in a file of its own.
//
// Layer: core. Nothing here puts a token into a message.

#ifndef GRADTAP_CORE_BEARER_TOKEN_H_
#define GRADTAP_CORE_BEARER_TOKEN_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap {

// kInvalidArgument unless it can stand in a header: 1 to 4,096 characters of
// ASCII, printable, no blank among them.
absl::Status CheckBearerToken(std::string_view token_untrusted);

// What is in the file, without blanks and line ends around it.
// kInvalidArgument names the file, and why it cannot be used.
absl::StatusOr<std::string> ReadBearerToken(const std::string& path);

// `text` for people, with "..." for the secret part of each word in it that has
// the form of a collector's tokens (server/auth/token.h), whatever stands
// around it; their ids stay. Logs have what is said of a token given in a wrong
// place.
std::string MaskTokens(std::string_view text);

}  // namespace gradtap

#endif  // GRADTAP_CORE_BEARER_TOKEN_H_
