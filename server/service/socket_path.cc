#include "server/service/socket_path.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"

namespace gradtap::server {
namespace {

constexpr char kHead[] = "unix:";

std::string Shown(const std::string& path) {
  return EscapeForTerminal(path.substr(0, 200));
}

}  // namespace

absl::StatusOr<std::string> ParseSocketPath(const std::string& text) {
  const std::string path =
      absl::StartsWith(text, kHead) ? text.substr(strlen(kHead)) : "";
  constexpr std::size_t kMostBytes = sizeof(sockaddr_un::sun_path) - 1;
  const bool good =
      path.starts_with('/') && !path.ends_with('/') &&
      path.size() <= kMostBytes &&
      path.find_first_of(std::string("\0%?#", 4)) == std::string::npos;
  if (good) return path;
  return absl::InvalidArgumentError(absl::StrCat(
      "'", Shown(text), "' is no socket; give unix:/FOLDER/NAME, at most ",
      kMostBytes, " bytes after 'unix:', without % ? #"));
}

absl::Status PrepareSocketFolder(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make ", Shown(folder), ": ", std::strerror(errno)));
  }
  struct stat info {};
  // A link is whoever's may make another one.
  if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        Shown(folder), " is no folder (a link to one is none, either)"));
  }
  if (info.st_uid != ::geteuid() || (info.st_mode & 077) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "others may enter ", Shown(folder),
        ", and so connect to a socket in it; choose a folder that is the "
        "collector's alone, or chmod 700 it"));
  }
  if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
    return absl::FailedPreconditionError(absl::StrCat(
        Shown(path), " is there already, and is no socket; choose another"));
  }
  return absl::OkStatus();
}

}  // namespace gradtap::server
