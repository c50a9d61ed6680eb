#include "server/auth/file_stamp.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {

FileStamp StampOf(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  FileStamp stamp;
  stamp.device = info.st_dev;
  stamp.inode = info.st_ino;
  stamp.bytes = static_cast<std::uint64_t>(info.st_size);
  stamp.modified_ns =
      std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  stamp.mode = info.st_mode;
  stamp.changed_ns =
      std::int64_t{info.st_ctim.tv_sec} * 1'000'000'000 + info.st_ctim.tv_nsec;
  return stamp;
}

bool IsThere(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 || errno != ENOENT;
}

absl::StatusOr<std::string> ReadSmall(const std::string& path,
                                      std::size_t max_bytes) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::string text(max_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad() || (in.fail() && !in.eof())) {
    return absl::NotFoundError(absl::StrCat(
        "cannot read ", EscapeForTerminal(path), ": ", std::strerror(errno)));
  }
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > max_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(EscapeForTerminal(path), " has more than ", max_bytes,
                     " bytes: is it the right file?"));
  }
  return text;
}

}  // namespace gradtap::server
