#include "proto/text/json_mapping.h"

#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_cat.h"
#include "proto/text/json_writer.h"

namespace gradtap {
namespace {

// Outside strings: a number that is "-0" becomes "-0.0".
std::string KeepNegativeZero(const std::string& json) {
  std::string out;
  out.reserve(json.size() + 16);
  bool in_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    out += c;
    if (in_string) {
      if (c == '\\' && i + 1 < json.size()) {
        out += json[++i];
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '0' && i > 0 && json[i - 1] == '-' &&
               (i + 1 == json.size() ||
                std::string_view("0123456789.eE").find(json[i + 1]) ==
                    std::string_view::npos)) {
      // "1e-0" does not occur: exponents have no zero alone.
      out += ".0";
    }
  }
  return out;
}

}  // namespace

absl::StatusOr<std::string> ToJson(const google::protobuf::Message& message,
                                   JsonLayout layout) {
  std::string json;
  if (layout == JsonLayout::kOneLine) {
    WriteJson(message, [&json](std::string_view piece) {
      json += piece;
      return true;
    });
    return json;
  }
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) {
    return absl::InternalError(absl::StrCat(
        "the answer cannot be written as JSON: ",
        std::string(status.message().data(), status.message().size())));
  }
  if (json.empty() || json.back() != '\n') json += '\n';
  return KeepNegativeZero(json);
}

absl::Status FromJson(std::string_view json,
                      google::protobuf::Message* message) {
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), message);
  if (status.ok()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "not the JSON of a ", message->GetDescriptor()->name(), ": ",
      std::string(status.message().data(), status.message().size())));
}

}  // namespace gradtap
