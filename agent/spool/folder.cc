#include "agent/spool/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/names.h"
#include "core/sync.h"

namespace gradtap::agent {
namespace {

constexpr char kOwner[] = "owner";
constexpr std::size_t kSeqDigits = 20;
constexpr std::size_t kNonceDigits = 32;

std::string Shown(const std::string& path) {
  return absl::StrCat("'", EscapeForTerminal(path), "'");
}

bool IsNonceName(std::string_view name) {
  return name.size() == kNonceDigits &&
         name.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// A lock of fcntl's does not keep this process itself out, and is lost when any
// descriptor of the file is closed: this list does, and sees to it.
struct Owned {
  Mutex mu;
  std::set<std::pair<dev_t, ino_t>> folders ABSL_GUARDED_BY(mu);
};
Owned& OwnedHere() {
  static Owned* const owned = new Owned;
  return *owned;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::Status Refused(const std::string& path, std::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("the spool folder ", Shown(path), " ", std::string(why)));
}

// Makes the folders that are missing.
absl::Status MakeFolders(const std::string& path, Syscalls* syscalls) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string part = path.substr(0, at);
    if (at != std::string::npos) ++at;
    const int made = syscalls->MakeFolderAt(AT_FDCWD, part.c_str(), 0700);
    if (made < 0 && made != -EEXIST) {
      struct stat about {};
      // A parent that stands already may be in a read-only place.
      if (::stat(part.c_str(), &about) == 0 && S_ISDIR(about.st_mode)) continue;
      return FileError(part, "cannot be made", -made);
    }
  }
  return absl::OkStatus();
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

// That nobody else can read it or put something into it.
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
    return Refused(path,
                   absl::StrCat("has mode ", mode,
                                ", so that others may reach it; 0700 is "
                                "expected: look at what is in it, then chmod"));
  }
  return absl::OkStatus();
}

}  // namespace

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

absl::Status CheckLocalFileSystem(std::int64_t type) {
  static constexpr struct {
    std::int64_t type;
    const char* name;
  } kRemote[] = {
      {0x6969, "NFS"},          {0x517b, "SMB"},
      {0xff534d42, "CIFS"},     {0xfe534d42, "SMB2"},
      {0x65735546, "FUSE"},     {0x01021997, "9P"},
      {0x00c36400, "Ceph"},     {0x0bd00bd0, "Lustre"},
      {0x47504653, "GPFS"},     {0x19830326, "BeeGFS"},
      {0x5346414f, "AFS"},      {0x6b414653, "AFS"},
      {0x73757245, "Coda"},     {0x564c, "NCP"},
      {0x7461636f, "OCFS2"},    {0x01161970, "GFS2"},
      {0x20030528, "OrangeFS"}, {0x786f4256, "VirtualBox"},
      {0xaad7aaea, "PanFS"},
  };
  for (const auto& remote : kRemote) {
    if (remote.type == type) {
      return absl::FailedPreconditionError(absl::StrCat(
          "is on a network (or user-space) file system, ", remote.name,
          ", where locks and syncs cannot be relied on: name a folder on a "
          "local disk"));
    }
  }
  return absl::OkStatus();
}

std::string SegmentName(std::uint64_t first_seq, std::string_view suffix) {
  const std::string digits = absl::StrCat(first_seq);
  return absl::StrCat(std::string(kSeqDigits - digits.size(), '0'), digits, ".",
                      std::string(suffix));
}

