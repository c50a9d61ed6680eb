#include "client/cli/export_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::client {

ExportFile::~ExportFile() {
  if (fd_ < 0) return;
  file_.reset();
  ::close(fd_);
  ::unlink(Part().c_str());
}

absl::Status ExportFile::Open() {
  if (ToStandardOutput()) return absl::OkStatus();
  fd_ = ::open(Part().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) return Failed("create", errno);
  file_.emplace(fd_);
  return absl::OkStatus();
}

absl::Status ExportFile::Write(std::string_view text) {
  if (ToStandardOutput()) return context_.Write(text);
  return file_->Write(text) ? absl::OkStatus()
                            : Failed("write", file_->error());
}

absl::Status ExportFile::Finish() {
  if (ToStandardOutput()) return context_.Flush();
  if (!file_->Flush()) return Failed("write", file_->error());
  const int fd = std::exchange(fd_, -1);
  if (::close(fd) != 0) return Failed("write", errno);
  if (::rename(Part().c_str(), path_.c_str()) != 0) {
    return Failed("create", errno);
  }
  return absl::OkStatus();
}

absl::Status ExportFile::Failed(const char* what, int error) const {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot ", what, " '", path_, "': ", std::strerror(error)));
}

}  // namespace gradtap::client
