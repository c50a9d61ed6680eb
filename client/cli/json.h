// Texts and numbers as JSON; messages are proto/json's.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_JSON_H_
#define GRADTAP_CLIENT_CLI_JSON_H_

#include <string>
#include <string_view>

namespace gradtap::client {

// The text as a JSON string, in quotes. Control characters, DEL and C1 are
// escaped; the rest stays as it is.
std::string JsonString(std::string_view text);

// A number, or one of the strings that stand for what JSON cannot write.
std::string JsonNumber(double value);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_JSON_H_
