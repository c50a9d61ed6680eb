#include "client/cli/context.h"

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "core/bearer_token.h"
#include "core/names.h"
#include "proto/text/json_mapping.h"

namespace gradtap::client {

absl::StatusOr<std::unique_ptr<QueryChannel>> Context::Connect(
    const google::protobuf::Message& request) const {
  absl::Status checked = CheckText(request);
  if (!checked.ok()) return checked;
  return QueryChannel::Connect(channel_options());
}

ChannelOptions Context::channel_options() const {
  ChannelOptions options;
  options.collector = options_.collector;
  options.tls = options_.tls;
  options.tls_ca_file = options_.tls_ca_file;
  options.tls_cert_file = options_.tls_cert_file;
  options.tls_key_file = options_.tls_key_file;
  options.token = options_.token;
  if (options_.timeout) {
    options.connect_deadline = *options_.timeout;
    options.deadline = *options_.timeout;
    options.long_deadline = *options_.timeout;
  }
  return options;
}

TableStyle Context::table_style() const {
  TableStyle style;
  style.utf8 = io_.utf8;
  if (!io_.out_is_terminal) return style;
  const std::string no_color = io_.env("NO_COLOR").value_or("");
  const std::string term = io_.env("TERM").value_or("");
  style.colour = no_color.empty() && term != "dumb" && !term.empty();
  style.width = io_.window().columns;
  return style;
}

CsvOptions Context::csv_options() const {
  CsvOptions options;
  options.spreadsheet = options_.spreadsheet;
  options.escape = io_.out_is_terminal;
  return options;
}

absl::Status Context::WriteStatus() const {
  const int error = io_.out.error();
  if (error == EPIPE) {
    return absl::CancelledError("the reader of standard output has gone");
  }
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write to standard output: ", std::strerror(error)));
}

absl::Status Context::Write(std::string_view text) {
  return io_.out.Write(text) ? absl::OkStatus() : WriteStatus();
}

absl::Status Context::Flush() {
  return io_.out.Flush() ? absl::OkStatus() : WriteStatus();
}

absl::Status Context::WriteJson(const google::protobuf::Message& message) {
  absl::StatusOr<std::string> json = ToJson(message, JsonLayout::kPretty);
  return json.ok() ? Write(*json) : json.status();
}

void Context::Note(std::string_view message) {
  io_.out.Flush();
  io_.err.Write(
      absl::StrCat("gradtap: ", EscapeForTerminal(MaskTokens(message)), "\n"));
  io_.err.Flush();
}

}  // namespace gradtap::client
