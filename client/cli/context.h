// What a command gets: its surroundings, the global options, and one way to
// write each kind of answer.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_CONTEXT_H_
#define GRADTAP_CLIENT_CLI_CONTEXT_H_

#include <google/protobuf/message.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/output.h"
#include "client/cli/table.h"
#include "client/rpc/query_channel.h"
#include "core/clock.h"
#include "core/csv.h"

namespace gradtap::client {

enum class Format { kTable, kJson, kCsv };

struct WindowSize {
  std::size_t columns = 80;
  std::size_t rows = 24;
};

// The process around a command, or a test's stand-in. All must outlive it.
struct Io {
  Output& out;
  Output& err;
  const Clock& clock;
  // Set by SIGINT and SIGTERM once catch_interrupts() was called; until then
  // they end the process.
  const std::atomic<bool>& interrupted;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  bool in_is_terminal = false;
  // The locale's text is UTF-8.
  bool utf8 = false;
  std::function<void()> catch_interrupts = [] {};
  // Of standard output; asked anew before each redraw.
  std::function<WindowSize()> window = [] { return WindowSize(); };
  // A line of standard input without its end; nullopt at the end of it.
  std::function<std::optional<std::string>()> read_line = [] {
    return std::optional<std::string>();
  };
  // getenv.
  std::function<std::optional<std::string>(const char* name)> env =
      [](const char*) { return std::optional<std::string>(); };
  // Of all that env() has.
  std::function<std::vector<std::string>()> env_names = [] {
    return std::vector<std::string>();
  };
};

struct GlobalOptions {
  std::string collector;
  bool tls = false;
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string token;
  std::optional<std::chrono::milliseconds> timeout;
  Format format = Format::kTable;
  bool spreadsheet = false;
};

class Context {
 public:
  Context(const GlobalOptions& options, Io& io) : options_(options), io_(io) {}

  Io& io() { return io_; }
  Format format() const { return options_.format; }

  // Checks the request's text (CheckText()), then dials.
  absl::StatusOr<std::unique_ptr<QueryChannel>> Connect(
      const google::protobuf::Message& request) const;

  // Where and how the collector is reached.
  ChannelOptions channel_options() const;

  TableStyle table_style() const;
  CsvOptions csv_options() const;

  // Each is OK, or says that standard output takes no more: kCancelled if its
  // reader has gone, which is no error of ours.
  absl::Status Write(std::string_view text);
  absl::Status WriteJson(const google::protobuf::Message& message);
  absl::Status Flush();

  // A line on standard error: "gradtap: ...". Escaped.
  void Note(std::string_view message);

  bool interrupted() const { return io_.interrupted.load(); }

 private:
  absl::Status WriteStatus() const;

  const GlobalOptions& options_;
  Io& io_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_CONTEXT_H_
