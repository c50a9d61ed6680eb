#include "agent/spool/owned_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

// By file: the process that owns it. After a fork the child has its parent's
// entries, which say nothing of the child.
struct Owned {
  Mutex mu;
  std::map<std::pair<dev_t, ino_t>, pid_t> files ABSL_GUARDED_BY(mu);

  bool Has(const struct stat& about) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    const auto it = files.find({about.st_dev, about.st_ino});
    return it != files.end() && it->second == ::getpid();
  }
};
Owned& OwnedHere() {
  static Owned* const owned = new Owned;
  return *owned;
}

absl::Status Refused(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat(Shown(path), " ", std::string(why)));
}

constexpr char kOwnerPayload[] = "gradtap/owner";

absl::Status InUse(const std::string& path, std::int64_t pid) {
  absl::Status status = Refused(
      path, pid == ::getpid() ? std::string("is in use by this process itself")
            : pid > 0         ? absl::StrCat("is in use by process ", pid)
                              : std::string("is in use by another process"));
  status.SetPayload(kOwnerPayload, absl::Cord(absl::StrCat(pid)));
  return status;
}

// kFailedPrecondition with the owner, if there is one.
absl::Status LockFile(int fd, OwnedFile::Lock lock, const std::string& path) {
  const bool shared = lock == OwnedFile::Lock::kShared;
  struct flock wanted {};
  wanted.l_type = static_cast<short>(shared ? F_RDLCK : F_WRLCK);
  wanted.l_whence = SEEK_SET;
  if (::fcntl(fd, F_SETLK, &wanted) == 0) return absl::OkStatus();
  if (errno != EACCES && errno != EAGAIN) {
    // No locks there, as on some network file systems.
    if (shared) return absl::OkStatus();
    return FileError(path, "cannot be locked", errno);
  }
  struct flock held = wanted;
  const bool known = ::fcntl(fd, F_GETLK, &held) == 0 &&
                     held.l_type != F_UNLCK && held.l_pid > 0;
  return InUse(path, known ? held.l_pid : 0);
}

}  // namespace

std::optional<std::int64_t> LiveOwner(const absl::Status& status) {
  const auto payload = status.GetPayload(kOwnerPayload);
  std::int64_t pid = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &pid)) {
    return std::nullopt;
  }
  return pid;
}

std::string Shown(const std::string& path) {
  return absl::StrCat("'", EscapeForTerminal(path), "'");
}

absl::Status FileError(const std::string& path, std::string_view what,
                       int error) {
  const std::string message = absl::StrCat(Shown(path), ": ", std::string(what),
                                           ": ", std::strerror(error));
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    default:
      return absl::UnavailableError(message);
  }
}

absl::StatusOr<int> OpenFolder(int at, const std::string& name,
                               const std::string& path, Syscalls* syscalls) {
  const int fd = syscalls->OpenAt(at, name.c_str(), O_RDONLY | O_DIRECTORY, 0);
  if (fd >= 0) return fd;
  struct stat about {};
  const bool link =
      ::fstatat(at, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 &&
      S_ISLNK(about.st_mode);
  if (link) {
    return Refused(path, "is a symbolic link: name the folder itself");
  }
  if (fd == -ENOENT) {
    return absl::NotFoundError(absl::StrCat("no folder ", Shown(path)));
  }
  return FileError(path, "cannot be opened", -fd);
}

absl::Status CheckPrivate(const std::string& path, int fd) {
  struct stat about {};
  if (::fstat(fd, &about) != 0) return FileError(path, "fstat", errno);
  if (about.st_uid != ::geteuid()) {
    return Refused(path, absl::StrCat("is of user ", about.st_uid,
                                      " and this is user ", ::geteuid(),
                                      ": run this as its user, or import a "
                                      "copy of it"));
  }
  if ((about.st_mode & 077) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof(mode), "%04o", about.st_mode & 07777);
    return Refused(
        path, absl::StrCat("has mode ", mode, ", so that others may reach it; ",
                           S_ISDIR(about.st_mode) ? "0700" : "0600",
                           " is expected: look at what is in it, then chmod"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> NamesIn(
    int folder, const std::string& path, Syscalls* syscalls,
    const std::function<bool(std::string_view)>& fits) {
  const int fd = syscalls->OpenAt(folder, ".", O_RDONLY | O_DIRECTORY, 0);
  if (fd < 0) return FileError(path, "cannot be read", -fd);
  DIR* const dir = ::fdopendir(fd);
  if (dir == nullptr) {
    const int error = errno;
    ::close(fd);
    return FileError(path, "cannot be read", error);
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir)) {
    if (fits(entry->d_name)) names.push_back(entry->d_name);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::unique_ptr<OwnedFile>> OwnedFile::Open(
    int folder, const std::string& name, int flags, Lock lock,
    const std::string& path, Syscalls* syscalls) {
  Owned& owned = OwnedHere();
  MutexLock guard(owned.mu);
  struct stat about {};
  if (::fstatat(folder, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0) {
    if (S_ISLNK(about.st_mode)) return Refused(path, "is a symbolic link");
    if (!S_ISREG(about.st_mode)) return Refused(path, "is no regular file");
    // To open and close it would end the lock.
    if (owned.Has(about)) return InUse(path, ::getpid());
  }
  const int fd =
      syscalls->OpenAt(folder, name.c_str(), flags | O_NONBLOCK, 0600);
  if (fd == -ENOENT) {
    return absl::NotFoundError(absl::StrCat("no file ", Shown(path)));
  }
  if (fd < 0) return FileError(path, "cannot be opened", -fd);
  absl::Status status;
  if (::fstat(fd, &about) != 0) {
    status = FileError(path, "fstat", errno);
  } else if (owned.Has(about)) {
    // Somebody has just given it this name: the descriptor stays, see above.
    return InUse(path, ::getpid());
  } else if (!S_ISREG(about.st_mode)) {
    status = Refused(path, "is no regular file");
  } else {
    status = LockFile(fd, lock, path);
  }
  // Whoever owned it until now may have deleted it.
  if (status.ok() && (::fstat(fd, &about) != 0 || about.st_nlink == 0)) {
    status = absl::NotFoundError(absl::StrCat("no file ", Shown(path)));
  }
  if (!status.ok()) {
    ::close(fd);
    return status;
  }
  owned.files[{about.st_dev, about.st_ino}] = ::getpid();
  return std::unique_ptr<OwnedFile>(
      new OwnedFile(fd, about.st_dev, about.st_ino));
}

OwnedFile::OwnedFile(int fd, dev_t device, ino_t inode)
    : fd_(fd), device_(device), inode_(inode), process_(::getpid()) {}

OwnedFile::~OwnedFile() {
  if (::getpid() != process_) return;
  Owned& owned = OwnedHere();
  MutexLock guard(owned.mu);
  ::close(fd_);
  owned.files.erase({device_, inode_});
}

bool OwnedFile::IsAt(int folder, const std::string& name) const {
  struct stat about {};
  return ::fstatat(folder, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) == 0 &&
         about.st_dev == device_ && about.st_ino == inode_;
}

}  // namespace gradtap::agent