absl::StatusOr<std::unique_ptr<SpoolFolder>> SpoolFolder::Create(
    const std::string& root, std::string_view nonce, Syscalls* syscalls) {
  if (root.empty() || root[0] != '/') {
    return absl::InvalidArgumentError(
        absl::StrCat("the spool folder ", Shown(root),
                     " is no absolute path: it begins with /"));
  }
  if (auto made = MakeFolders(root, syscalls); !made.ok()) return made;
  auto root_fd = OpenFolder(AT_FDCWD, root, root, syscalls);
  if (!root_fd.ok()) return root_fd.status();
  const Fd parent(*root_fd);
  const std::int64_t type = syscalls->FileSystemType(parent.get());
  if (type < 0) return FileError(root, "statfs", static_cast<int>(-type));
  if (auto local = CheckLocalFileSystem(type); !local.ok()) {
    return Refused(root, std::string(local.message()));
  }
  const std::string name = absl::BytesToHexString({nonce.data(), nonce.size()});
  const std::string path = absl::StrCat(root, "/", name);
  const std::string unowned = absl::StrCat(".", name, ".new");
  if (const int made =
          syscalls->MakeFolderAt(parent.get(), unowned.c_str(), 0700);
      made < 0) {
    return FileError(path, "cannot be made", -made);
  }
  auto fd = OpenFolder(parent.get(), unowned, path, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<SpoolFolder> folder(
      new SpoolFolder(path, *fd, SpoolUse::kTakeOver, syscalls));
  // The umask may have taken bits of ours; others got none.
  if (auto ours = CheckPrivate(path, *fd); !ours.ok()) return ours;
  if (auto locked = folder->Lock(); !locked.ok()) return locked;
  // Now that it is owned, others may see it.
  if (const int named =
          syscalls->RenameAt(parent.get(), unowned.c_str(), name.c_str());
      named < 0) {
    return FileError(path, "cannot be made", -named);
  }
  if (const int synced = syscalls->SyncFolder(parent.get()); synced < 0) {
    return FileError(root, "fsync", -synced);
  }
  return folder;
}

absl::StatusOr<std::unique_ptr<SpoolFolder>> SpoolFolder::Open(
    const std::string& path, SpoolUse use, Syscalls* syscalls) {
  auto fd = OpenFolder(AT_FDCWD, path, path, syscalls);
  if (!fd.ok()) return fd.status();
  std::unique_ptr<SpoolFolder> folder(
      new SpoolFolder(path, *fd, use, syscalls));
  if (use == SpoolUse::kTakeOver) {
    if (auto ours = CheckPrivate(path, *fd); !ours.ok()) return ours;
  }
  if (auto locked = folder->Lock(); !locked.ok()) return locked;
  return folder;
}

absl::Status SpoolFolder::Lock() {
  struct stat about {};
  if (::fstat(fd_, &about) != 0) return FileError(path_, "fstat", errno);
  const std::pair<dev_t, ino_t> key(about.st_dev, about.st_ino);
  {
    Owned& owned = OwnedHere();
    MutexLock lock(owned.mu);
    if (!owned.folders.insert(key).second) {
      return Refused(path_, "is in use by this process itself");
    }
    registered_ = about.st_ino;
  }
  const bool copy = use_ == SpoolUse::kCopy;
  lock_fd_ =
      syscalls_->OpenAt(fd_, kOwner, copy ? O_RDONLY : O_RDWR | O_CREAT, 0600);
  if (lock_fd_ < 0) {
    const int error = -std::exchange(lock_fd_, -1);
    // A copy need not have it, nor let us write.
    if (copy && (error == ENOENT || error == EACCES)) return absl::OkStatus();
    if (error == ELOOP) {
      return Refused(path_, "has a symbolic link in it, called owner");
    }
    return FileError(path_ + "/" + kOwner, "cannot be opened", error);
  }
  struct flock wanted {};
  wanted.l_type = static_cast<short>(copy ? F_RDLCK : F_WRLCK);
  wanted.l_whence = SEEK_SET;
  if (::fcntl(lock_fd_, F_SETLK, &wanted) == 0) return absl::OkStatus();
  if (errno != EACCES && errno != EAGAIN) {
    // No locks there, as on some network file systems: a copy needs none.
    if (copy) return absl::OkStatus();
    return FileError(path_ + "/" + kOwner, "cannot be locked", errno);
  }
  struct flock held = wanted;
  const bool known = ::fcntl(lock_fd_, F_GETLK, &held) == 0 &&
                     held.l_type != F_UNLCK && held.l_pid > 0;
  return Refused(path_, known
                            ? absl::StrCat("is in use by process ", held.l_pid)
                            : std::string("is in use by another process"));
}

SpoolFolder::~SpoolFolder() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
  struct stat about {};
  if (registered_ != 0 && ::fstat(fd_, &about) == 0) {
    Owned& owned = OwnedHere();
    MutexLock lock(owned.mu);
    owned.folders.erase({about.st_dev, about.st_ino});
  }
  ::close(fd_);
}

absl::StatusOr<std::vector<SpoolFolder::File>> SpoolFolder::List() const {
  const int again = syscalls_->OpenAt(fd_, ".", O_RDONLY | O_DIRECTORY, 0);
  if (again < 0) return FileError(path_, "cannot be read", -again);
  DIR* const dir = ::fdopendir(again);
  if (dir == nullptr) {
    const int error = errno;
    ::close(again);
    return FileError(path_, "cannot be read", error);
  }
  std::vector<File> files;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    File file;
    const bool fits =
        name.size() == kSeqDigits + 4 &&
        absl::SimpleAtoi(name.substr(0, kSeqDigits), &file.first_seq) &&
        file.first_seq > 0;
    if (!fits) continue;
    const std::string suffix = name.substr(kSeqDigits);
    if (suffix != ".seg" && suffix != ".bad") continue;
    file.name = name;
    file.bad = suffix == ".bad";
    files.push_back(std::move(file));
  }
  ::closedir(dir);
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) {
    return std::tie(a.first_seq, b.bad) < std::tie(b.first_seq, a.bad);
  });
  return files;
}

void SpoolFolder::RemoveIfEmpty() {
  if (use_ != SpoolUse::kTakeOver) return;
  const auto files = List();
  if (!files.ok() || !files->empty()) return;
  const int again = syscalls_->OpenAt(fd_, ".", O_RDONLY | O_DIRECTORY, 0);
  DIR* const dir = again < 0 ? nullptr : ::fdopendir(again);
  if (dir == nullptr) return;
  std::vector<std::string> unfinished;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (name.size() == kSeqDigits + 4 &&
        name.compare(kSeqDigits, 4, ".tmp") == 0) {
      unfinished.push_back(name);
    }
  }
  ::closedir(dir);
  for (const std::string& name : unfinished) {
    syscalls_->UnlinkAt(fd_, name.c_str());
  }
  syscalls_->UnlinkAt(fd_, kOwner);
  // Stays if there is anything else in it.
  ::rmdir(path_.c_str());
}

absl::StatusOr<std::vector<std::string>> FindSpools(const std::string& path) {
  auto fd = OpenFolder(AT_FDCWD, path, path, RealSyscalls());
  if (!fd.ok()) return fd.status();
  DIR* const dir = ::fdopendir(*fd);
  if (dir == nullptr) {
    const int error = errno;
    ::close(*fd);
    return FileError(path, "cannot be read", error);
  }
  std::vector<std::string> found;
  bool is_spool = false;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (IsNonceName(name)) found.push_back(absl::StrCat(path, "/", name));
    is_spool |= name.size() == kSeqDigits + 4 &&
                (name.compare(kSeqDigits, 4, ".seg") == 0 ||
                 name.compare(kSeqDigits, 4, ".bad") == 0);
  }
  ::closedir(dir);
  if (found.empty() && is_spool) found.push_back(path);
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace gradtap::agent
