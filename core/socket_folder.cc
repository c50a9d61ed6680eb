#include "core/socket_folder.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/peer_address.h"

namespace gradtap {
namespace {

constexpr uid_t kRoot = 0;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

// "/run" of "/run/gradtap"; "/" of "/run" and of "/".
std::string FolderOf(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == 0 ? "/" : std::string(path.substr(0, slash));
}

// Whether nobody but root can put something else where `folder` stands.
bool RootAlonePlaces(const std::string& folder) {
  for (std::size_t end = 1; end != std::string::npos;
       end = folder.find('/', end + 1)) {
    const std::string above = end == 1 ? "/" : folder.substr(0, end);
    struct stat of {};
    struct stat link {};
    if (::stat(above.c_str(), &of) != 0 || ::lstat(above.c_str(), &link) != 0 ||
        of.st_uid != kRoot || link.st_uid != kRoot ||
        (of.st_mode & kOthersWrite) != 0) {
      return false;
    }
  }
  return true;
}

}  // namespace

absl::Status CheckSocketFolder(std::string_view address, uid_t user) {
  if (!IsSocketAddress(address)) return absl::OkStatus();
  const std::string folder = FolderOf(address.substr(address.find('/')));
  struct stat of {};
  if (::stat(folder.c_str(), &of) != 0) {
    return absl::UnavailableError(
        absl::StrCat("the folder of the socket ", EscapeForTerminal(address),
                     " cannot be looked at: ", std::strerror(errno)));
  }
  const auto refused = [&](const std::string& why) {
    return absl::FailedPreconditionError(absl::StrCat(
        "a token is not sent to ", EscapeForTerminal(address), ": ", why,
        ", so that anybody's socket could be there; let the collector listen "
        "in a folder of mode 0700 that is its own, below /run for example"));
  };
  if ((of.st_mode & kOthersWrite) != 0) {
    return refused(absl::StrCat("others than its owner may write in '",
                                EscapeForTerminal(folder), "'"));
  }
  if (of.st_uid == user || of.st_uid == kRoot || RootAlonePlaces(folder)) {
    return absl::OkStatus();
  }
  return refused(
      absl::StrCat("'", EscapeForTerminal(folder), "' is of user ", of.st_uid,
                   ", and others than root could have put it there"));
}

}  // namespace gradtap
