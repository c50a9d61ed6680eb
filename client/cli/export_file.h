// Where an export goes.
//
// Layer: client/cli.

#ifndef GRADTAP_CLIENT_CLI_EXPORT_FILE_H_
#define GRADTAP_CLIENT_CLI_EXPORT_FILE_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "client/cli/context.h"
#include "client/cli/output.h"

namespace gradtap::client {

// Standard output, or a file that has its name only once it is complete.
class ExportFile {
 public:
  // "-": standard output.
  ExportFile(Context& context, std::string path)
      : context_(context), path_(std::move(path)) {}
  // What is not complete is removed.
  ~ExportFile();
  ExportFile(const ExportFile&) = delete;
  ExportFile& operator=(const ExportFile&) = delete;

  // Each is OK or says what cannot be written, and why.
  absl::Status Open();
  absl::Status Write(std::string_view text);
  // Everything was written.
  absl::Status Finish();

  bool ToStandardOutput() const { return path_ == "-"; }

 private:
  std::string Part() const { return path_ + ".part"; }
  absl::Status Failed(const char* what, int error) const;

  Context& context_;
  const std::string path_;
  int fd_ = -1;
  std::optional<FdOutput> file_;
};

}  // namespace gradtap::client

#endif  // GRADTAP_CLIENT_CLI_EXPORT_FILE_H_
