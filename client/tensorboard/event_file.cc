#include "client/tensorboard/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace gradtap::client {
namespace {

constexpr std::size_t kMuch = std::size_t{1} << 20;

absl::Status Failed(const char* what, const std::string& path,
                    const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot ", what, " '", path, "': ", why));
}

}  // namespace

absl::StatusOr<std::unique_ptr<EventFile>> EventFile::Create(
    const std::string& folder, std::int64_t time_unix_ns) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Failed("create", folder, error.message());
  const std::string path =
      absl::StrCat(folder, "/events.out.tfevents.",
                   time_unix_ns / 1'000'000'000, ".gradtap");
  const int fd =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return Failed("create", path, std::strerror(errno));
  std::unique_ptr<EventFile> file(new EventFile(path, fd));
  file->records_.AddFileVersion(time_unix_ns);
  return file;
}

EventFile::~EventFile() { ::close(fd_); }

absl::Status EventFile::WriteSome() {
  return records_.bytes().size() < kMuch ? absl::OkStatus() : Flush();
}

absl::Status EventFile::Flush() {
  std::string_view rest = records_.bytes();
  while (!rest.empty()) {
    const ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Failed("write", path_, std::strerror(errno));
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  records_.Clear();
  return absl::OkStatus();
}

}  // namespace gradtap::client
