// Messages as JSON: the protobuf JSON mapping.
//
// Field names in lowerCamelCase, fields with their default value printed too,
// 64-bit integers as strings, bytes in base64, NaN and infinities as the
// strings "NaN", "Infinity" and "-Infinity"; -0 as -0.0, since some readers
// take -0 for the integer 0.
//
// Layer: proto. This file: std, absl, protobuf. Pure functions; any thread may
// call them.

#ifndef GRADTAP_PROTO_TEXT_JSON_MAPPING_H_
#define GRADTAP_PROTO_TEXT_JSON_MAPPING_H_

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace gradtap {

enum class JsonLayout {
  kPretty,   // Indented, for people and files.
  kOneLine,  // For streams of objects.
};

// The message, and a line end.
absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message,
                                   JsonLayout layout);

// Reads what ToJson() writes; field names may be the .proto file's, too.
// kInvalidArgument says what is wrong.
absl::Status FromJson(std::string_view json,
                      google::protobuf::Message* message);

}  // namespace gradtap

#endif  // GRADTAP_PROTO_TEXT_JSON_MAPPING_H_
