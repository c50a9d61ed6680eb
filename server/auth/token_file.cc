#include "server/auth/token_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "server/auth/file_stamp.h"

namespace gradtap::server {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 20;
// Others may not write it, nor strangers read it. A group may: that is how
// secrets are mounted into containers.
constexpr std::uint32_t kForbidden = S_IWGRP | S_IRWXO;

std::string Shown(const std::string& path) { return EscapeForTerminal(path); }

absl::Status Failed(const std::string& what, const std::string& path) {
  return absl::UnavailableError(absl::StrCat("cannot ", what, " ", Shown(path),
                                             ": ", std::strerror(errno)));
}

absl::Status WriteAll(int fd, const std::string& path,
                      const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Failed("write", path);
    done += static_cast<std::size_t>(n);
  }
  return ::fsync(fd) == 0 ? absl::OkStatus() : Failed("sync", path);
}

// Made if it is not there.
absl::StatusOr<std::string> FolderOf(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path folder = fs::absolute(path, error).parent_path();
  if (fs::exists(folder, error)) return folder.string();
  fs::create_directories(folder, error);
  if (!error) fs::permissions(folder, fs::perms::owner_all, error);
  if (!error) return folder.string();
  return absl::UnavailableError(absl::StrCat(
      "cannot make ", Shown(folder.string()), ": ", error.message()));
}

// Root makes it for the collector, which runs as a user of its own: it gets the
// owner of the file that it replaces, else that of the folder.
absl::Status GiveToItsReader(int fd, const std::string& fresh,
                             const std::string& path,
                             const std::string& folder) {
  struct stat is {};
  if (::geteuid() != 0 ||
      (::stat(path.c_str(), &is) != 0 && ::stat(folder.c_str(), &is) != 0) ||
      ::fchown(fd, is.st_uid, is.st_gid) == 0) {
    return absl::OkStatus();
  }
  return Failed("give its owner to", fresh);
}

void Sync(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

std::string TokenFileIn(const std::string& data_dir) {
  return absl::StrCat(data_dir, "/tokens");
}

absl::StatusOr<std::vector<TokenEntry>> ReadTokenFile(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadSmall(path, kMaxFileBytes);
  if (!text.ok()) return text.status();
  if ((StampOf(path).mode & kForbidden) != 0) {
    return absl::FailedPreconditionError(absl::StrCat(
        "others may use the file of tokens ", Shown(path), "; chmod 600 it"));
  }
  absl::StatusOr<std::vector<TokenEntry>> entries = ParseTokens(*text);
  if (entries.ok()) return entries;
  return absl::DataLossError(
      absl::StrCat(Shown(path), ": ", entries.status().message()));
}

absl::Status ChangeTokenFile(
    const std::string& path,
    const std::function<absl::Status(std::vector<TokenEntry>*)>& change) {
  const absl::StatusOr<std::string> folder = FolderOf(path);
  if (!folder.ok()) return folder.status();
  const std::string fresh = path + ".new";
  const int fd =
      ::open(fresh.c_str(),
             O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0 && errno == EEXIST) {
    return absl::AbortedError(absl::StrCat(
        Shown(fresh),
        " is there: another `gradtapd token` is at work; if there is none, "
        "one was killed: remove that file"));
  }
  if (fd < 0) return Failed("make", fresh);
  absl::StatusOr<std::vector<TokenEntry>> entries = std::vector<TokenEntry>();
  if (StampOf(path) != FileStamp()) entries = ReadTokenFile(path);
  absl::Status status = entries.ok() ? change(&*entries) : entries.status();
  if (status.ok()) status = GiveToItsReader(fd, fresh, path, *folder);
  if (status.ok()) status = WriteAll(fd, fresh, FormatTokens(*entries));
  ::close(fd);
  if (status.ok() && ::rename(fresh.c_str(), path.c_str()) != 0) {
    status = Failed("replace", path);
  }
  if (!status.ok()) {
    ::unlink(fresh.c_str());
    return status;
  }
  Sync(*folder);
  return absl::OkStatus();
}

}  // namespace gradtap::server
