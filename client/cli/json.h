// Answers as JSON: the protobuf JSON mapping.
//
// Field names in lowerCamelCase, fields with their default value printed too,
// 64-bit integers as strings, bytes in base64, NaN and infinities as the
// strings "NaN", "Infinity" and "-Infinity"; -0 as -0.0, since some readers
// take -0 for the integer 0.
//
// Layer: client/cli. Pure functions; any thread may call them.

#ifndef GRADTAP_CLIENT_CLI_JSON_H_
#define GRADTAP_CLIENT_CLI_JSON_H_

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace gradtap::client {

enum class JsonLayout {
  kPretty,   // Indented, for people and files.
  kOneLine,  // For streams of objects.
};

// The message, and a line end.
absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message,
                                   JsonLayout layout);

// The text as a JSON string, in quotes. Control characters, DEL and C1 are
// escaped; the rest stays as it is.
std::string JsonString(std::string_view text);

// A number, or one of the strings that stand for what JSON cannot write.
std::string JsonNumber(double value);

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_JSON_H_
